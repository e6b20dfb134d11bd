"""What HTTP answers, for OpenAPI alone: answers leave as bytes, and a test holds real ones against these schemas."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from pydantic import BaseModel, Field

from feedwell.core.event import MAX_ID_BYTES
from feedwell.pipeline.cursor import MAX_PAGES
from feedwell.pipeline.path import MAX_AMONG, MAX_EXCLUDE, MAX_N, SURFACE
from feedwell.serving.bodies import MAX_CURSOR, MAX_ROWS, PROBLEMS_LISTED, REQUEST_ID, ErrorAnswer

_LARGEST = sys.float_info.max
MAX_NAMES = 10_000
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0, le=_LARGEST)]
Name = Annotated[str, Field(max_length=1000)]
Reason = Annotated[str, Field(max_length=10_000)]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES)]
RequestId = Annotated[str, Field(pattern=REQUEST_ID)]
Slot = Annotated[int, Field(ge=1, le=MAX_N * MAX_PAGES)]
Reasons = Annotated[list[Reason], Field(max_length=MAX_NAMES)]
Names = Annotated[list[Name], Field(max_length=MAX_NAMES)]
Numbers = Annotated[dict[Name, Number | None], Field(max_length=MAX_NAMES)]


class FeedItem(BaseModel):
    item_id: Id
    slot: Slot
    value: Number | None = Field(description="What the value function gives it; null: not scored.")


class SlotPrediction(BaseModel):
    prediction: Number | None
    weight: Number
    given: Name | None = Field(description="The objective that this one is modelled given.")


class ExplainedSlot(BaseModel):
    slot: Slot
    item_id: Name
    sources: Names = Field(description='Who brought it; "caller" for POST /v1/rank.')
    features: Numbers
    predictions: dict[Name, SlotPrediction] = Field(max_length=MAX_NAMES)
    value: Number | None
    utility: Number | None
    propensity: Share
    explored: bool
    retrieval_scores: Numbers | None = Field(None, description="Only with a trace.")


class NotShown(BaseModel):
    item_id: Name
    reason: Name


class Explanation(BaseModel):
    """Why these items, read from the record."""

    request_id: RequestId
    user_id: Id
    t: Count = Field(description="µs since 1970: what the request saw the world at.")
    surface: str = Field(pattern=SURFACE.pattern)
    release: Name
    assignments: dict[Name, Name] = Field(max_length=MAX_NAMES, description="experiment → arm")
    width: Share
    degraded: Reasons
    fallback: Name
    shown: bool = Field(description="false: ranked for a caller and not shown, so no exposure.")
    short: Reason
    relaxed: Names
    counts: dict[Name, Count] = Field(max_length=MAX_NAMES, description="Where every candidate went.")
    user_features: Numbers
    stage_ms: dict[Name, Milliseconds] = Field(max_length=MAX_NAMES)
    slots: list[ExplainedSlot] = Field(max_length=MAX_N)
    not_shown: list[NotShown] | None = Field(None, max_length=10_000_000, description="Only with a trace.")


class FeedAnswer(BaseModel):
    """A feed, best first."""

    request_id: RequestId = Field(description="Send it along with events on these items.")
    user_id: Id
    surface: str = Field(pattern=SURFACE.pattern)
    release: Name = Field(description="Empty before the first release.")
    items: list[FeedItem] = Field(max_length=MAX_N)
    cursor: str | None = Field(max_length=MAX_CURSOR, description="Of the next page; null: this is the last.")
    degraded: Reasons = Field(description="What was missing, and why; empty when nothing was.")
    fallback: Name = Field(description='The source that filled in; "empty": none had anything.')
    short: Reason = Field(description="Why there is less than asked for; empty when there is not.")
    unknown_excluded: list[Id] | None = Field(
        None,
        max_length=MAX_EXCLUDE,
        description="Excluded items that were never seen, where there are any. `exclude=a,b` is one id.",
    )
    explain: Explanation | None = Field(None, description="Only when asked for.")


class RankAnswer(FeedAnswer):
    """The caller's items, best first, without what filters dropped."""

    unknown: list[Id] = Field(max_length=MAX_AMONG, description="Items that were never seen: they are not ranked.")


class RowError(BaseModel):
    index: int = Field(ge=0, lt=MAX_ROWS)
    error: Reason


class AppendAnswer(BaseModel):
    """What became of the rows; the good ones are durable."""

    accepted: int = Field(ge=0, le=MAX_ROWS)
    duplicates: int = Field(ge=0, le=MAX_ROWS)
    errors: list[RowError] = Field(max_length=MAX_ROWS, description="Refused rows, by index; they are in quarantine.")
    idempotent: bool = Field(description="Whether the same body once more would change nothing.")
    unknown_types: dict[Name, Count] | None = Field(
        None, max_length=MAX_ROWS, description="Undeclared event types and their rows: stored, but read by nothing."
    )
    undeclared_columns: dict[Name, Count] | None = Field(
        None, max_length=PROBLEMS_LISTED, description="Undeclared columns and their rows: kept for display only."
    )


class RowsRefused(ErrorAnswer):
    """An error; and what became of each row, where the body had rows."""

    accepted: int | None = Field(None, ge=0, le=0)
    duplicates: int | None = Field(None, ge=0, le=0)
    errors: list[RowError] | None = Field(None, max_length=MAX_ROWS)
    idempotent: bool | None = None


class HealthAnswer(BaseModel):
    status: str = Field(pattern="^ok$")
    version: Name


class ReadyAnswer(BaseModel):
    """Whether it may get traffic, and what that rests on."""

    ready: bool
    release: Name
    state: Reason
    lag_events: int = Field(ge=-1, lt=2**53, description="Events that are not folded yet; -1: not known.")
    caught_up: bool
    warmed: bool
    restart_needed: bool
    projector_stalled: bool = Field(description="Events wait, and the online state has not moved for 10 s.")
    note: Reason


_TEXT = {"type": "string", "maxLength": 2**24}
METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus text", "content": {"text/plain": {"schema": _TEXT}}}
}


def answers(model: type[BaseModel], **others: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: 200 with `model`, and where it answers another status its own way, `s422=...`."""
    found: dict[int | str, dict[str, Any]] = {200: {"model": model, "description": _first_line(model)}}
    return found | {int(k[1:]): {"model": other, "description": _first_line(other)} for k, other in others.items()}


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "OK").partition("\n")[0]

"""What HTTP accepts, with a bound on every field. Rows of events and catalogs are checked by `data.contracts`.

`EventBody` describes an event for OpenAPI; the contract knows the project and decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, get_origin

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from feedwell.core.event import MAX_ID_BYTES, MAX_PAYLOAD_BYTES
from feedwell.data.contracts import MAX_TYPE_LENGTH
from feedwell.pipeline.path import MAX_AMONG, MAX_EXCLUDE, MAX_N, SURFACE

MAX_ROWS = 10_000
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_CURSOR = 8192
PROBLEMS_LISTED = 100
REQUEST_ID = r"^[0-9A-Za-z_-]{1,64}$"


def _fits(text: str) -> str:
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("an id must be valid Unicode: this one has a lone surrogate") from None
    if n_bytes > MAX_ID_BYTES:
        raise ValueError(f"an id has at most {MAX_ID_BYTES} bytes of UTF-8")
    return text


def _plain_context(context: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(orjson.dumps(context))
    except TypeError:
        raise ValueError("it is nested too deeply, or has text that is not valid Unicode") from None
    if size > MAX_PAYLOAD_BYTES:
        raise ValueError(f"it is larger than {MAX_PAYLOAD_BYTES} bytes")
    return context


def _whole(text: str) -> int:
    """A number as JSON writes it: `5.0`, `05`, ` 5` and `٥` are none. Nine digits hold every bound there is."""
    if not re.fullmatch(r"-?(0|[1-9][0-9]{0,8})", text):
        raise ValueError("a whole number in plain digits is expected, such as 5")
    return int(text)


def _flag(text: object) -> bool:
    if text not in ("true", "false"):
        raise ValueError("`true` or `false` is expected")
    return text == "true"


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES), AfterValidator(_fits)]
Time = Annotated[float, Field(ge=0, lt=2.0**62)]
Context = Annotated[
    dict[Annotated[str, Field(max_length=64)], Any], Field(max_length=64), AfterValidator(_plain_context)
]


class RecommendBody(BaseModel):
    """A wish for a feed. Read strictly: ids are strings, neither `true`, "3" nor NaN is a number; keys are unique."""

    model_config = ConfigDict(extra="forbid", strict=True)
    user_id: Id
    n: int | None = Field(None, ge=1, le=MAX_N, description="How many items; default: the slate's k.")
    surface: str = Field("default", pattern=SURFACE.pattern)
    exclude: list[Id] = Field(default_factory=list, max_length=MAX_EXCLUDE)
    cursor: str | None = Field(None, min_length=1, max_length=MAX_CURSOR, description="Of the page before.")
    explain: bool = False
    context: Context = Field(default_factory=dict)


class RankBody(RecommendBody):
    """One wish to rank what the caller brings, otherwise as a feed."""

    items: list[Id] = Field(
        max_length=MAX_AMONG, description="What to rank: item ids. Their order decides only where nothing else does."
    )
    ignore_filters: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=64, description='Filters of the project ("seen") that do not apply this once.'
    )
    shown: bool = Field(
        True, description="false: recorded and explained, but no exposure: it is not shown, or only later."
    )


class FeedQuery(BaseModel):
    """The same by query, as strictly: numbers in plain digits, `true` or `false`, no name that is not declared."""

    model_config = ConfigDict(extra="forbid", strict=True)
    n: Annotated[int | None, BeforeValidator(_whole)] = Field(None, ge=1, le=MAX_N)
    surface: str = Field("default", pattern=SURFACE.pattern)
    exclude: list[Id] = Field(default_factory=list, max_length=MAX_EXCLUDE)
    cursor: str | None = Field(None, min_length=1, max_length=MAX_CURSOR)
    explain: Annotated[bool, BeforeValidator(_flag)] = False


def require_once(query: Sequence[tuple[str, str]]) -> None:
    """RequestValidationError names what a FeedQuery takes one of and `query` has more of: the last would count."""
    once = {name for name, field in FeedQuery.model_fields.items() if get_origin(field.annotation) is not list}
    counts = Counter(name for name, _ in query if name in once)
    problems = [
        {"loc": ("query", name), "msg": f"it comes {n} times: send it once"} for name, n in counts.items() if n > 1
    ]
    if problems:
        raise RequestValidationError(problems)


class EventBody(BaseModel):
    """One event. Keys that name declared entities (`creator`, ...) may follow; their values are ids."""

    model_config = ConfigDict(extra="allow")
    type: Annotated[str, Field(min_length=1, max_length=MAX_TYPE_LENGTH, pattern=r"^[^$]")]
    user: Id
    item: Id | None = None
    event_id: Id | None = Field(None, description="With it a repeated event counts once.")
    ts: Time | Annotated[str, Field(max_length=40)] | None = Field(
        None, description="When it happened: s, ms or µs since 1970, or ISO 8601; default: now."
    )
    value: float | None = Field(None, gt=-(2.0**62), lt=2.0**62)
    unit: Id | None = None
    session: Id | None = None
    device: Id | None = None
    request_id: Id | None = None
    slot: int | None = Field(None, ge=0, lt=2**31)
    surface: Id | None = None
    context: Context = Field(default_factory=dict)


class Problem(BaseModel):
    at: str = Field(max_length=200, description="Where: body.user_id, query.n, ...")
    problem: str = Field(max_length=1000)


class ErrorAnswer(BaseModel):
    """The one shape of every error."""

    error: str = Field(max_length=10_000, description="What is wrong and what to do.")
    problems: list[Problem] = Field(
        max_length=PROBLEMS_LISTED, description="One per field; empty where none is to blame."
    )


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The call is wrong: a forged cursor, say"},
    404: {"model": ErrorAnswer, "description": "Not on record"},
    413: {"model": ErrorAnswer, "description": "The body is too large"},
    422: {"model": ErrorAnswer, "description": "The request is not valid"},
    500: {"model": ErrorAnswer, "description": "An error of the server; it was logged"},
    503: {"model": ErrorAnswer, "description": "Not now: Retry-After says when"},
}
"""What any route may answer beside 200."""


class Refused(Exception):
    """A body that holds no rows, with the reason for the caller."""


def rows_of(body: bytes, key: str) -> list[Any]:
    """The rows of a body: one object, a list, or an object with the list under `key`. Refused if it is none."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"the body is not JSON: {error}") from None
    if isinstance(data, dict):
        if [*data] == [key] and not isinstance(data[key], list):
            raise Refused(f"'{key}' must be a list of objects, not {data[key]!r:.60}")
        data = data[key] if isinstance(data.get(key), list) and len(data) == 1 else [data]
    if not isinstance(data, list):
        raise Refused(f'the body must be an object, a list of objects, or {{"{key}": [...]}}')
    if len(data) > MAX_ROWS:
        raise Refused(f"{len(data)} rows in one request: send at most {MAX_ROWS}")
    return data

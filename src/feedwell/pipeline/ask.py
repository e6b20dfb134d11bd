"""Ask and Answer: what a caller hands to the request flow and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from feedwell.core.candidates import Candidates, Float, Retrieved
from feedwell.core.catalog import NO_DELTAS, Deltas
from feedwell.core.event import NO_KEY
from feedwell.core.request import NO_KEYS, Keys, Request, UserSide
from feedwell.core.slate import Slate, SlateRecord

CALLER = "caller"
"""The name under which what a caller brought is attributed, as a source's name is."""


@dataclass(frozen=True, kw_only=True)
class Brought:
    """The candidates that a caller brings in place of the sources: `keys_N` distinct, in its order.

    `n_unknown` ids that the log has never seen, `n_duplicates` repeated ones: neither is ranked. `ignore_filters` are
    the parts ("filter.seen") that this caller waives; `shown` False: what comes of it is no exposure.
    """

    keys_N: Keys
    n_unknown: int = 0
    n_duplicates: int = 0
    ignore_filters: tuple[str, ...] = ()
    shown: bool = True


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One wish for a feed, before anything is read for it.

    `n` None: the slate's own k. `brought` None: the sources are asked. `widths` (source → share of its k) is for
    replay: exactly those sources run. Without `explore` every slot takes the best. `deadline_ms` is what is left of the
    deadline when the run starts.
    """

    user_id: str
    request_id: str
    t: int
    user: int = NO_KEY
    n: int | None = None
    surface: str = "default"
    exclude: Keys = field(default_factory=lambda: NO_KEYS)
    prefix: Keys = field(default_factory=lambda: NO_KEYS)
    context: Mapping[str, Any] = field(default_factory=dict)
    assignments: Mapping[str, str] = field(default_factory=dict)
    brought: Brought | None = None
    explore: bool = True
    trace: bool = False
    deadline_ms: float | None = None
    width: float = 1.0
    widths: Mapping[str, float] | None = None
    deltas: Deltas = NO_DELTAS


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`retrieved` is what each source brought, `offered` the candidates that rankers chose from, `scored` those that
    the slate saw (`slate.rows_n` index them); `candidates` all that were retrieved, each with what became of it;
    `trace` only where one was asked for or sampled."""

    request: Request
    record: SlateRecord
    slate: Slate
    retrieved: Mapping[str, Retrieved]
    offered: Candidates
    scored: Candidates
    candidates: Candidates
    trace: dict[str, Any] | None = None


class Reader(Protocol):
    """What a request reads the world through: one moment of the state, with the requester's own tail."""

    epoch: int
    state_offset: int
    tail_offset: int
    newest_at: int

    def user_side(self, user: int, t: int) -> UserSide: ...
    def item_side(self, user: int, keys_N: Keys, t: int) -> Float: ...

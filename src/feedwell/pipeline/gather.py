"""Sources: local ones in turn, cheapest first, each only if it fits the time left; remote ones meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter

import numpy as np

from feedwell.core.candidates import Retrieved
from feedwell.core.protocols import Source
from feedwell.core.request import Request
from feedwell.core.telemetry import Telemetry
from feedwell.pipeline.ask import CALLER, Brought
from feedwell.pipeline.budget import Budget, Timer
from feedwell.pipeline.contained import Contained
from feedwell.pipeline.notes import Notes
from feedwell.pipeline.remote import Call, RemoteCalls
from feedwell.pipeline.retry import Retries
from feedwell.pipeline.returned import sound_rows

UNKNOWN, DUPLICATES = f"unknown: {CALLER}", f"duplicates: {CALLER}"
"""What a record counts of a caller's candidates beside the exact accounting, as it does for a source's odd rows."""
_AFTER = "after sources"
DEFAULT_K = 100


@dataclass
class Pace:
    """What one process remembers between requests. Without one (replay, evaluation) nothing is skipped."""

    budget: Budget
    telemetry: Telemetry = field(default_factory=Telemetry)
    retries: Retries = field(init=False)
    remote: RemoteCalls = field(init=False)

    def __post_init__(self) -> None:
        self.retries = Retries(self.budget, self.telemetry)
        self.remote = RemoteCalls(self.budget.timer)

    @staticmethod
    def of(deadline_ms: float, timer: Timer = perf_counter, telemetry: Telemetry | None = None) -> Pace:
        return Pace(Budget(deadline_ms, timer), telemetry or Telemetry())

    def answered(self, notes: Notes) -> None:
        """Learns from a finished request: what follows the sources, and whether it was late."""
        ms = notes.elapsed_ms
        after = sum(v for k, v in notes.stage_ms.items() if k in ("filters", "item_side", "score", "slate"))
        self.budget.observe(_AFTER, after)
        if notes.deadline_ms is not None and ms > notes.deadline_ms:
            self.telemetry.count("late_requests")
        self.budget.width.observe(ms)


def gather(
    sources: Mapping[str, Source], request: Request, notes: Notes, pace: Pace | None, widths: Mapping[str, float] | None
) -> dict[str, Retrieved]:
    """What each source brought, in declared order whatever order they ran in: timing must not reorder candidates."""
    if widths is not None:
        chosen = {name: share for name, share in widths.items() if name in sources}
        found = {name: _called(name, sources[name], request, share, notes, None) for name, share in chosen.items()}
    elif pace is None:
        found = {name: _called(name, part, request, 1.0, notes, None) for name, part in sources.items()}
    else:
        found = _within_time(sources, request, notes, pace)
    return {name: rows for name in sources if (rows := found.get(name)) is not None}


def brought(given: Brought, notes: Notes) -> dict[str, Retrieved]:
    """The caller's candidates as the one source of the request. Its order is all it says: there are no scores."""
    for what, n in ((UNKNOWN, given.n_unknown), (DUPLICATES, given.n_duplicates)):
        if n:
            notes.extra[what] = n
    notes.widths[CALLER] = 1.0
    return {CALLER: Retrieved(keys_N=given.keys_N, scores_N=np.full(len(given.keys_N), np.nan))}


def _within_time(
    sources: Mapping[str, Source], request: Request, notes: Notes, pace: Pace
) -> dict[str, Retrieved | None]:
    remote = {name: part for name, part in sources.items() if getattr(part, "remote", False)}
    calls = {name: _start(name, part, request, pace) for name, part in remote.items()}
    found: dict[str, Retrieved | None] = {}
    later_ms = pace.budget.times(_AFTER).percentile(0.95)
    for name in pace.budget.cheapest_first(n for n in sources if n not in remote):
        share = pace.budget.share_of(name, notes.left_ms - later_ms)
        if share:
            found[name] = _called(name, sources[name], request, share, notes, pace.budget)
        else:
            _skip(name, sources[name], request, notes, pace)
    for name, call in calls.items():
        found[name] = _landed(name, call, sources[name], request, notes, later_ms)
    return found


def _called(
    name: str, part: Source, request: Request, share: float, notes: Notes, budget: Budget | None
) -> Retrieved | None:
    begin = notes.timer()
    narrowed = replace(request, width=request.width * share)
    rows: Retrieved | None = None
    with Contained(partial(notes.failed, name)):
        rows = sound_rows(name, part(narrowed), _declared_k(part), narrowed.width, notes)
        notes.widths[name] = share
    ms = (notes.timer() - begin) * 1e3
    notes.spent(name, ms)
    if budget is not None:
        (budget.observe if share == 1.0 else budget.observe_half)(name, ms)
        if ms > budget.deadline_ms:
            notes.degrade(name, f"took {ms:.0f} ms of a deadline of {budget.deadline_ms:.0f} ms", kind="slow")
    return rows


def _skip(name: str, part: Source, request: Request, notes: Notes, pace: Pace) -> None:
    p95 = pace.budget.times(name).percentile(0.95)
    notes.degrade(name, f"skipped: {p95:.0f} ms expected, {max(0.0, notes.left_ms):.0f} ms left", kind="skipped")
    if p95 > pace.budget.deadline_ms / 2:  # a quick one was only unlucky; there is nothing to learn about it
        pace.retries.skipped(name, part, request)


def _start(name: str, part: Source, request: Request, pace: Pace) -> Call | str:
    return pace.remote.start(name, lambda: part(request))


def _landed(
    name: str, call: Call | str, part: Source, request: Request, notes: Notes, later_ms: float
) -> Retrieved | None:
    if isinstance(call, str):
        notes.degrade(name, f"not called: {call}", kind="refused")
        return None
    with Contained(partial(notes.failed, name)):
        with notes.stage(name):
            left_s = min(_timeout_s(part), max(0.0, notes.left_ms - later_ms) / 1e3)
            returned = call.result(left_s)
        rows = sound_rows(name, returned, _declared_k(part), request.width, notes)
        notes.widths[name] = 1.0
        return rows
    return None


def _declared_k(part: Source) -> int:
    return int(getattr(part.config, "k", DEFAULT_K))


def _timeout_s(part: Source) -> float:
    return float(getattr(part.config, "timeout_ms", 1e6)) / 1e3

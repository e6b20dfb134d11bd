"""The request flow, step by step: user side → sources → filters → item side → scores → slate → record.

A part may fail, the request may not: what it raises or returns is counted, named in `degraded` and worked around.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from feedwell.core.candidates import NOT_SELECTED, Candidates, Float, Retrieved
from feedwell.core.keys import union
from feedwell.core.protocols import Filter, Scorer, SlateStep
from feedwell.core.request import NO_KEYS, Keys, Request, UserSide
from feedwell.core.rng import stream
from feedwell.core.sampler import build_slate
from feedwell.core.slate import NO_EXPLORATION, Slate
from feedwell.pipeline.ask import Answer, Ask, Reader
from feedwell.pipeline.contained import Contained
from feedwell.pipeline.draws import RecordedStep
from feedwell.pipeline.gather import Pace, brought, gather
from feedwell.pipeline.notes import Notes
from feedwell.pipeline.record import UNCALIBRATED, Ran, slate_record, trace_of
from feedwell.pipeline.returned import sound_columns, sound_rows
from feedwell.pipeline.screen import Pool, locked, screened
from feedwell.pipeline.tape import Taped

if TYPE_CHECKING:
    from feedwell.pipeline.compile import Pipeline

NEWEST = "newest"
VALUE = "value"
_NONE_KNOWN = "nothing to rank: the caller brought no item that is known"
_NONE_PASSES = "nothing to rank: no item that the caller brought passes the filters and was not shown before"


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One request up to its scores: all that a slate is built from. `pool.live` are the scored candidates, `offered`
    the same and more, before the light ranker and the scores."""

    ask: Ask
    reader: Reader
    tape: Taped | None
    request: Request
    retrieved: Mapping[str, Retrieved]
    offered: Candidates
    pool: Pool
    fallback: str
    shown: Candidates | None


def run(pipeline: Pipeline, ask: Ask, reader: Reader, pace: Pace | None, notes: Notes) -> Answer:
    """The whole flow for one request; with a pace the sources keep to the deadline."""
    if ask.brought is not None:
        pipeline = pipeline.waiving(ask.brought.ignore_filters)
    answer = _answered(pipeline, _ranked(pipeline, ask, reader, pace, notes), notes)
    if pace is not None:
        pace.answered(notes)
    return answer


def run_both(pipeline: Pipeline, ask: Ask, reader: Reader, notes: Notes) -> tuple[Answer, Answer]:
    """Two answers to one request, without and with exploration: what two runs give, retrieved and scored once."""
    ranked, exploring = _ranked(pipeline, ask, reader, None, notes), notes.copy()
    best = _answered(pipeline, replace(ranked, ask=replace(ask, explore=False)), notes)
    return best, _answered(pipeline, replace(ranked, ask=replace(ask, explore=True)), exploring)


def _ranked(pipeline: Pipeline, ask: Ask, reader: Reader, pace: Pace | None, notes: Notes) -> Ranked:
    tape = Taped(reader) if ask.trace else None
    request, retrieved, pool, fallback, shown = _candidates(pipeline, ask, tape or reader, pace, notes)
    offered = pool.live
    with notes.stage("score"):
        pool = _lightened(pipeline, request, pool, notes)
        scored = _scored(pipeline, request, pool.live, notes)
    return Ranked(
        ask=ask,
        reader=reader,
        tape=tape,
        request=request,
        retrieved=retrieved,
        offered=offered,
        pool=replace(pool, live=scored),
        fallback=fallback,
        shown=shown,
    )


def _answered(pipeline: Pipeline, ranked: Ranked, notes: Notes) -> Answer:
    ask, request, pool = ranked.ask, ranked.request, ranked.pool
    with notes.stage("slate"):
        slate, draws = _slate(pipeline, request, ask, pool.live, ranked.shown, notes)
    if ask.brought is not None and slate.short:
        slate = replace(slate, short=_short(request, len(ask.brought.keys_N), slate))
    chosen_N = np.zeros(len(pool.live), np.bool_)
    chosen_N[slate.rows_n] = True
    done = pool.keep(chosen_N, NOT_SELECTED).all
    notes.telemetry.observe_ms("request", notes.elapsed_ms)
    ran = Ran(
        request=request,
        ask=ask,
        reader=ranked.reader,
        retrieved=ranked.retrieved,
        done=done,
        scored=pool.live,
        slate=slate,
        draws=draws,
        notes=notes,
        fallback=ranked.fallback,
    )
    return Answer(
        request=request,
        record=slate_record(pipeline, ran),
        slate=slate,
        retrieved=ranked.retrieved,
        offered=ranked.offered,
        scored=pool.live,
        candidates=done,
        trace=None if ranked.tape is None else trace_of(pipeline, ran) | {"items": ranked.tape.items()},
    )


def retrieve(pipeline: Pipeline, ask: Ask, reader: Reader, notes: Notes) -> Candidates:
    """The candidates that a ranker would see: merged, filtered, cut, with features. Training rows come from here."""
    return _candidates(pipeline, ask, reader, None, notes)[2].live


def _candidates(
    pipeline: Pipeline, ask: Ask, reader: Reader, pace: Pace | None, notes: Notes
) -> tuple[Request, dict[str, Retrieved], Pool, str, Candidates | None]:
    with notes.stage("user_side"):
        request = _request(pipeline, ask, reader.user_side(ask.user, ask.t), notes)
    with notes.stage("sources"):
        if ask.brought is not None:
            retrieved = brought(ask.brought, notes)
        else:
            retrieved = gather(pipeline.sources, request, notes, pace, ask.widths)
    pool, shown = screened(pipeline, request, retrieved, reader, notes)
    if ask.brought is not None:  # nothing else may take the place of what the caller brought
        return request, retrieved, pool, "", shown
    fallback = ""
    for name in (*pipeline.fallbacks, NEWEST):
        if len(pool.live):
            break
        if name in retrieved or (ask.widths is not None and name not in ask.widths):
            continue
        with notes.stage("fallback"):
            retrieved = {**retrieved, name: _fallback(pipeline, name, request, notes)}
        if len(retrieved[name].keys_N):
            pool, shown = screened(pipeline, request, retrieved, reader, notes)
            fallback = name if len(pool.live) else ""
    if fallback:
        notes.degrade("sources", f"nothing to show, fell back to '{fallback}'", kind="fallback")
    elif not len(pool.live):
        fallback = "empty"
        notes.degrade("sources", "nothing to show, no fallback had anything", kind="empty")
    return request, retrieved, pool, fallback, shown


def _request(pipeline: Pipeline, ask: Ask, side: UserSide, notes: Notes) -> Request:
    request = Request(
        request_id=ask.request_id,
        user_id=ask.user_id,
        t=ask.t,
        n=ask.n or pipeline.project.slate.k,
        user=ask.user,
        surface=ask.surface,
        exclude=union(ask.exclude),
        prefix=ask.prefix,
        context=ask.context,
        side=side,
        assignments=ask.assignments,
        deadline_us=round((notes.deadline_ms or 0) * 1e3),
        width=ask.width,
        seed=pipeline.seed,
        deltas=pipeline.own_deltas(ask.deltas),
    )
    return replace(request, skip=_skipped_by_filters(pipeline.filters, request, notes))


def _skipped_by_filters(filters: Mapping[str, Filter], request: Request, notes: Notes) -> Keys:
    """A hint for the sources; a filter that fails here fails again when it filters, and is named there."""
    parts: list[Keys] = []
    for name, part in filters.items():
        skips = getattr(part, "skips", None)
        if skips is not None:
            with Contained(partial(_skips_failed, notes, name)):
                parts.append(np.asarray(skips(request), dtype=np.int64))
    return union(*parts)


def _skips_failed(notes: Notes, name: str, _error: Exception) -> None:
    notes.telemetry.count("skips_failed", part=name)


def _fallback(pipeline: Pipeline, name: str, request: Request, notes: Notes) -> Retrieved:
    """Asked for all it has at full width: it is the last hope, and a leaderboard is cheap."""
    with Contained(partial(notes.failed, name)):
        if name == NEWEST:
            ranking = request.side.rankings[pipeline.newest]
            returned = Retrieved(keys_N=ranking.keys_N, scores_N=ranking.scores_N)
            rows = sound_rows(name, returned, pipeline.newest.k, 1.0, notes)
        else:
            part = pipeline.fallbacks[name]
            rows = sound_rows(name, part(replace(request, width=1.0)), int(getattr(part.config, "k", 1000)), 1.0, notes)
        notes.widths[name] = 1.0
        return rows
    return Retrieved(keys_N=NO_KEYS, scores_N=np.empty(0))


def _lightened(pipeline: Pipeline, request: Request, pool: Pool, notes: Notes) -> Pool:
    """Only what the light ranker values most; without its value, the first in retrieval order."""
    section = pipeline.project.light
    if section is None or pipeline.ranker is None:
        return pool
    limit = max(request.n, math.ceil(section.keep * request.width))
    if len(pool.live) <= limit:
        return pool
    live = (
        pool.live if pipeline.light is None else _valued(pipeline, "light", pipeline.light, request, pool.live, notes)
    )
    keep_n = np.zeros(len(live), np.bool_)
    keep_n[np.argsort(-live.value_N, kind="stable")[:limit]] = True  # NaN comes last; what ties, in retrieval order
    return pool.keep(keep_n, "cut.light")


def _scored(pipeline: Pipeline, request: Request, live: Candidates, notes: Notes) -> Candidates:
    """With predictions and a value; both NaN where their scorer failed, so that retrieval order decides."""
    if pipeline.ranker is None or not len(live):
        return live
    return _valued(pipeline, "ranker", pipeline.ranker, request, live, notes)


def _valued(
    pipeline: Pipeline, name: str, ranker: Scorer, request: Request, live: Candidates, notes: Notes
) -> Candidates:
    columns = dict(_columns_of(name, ranker, request, live, notes))
    value_N = columns.pop(VALUE, None)
    live = live.with_columns(predictions={name: locked(p_N) for name, p_N in columns.items()})
    if columns and name == "ranker" and pipeline.calibration is not None:
        live = _calibrated(pipeline.calibration, request, live, notes)
    if value_N is None and columns:
        value_N = _columns_of("value", pipeline.value, request, live, notes).get(VALUE)
    return live if value_N is None else live.with_columns(value_N=locked(value_N))


def _calibrated(calibration: Scorer, request: Request, live: Candidates, notes: Notes) -> Candidates:
    """With calibrated predictions, what the ranker said kept beside them where it differs; as they were if it fails."""
    before = live.predictions
    after = _columns_of("calibration", calibration, request, live, notes)
    after = {name: locked(c_N) for name, c_N in after.items() if name in before}
    moved = [name for name, c_N in after.items() if not np.array_equal(c_N, before[name], equal_nan=True)]
    raw = {UNCALIBRATED + name: before[name] for name in moved}
    return live.with_columns(predictions={**before, **after, **raw})


def _columns_of(name: str, part: Any, request: Request, live: Candidates, notes: Notes) -> Mapping[str, Float]:
    with Contained(partial(notes.failed, name)), notes.stage(name):
        return sound_columns(name, part(request, live), len(live), notes)
    return {}


def _short(request: Request, n_brought: int, slate: Slate) -> str:
    """Why there are fewer of the caller's items than asked for."""
    n = len(slate.rows_n)
    if not n:
        return _NONE_PASSES if n_brought else _NONE_KNOWN
    everything = n + len(request.prefix) == n_brought
    return f"{n} of {request.n}: the caller brought {n_brought} that are known" if everything else slate.short


def _slate(
    pipeline: Pipeline, request: Request, ask: Ask, scored: Candidates, shown: Candidates | None, notes: Notes
) -> tuple[Slate, list[dict[str, Any]]]:
    explore = pipeline.project.slate.explore if ask.explore else NO_EXPLORATION
    slot_0 = len(request.prefix)

    def built(step: SlateStep) -> tuple[Slate, list[dict[str, Any]]]:
        recorded = RecordedStep(step, scored.keys_N, explore, slot_0)
        rng = stream(pipeline.seed, request.request_id)
        slate = build_slate(recorded, scored.keys_N, request.n, rng, explore, slot_0=slot_0)
        return slate, recorded.draws

    with Contained(partial(notes.failed, "slate")):
        return built(pipeline.slate.begin(request, scored, shown))
    return built(_ByValue(scored.value_N))


class _ByValue:
    """The plainest slate, for when the declared policy fails."""

    def __init__(self, value_N: Float) -> None:
        self.relaxed: Sequence[str] = ()
        self._u_N = value_N.copy()

    def utilities(self) -> Float:
        return self._u_N

    def choose(self, row: int) -> None:
        self._u_N[row] = -np.inf

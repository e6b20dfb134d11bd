"""SlateRecord and Trace: what is kept of an answer, as plain data that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from feedwell.core.candidates import Candidates, Retrieved
from feedwell.core.needs import HistoryNeed, ObjectsNeed, RankingNeed
from feedwell.core.request import History, Ranking, Request, UserSide
from feedwell.core.slate import NO_EXPLORATION, Slate, SlateRecord
from feedwell.pipeline.ask import Ask, Reader
from feedwell.pipeline.notes import Notes

if TYPE_CHECKING:
    from feedwell.pipeline.compile import Pipeline

RETRIEVED, IN_SLATE = "retrieved", "in slate"
UNCALIBRATED = "uncalibrated."
"""Before an objective's name: what the ranker predicted, where calibration changed it."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One request run to its end: all that its record and its trace are written from.

    `done` are all candidates with what became of each, `scored` those that the slate saw, `draws` what each slot was
    drawn from.
    """

    request: Request
    ask: Ask
    reader: Reader
    retrieved: Mapping[str, Retrieved]
    done: Candidates
    scored: Candidates
    slate: Slate
    draws: list[dict[str, Any]]
    notes: Notes
    fallback: str


def slate_record(pipeline: Pipeline, ran: Ran) -> SlateRecord:
    """What is kept of every answer."""
    request, ask, reader, slate = ran.request, ran.ask, ran.reader, ran.slate
    scored, notes, rows = ran.scored, ran.notes, slate.rows_n
    n_item = len(pipeline.item_columns)
    if slate.unscored and pipeline.ranker is not None:
        notes.degrade("slate", "no value for a slot: retrieval order", kind="unscored")
    return SlateRecord(
        request_id=request.request_id,
        user=request.user,
        user_id=request.user_id,
        t=request.t,
        surface=request.surface,
        n=request.n,
        release_id=pipeline.release_id,
        project_digest=pipeline.project_digest,
        epoch=reader.epoch,
        state_offset=reader.state_offset,
        tail_offset=reader.tail_offset,
        seed=pipeline.seed,
        width=request.width,
        keys=scored.keys_N[rows].tolist(),
        utility=slate.utility_n.tolist(),
        propensity=slate.propensity_n.tolist(),
        sources=scored.sources_N[rows].tolist(),
        source_names=list(scored.source_names),
        predictions={name: p_N[rows].tolist() for name, p_N in scored.predictions.items()} | _value(scored, slate),
        feature_names=list(pipeline.item_columns),
        features=scored.features_NF[rows, :n_item].tolist(),
        user_features={name: float(request.side.features.get(name, np.nan)) for name in pipeline.user_columns},
        assignments=dict(request.assignments),
        degraded=list(notes.degraded),
        counts=_counts(ran.done, notes),
        widths=dict(notes.widths),
        draws=ran.draws,
        explore=asdict(pipeline.project.slate.explore if ask.explore else NO_EXPLORATION),
        exclude=request.exclude.tolist(),
        prefix=request.prefix.tolist(),
        among=None if ask.brought is None else ask.brought.keys_N.tolist(),
        ignored_filters=[] if ask.brought is None else list(ask.brought.ignore_filters),
        shown=ask.brought is None or ask.brought.shown,
        short=slate.short,
        relaxed=list(slate.relaxed),
        fallback=ran.fallback,
        stage_ms={**{k: round(v, 3) for k, v in notes.stage_ms.items()}, "total": round(notes.elapsed_ms, 3)},
        traced=ask.trace,
        catalog_offset=ask.deltas.offset,
    )


def trace_of(pipeline: Pipeline, ran: Ran) -> dict[str, Any]:
    """Everything that the request saw: enough to run it again without any store."""
    request, scored, done = ran.request, ran.scored, ran.done
    columns = {name: scored.columns[name] for name in pipeline.item_columns if name in scored.columns}
    return {
        "request_id": request.request_id,
        "context": dict(request.context),
        "side": dump_side(request.side),
        "retrieved": {name: {"keys": r.keys_N, "scores": r.scores_N} for name, r in ran.retrieved.items()},
        "all": {"keys": done.keys_N, "sources": done.sources_N, "status": done.status_N, "reasons": list(done.reasons)},
        "scored": {
            "keys": scored.keys_N,
            "feature_names": list(scored.feature_names),
            "features": scored.features_NF,
            "columns": columns,
            "predictions": dict(scored.predictions),
            "value": scored.value_N,
            "group": scored.group_N,
        },
    }


def dump_side(side: UserSide) -> dict[str, Any]:
    return {
        "features": {name: float(v) for name, v in side.features.items()},
        "histories": [
            [asdict(n), {"keys": h.keys_L, "at": h.at_L, "type": h.type_L}] for n, h in side.histories.items()
        ],
        "objects": [[asdict(need), keys] for need, keys in side.objects.items()],
        "rankings": [[asdict(n), {"keys": r.keys_N, "scores": r.scores_N}] for n, r in side.rankings.items()],
    }


def load_side(dumped: dict[str, Any]) -> UserSide:
    """The user side back from a trace."""
    return UserSide(
        features={name: np.nan if v is None else v for name, v in dumped["features"].items()},
        histories={
            HistoryNeed(**_tuples(need)): History(
                keys_L=np.array(h["keys"], np.int64),
                at_L=np.array(h["at"], np.int64),
                type_L=np.array(h["type"], np.int16),
            )
            for need, h in dumped["histories"]
        },
        objects={ObjectsNeed(**_tuples(need)): np.array(keys, np.int64) for need, keys in dumped["objects"]},
        rankings={
            RankingNeed(**_tuples(need)): Ranking(
                keys_N=np.array(r["keys"], np.int64), scores_N=np.array(r["scores"], np.float64)
            )
            for need, r in dumped["rankings"]
        },
    )


def _tuples(need: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in need.items()}


def _value(scored: Candidates, slate: Slate) -> dict[str, list[float]]:
    return {"value": scored.value_N[slate.rows_n].tolist()}


def _counts(done: Candidates, notes: Notes) -> dict[str, int]:
    by_reason = done.counts()
    in_slate = by_reason.pop("")
    return {RETRIEVED: len(done), IN_SLATE: in_slate, **by_reason, **notes.extra}

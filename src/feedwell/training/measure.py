"""Measure: a recipe fitted without the test span and judged on it; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from feedwell.core.columns import ITEM, USER, T
from feedwell.core.errors import DataError
from feedwell.data.exposure import exposures
from feedwell.data.interactions import UserEvents
from feedwell.data.labels import CLOSES, UNTIL, labels
from feedwell.data.log_view import MOMENT
from feedwell.data.split import SPANS, Spans
from feedwell.pipeline.compile import Pipeline
from feedwell.pipeline.replay import live_of, replay_requests
from feedwell.training.calibrate import calibration_rows, fit_in_order, stopping_marked
from feedwell.training.coverage import (
    coverage_rows,
    declared_rows,
    label_counts,
    require_coverage,
    served_counts,
    served_slots,
    unseen,
)
from feedwell.training.curves import curve_rows
from feedwell.training.evaluate import Judged, report
from feedwell.training.fit_data import fit_data
from feedwell.training.heads import head_rows, models_of
from feedwell.training.inputs import Inputs, Laps
from feedwell.training.leakage import batch_reading, future_leaks, require_no_leaks, suspicious
from feedwell.training.parts import CALIBRATION, Parts, fit_sources
from feedwell.training.quantities import quantity_rows
from feedwell.training.report import CoverageRow, EvaluateReport
from feedwell.training.rows import Names, RowBuilder, Rows, read_as_of_moments, servable
from feedwell.training.walk import Moments, Walked, asks_of, moments_of, situations, walk

_REPLAY = "replay of the test"
_TRAIN_SPANS, _CALIBRATION, _TEST = (1, 2), 2, 3


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A recipe (project) fitted without the test span and judged on it."""

    parts: Parts
    moments: Moments
    walked: Walked
    evaluation: EvaluateReport
    train: Rows | None
    test: Rows | None
    coverage: tuple[CoverageRow, ...]
    n_exposures: Mapping[str, int]
    served: Mapping[str, int]
    labels: Mapping[str, Mapping[str, int]]
    warnings: tuple[str, ...]
    cost: Mapping[str, Mapping[str, float]]
    """stage → cpu_s, wall_s, peak_mb"""


def measure(
    inputs: Inputs,
    events: UserEvents,
    cut: Spans,
    *,
    max_requests: int | None = None,
    moments: Moments | None = None,
) -> Measured:
    """Fits the project without the test span and judges it there; nothing is written.

    `moments` are the requests to judge by; default: one per situation of the test span, `max_requests` by hash.
    """
    project, laps = inputs.project, Laps()
    shown, until = _labelled(inputs, events, cut), project.evaluate.max_requests or max_requests
    span_X = cut.span(shown[USER].to_numpy(), shown[MOMENT].to_numpy())
    laps.end("exposures and labels")
    served = served_counts(inputs.view(), project, shown)
    warnings = unseen(project, served)
    train_rows: Rows | None = None
    rankers: Parts | None = None
    if project.ranker is not None:
        inputs.progress("fit sources on the first span", 0, None)
        first = fit_sources(project, fit_data(inputs, events, cut, 1), inputs.progress)
        _require_causal(inputs, first, shown, span_X)
        laps.end("sources on the first span")
        train_rows = _train_rows(inputs, first, events, cut, shown, span_X)
        laps.end("training rows by replay")
        warnings += [str(leak) for leak in suspicious(train_rows)]
        inputs.progress("fit the ranker", 0, None)
        fitted_on, note = servable(train_rows)
        rankers = fit_in_order(first, fitted_on, _calibrating(cut, fitted_on))
        train_rows = stopping_marked(train_rows, fitted_on, _calibrating(cut, fitted_on))
        warnings += [note] if note else []
        laps.end("ranker and calibration")
        warnings += getattr(rankers.fitted.get(CALIBRATION), "warnings", ())
    inputs.progress("fit sources on all before the test", 0, None)
    parts = fit_sources(project, fit_data(inputs, events, cut, _TEST), inputs.progress)
    if rankers is not None:
        parts = parts.with_rankers(rankers)
    laps.end("sources on all before the test")
    pipeline = parts.pipeline()
    if moments is None:
        moments = moments_of(situations(events, shown), cut, [_TEST], until, "evaluate")
    builder = None
    if train_rows is not None:
        kept = shown.filter(pa.array(_visited(shown, span_X == _TEST, moments)))
        builder = RowBuilder(inputs, parts.features, events, kept, Names.of(parts.features, pipeline.sources))
    walked = walk(inputs, pipeline, events, cut, moments, builder=builder)
    laps.end(_REPLAY)
    test_rows = builder.build() if builder is not None else None
    seen = _coverage(inputs, parts, pipeline, train_rows, test_rows)
    seen += declared_rows(inputs, parts.features, _learned_frame(events, cut, shown, span_X), known=seen)
    require_coverage(project, parts.features, seen)
    judged = Judged()
    if train_rows is not None and test_rows is not None:
        inputs.progress("judge the heads", 0, None)
        judged = _judged(parts, train_rows, test_rows, _calibrating(cut, train_rows))
    evaluation = report(inputs, project, cut, walked, judged=judged, cost=laps.to_dict()[_REPLAY])
    evaluation = replace(evaluation, curves=curve_rows(parts))
    laps.end("judging")
    return Measured(
        parts=parts,
        moments=moments,
        walked=walked,
        evaluation=evaluation,
        train=train_rows,
        test=test_rows,
        coverage=seen,
        n_exposures=dict(zip(SPANS, np.bincount(span_X, minlength=4).tolist(), strict=True)),
        served=served,
        labels=label_counts(shown, project),
        warnings=tuple(warnings),
        cost=laps.to_dict(),
    )


def _judged(parts: Parts, train: Rows, test: Rows, calibrate_N: Any) -> Judged:
    project, models = parts.project, models_of(parts, train, test, calibrate_N)
    return Judged(
        heads=head_rows(project, models, train, test),
        quantities=quantity_rows(project, models, train, test),
        calibration=calibration_rows(parts, test),
    )


def _calibrating(cut: Spans, rows: Rows) -> Any:
    return cut.span(rows.user_N, rows.t_N) == _CALIBRATION


def _learned_frame(events: UserEvents, cut: Spans, shown: pa.Table, span_X: Any) -> pa.Table:
    """user, item, t of the exposures of the ranker's spans; where nothing was, what users did before the test."""
    inside = np.isin(span_X, _TRAIN_SPANS)
    if inside.any():
        return read_as_of_moments(shown).filter(pa.array(inside))
    before = events.before(cut, _TEST).of(())
    return pa.table({USER: before.user_E, ITEM: before.item_E, T: before.at_E})


def _coverage(
    inputs: Inputs, parts: Parts, pipeline: Pipeline, train: Rows | None, test: Rows | None
) -> tuple[CoverageRow, ...]:
    if train is None:
        return ()
    return coverage_rows(
        parts.features, train, test, served_slots(inputs, parts.features, Names.of(parts.features, pipeline.sources))
    )


def _labelled(inputs: Inputs, events: UserEvents, cut: Spans) -> pa.Table:
    """Exposures of the whole log with labels that do not look beyond the span that each is in."""
    project, view = inputs.project, inputs.view()
    shown = exposures(view, project, slots=inputs.slots())
    user_X, t_X = shown[USER].to_numpy(), shown[MOMENT].to_numpy()
    shown = shown.append_column(UNTIL, pa.array(cut.span_end(user_X, t_X)))
    return labels(view, project, shown.append_column(CLOSES, pa.array(cut.closes(user_X, t_X))))


def _train_rows(inputs: Inputs, first: Parts, events: UserEvents, cut: Spans, shown: pa.Table, span_X: Any) -> Rows:
    """Rows of the ranker's and the calibration span."""
    project = inputs.project
    pipeline = first.retrieving()
    moments = _exposure_moments(shown, span_X, project.train.max_requests)
    kept = shown.filter(pa.array(_visited(shown, np.isin(span_X, _TRAIN_SPANS), moments)))
    if not len(events.user_E):
        raise DataError(
            "training the ranker: the log has no event of a user; load some with `feedwell ingest`, or remove [ranker]"
        )
    if not kept.num_rows:
        raise DataError(
            f"training the ranker: no exposure lies in the ranker's span of {len(events.user_E)} events; take more "
            "data, declare `[data] exposure`, or remove [ranker]"
        )
    builder = RowBuilder(inputs, first.features, events, kept, Names.of(first.features, pipeline.sources))
    _visit(inputs, pipeline, cut, moments, builder)
    return builder.build()


def _visit(inputs: Inputs, pipeline: Pipeline, cut: Spans, moments: Moments, builder: RowBuilder) -> None:
    ends = moments.ends(cut)
    asks = asks_of(inputs, moments, n=None, salt="train")

    def visit(ask: Any, reader: Any) -> None:
        builder.add(ask.user, ask.t, pipeline.retrieve(ask, reader), *ends[ask.user, ask.t])

    visits = replay_requests(pipeline.features, inputs.batches(), asks, visit, live=live_of(pipeline))
    for done, _ in enumerate(visits):
        if done % 200 == 0:
            inputs.progress("retrieve by replay", done, len(asks))


def _exposure_moments(shown: pa.Table, span_X: Any, most: int) -> Moments:
    """One request per situation with exposures in the ranker's spans, at most `most`, evenly by place in time."""
    inside = np.isin(span_X, _TRAIN_SPANS)
    pairs = np.unique(np.stack([shown[MOMENT].to_numpy()[inside], shown[USER].to_numpy()[inside]], axis=1), axis=0)
    if len(pairs) > most:
        pairs = pairs[np.linspace(0, len(pairs) - 1, most).astype(np.int64)]
    return Moments(user_R=pairs[:, 1], t_R=pairs[:, 0])


def _visited(shown: pa.Table, inside: Any, moments: Moments) -> Any:
    """Which exposures are of the requests that will be visited."""
    wanted = set(zip(moments.user_R.tolist(), moments.t_R.tolist(), strict=True))
    pairs = zip(shown[USER].to_pylist(), shown[MOMENT].to_pylist(), strict=True)
    return inside & np.fromiter((pair in wanted for pair in pairs), np.bool_, shown.num_rows)


def _require_causal(inputs: Inputs, parts: Parts, shown: pa.Table, span_X: Any) -> None:
    """Stops when a feature of the rows to be trained on changes once the future is deleted."""
    inside = np.flatnonzero(np.isin(span_X, _TRAIN_SPANS))
    frame = read_as_of_moments(shown).take(pa.array(inside))
    if frame.num_rows:
        inputs.progress("look for leaks", 0, None)
        require_no_leaks(future_leaks(inputs.view(), frame, batch_reading(parts.features)))

"""Measure: a recipe fitted without the test span and judged on it; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core.columns import ITEM, USER, T
from feedwell.data.interactions import UserEvents
from feedwell.data.log_view import MOMENT
from feedwell.data.split import SPANS, Spans
from feedwell.pipeline.compile import Pipeline
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
from feedwell.training.leakage import suspicious
from feedwell.training.parts import CALIBRATION, Parts, fit_sources
from feedwell.training.quantities import quantity_rows
from feedwell.training.report import CoverageRow, EvaluateReport
from feedwell.training.rows import Names, RowBuilder, Rows, read_as_of_moments, servable
from feedwell.training.training_rows import (
    LEARNED_SPANS,
    exposures_of,
    labelled_exposures,
    require_causal,
    training_rows,
)
from feedwell.training.walk import Moments, Walked, moments_of, situations, walk

_REPLAY = "replay of the test"
_CALIBRATION, _TEST = 2, 3


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

    `moments` are the requests to judge by; default: one per situation of the test span, by hash at most `max_requests`
    and no more than the project allows.
    """
    project, laps = inputs.project, Laps()
    shown = labelled_exposures(inputs, events, cut)
    span_X = cut.span(shown[USER].to_numpy(), shown[MOMENT].to_numpy())
    laps.end("exposures and labels")
    served = served_counts(inputs.view(), project, shown)
    learned = _Learned()
    if project.ranker is not None:
        learned = _learn(inputs, events, cut, shown, span_X, laps)
    inputs.progress("fit sources on all before the test", 0, None)
    parts = fit_sources(project, fit_data(inputs, events, cut, _TEST), inputs.fitting)
    if learned.rankers is not None:
        parts = parts.with_rankers(learned.rankers)
    laps.end("sources on all before the test")
    pipeline, train_rows = parts.pipeline(), learned.rows
    if moments is None:
        most = min((n for n in (project.evaluate.max_requests, max_requests) if n is not None), default=None)
        moments = moments_of(situations(events, shown), cut, [_TEST], most, "evaluate")
    builder = None
    if train_rows is not None:
        kept = shown.filter(pa.array(exposures_of(shown, span_X == _TEST, moments)))
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
        warnings=(*unseen(project, served), *learned.warnings),
        cost=laps.to_dict(),
    )


@dataclass(frozen=True, kw_only=True)
class _Learned:
    """What was fitted on the spans before the test, beside the sources."""

    rows: Rows | None = None
    rankers: Parts | None = None
    warnings: tuple[str, ...] = ()


def _learn(
    inputs: Inputs, events: UserEvents, cut: Spans, shown: pa.Table, span_X: NDArray[np.int8], laps: Laps
) -> _Learned:
    """Sources on the first span, the rows of the spans after it, and the rankers and curves that learn from these."""
    project = inputs.project
    inputs.progress("fit sources on the first span", 0, None)
    first = fit_sources(project, fit_data(inputs, events, cut, 1), inputs.fitting)
    require_causal(inputs, first, shown, span_X)
    laps.end("sources on the first span")
    rows = training_rows(inputs, first, events, cut, shown, span_X)
    laps.end("training rows by replay")
    inputs.progress("fit the ranker", 0, None)
    fitted_on, note = servable(rows)
    rankers = fit_in_order(first, fitted_on, _calibrating(cut, fitted_on))
    laps.end("ranker and calibration")
    told = getattr(rankers.fitted.get(CALIBRATION), "warnings", ())
    return _Learned(
        rows=stopping_marked(rows, fitted_on, _calibrating(cut, fitted_on)),
        rankers=rankers,
        warnings=(*(str(leak) for leak in suspicious(rows)), *([note] if note else []), *told),
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


def _learned_frame(events: UserEvents, cut: Spans, shown: pa.Table, span_X: NDArray[np.int8]) -> pa.Table:
    """user, item, t of the exposures of the ranker's spans; where nothing was, what users did before the test."""
    inside = np.isin(span_X, LEARNED_SPANS)
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

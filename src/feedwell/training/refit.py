"""Refit: what a release serves is fitted once more on all data, with what its surfaces and arms fit otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from feedwell.data.interactions import UserEvents
from feedwell.data.split import Spans
from feedwell.pipeline.overlays import overlaid_artifacts
from feedwell.training.calibrate import carve_valid, fit_in_order
from feedwell.training.compare import score_shift
from feedwell.training.fit_data import fit_data, ranked_items
from feedwell.training.gates import Refit
from feedwell.training.inputs import Inputs
from feedwell.training.measure import Measured
from feedwell.training.parts import CALIBRATION, RANKERS, Fitted, Parts, fit_sources
from feedwell.training.report import ScoreShift
from feedwell.training.rows import Rows, join, servable

_KEPT = 0.1
"""Of the requests behind a release, the share that stops the ranker and the share that calibrates it."""


def fit_for_release(inputs: Inputs, events: UserEvents, cut: Spans, found: Measured) -> Refit:
    """Sources on everything; the ranker on the rows of all spans, the stretch before the last kept for early stopping,
    the last for calibration."""
    project = inputs.project
    final = fit_sources(project, fit_data(inputs, events, cut, 4), inputs.fitting)
    if found.train is None or found.test is None:
        return Refit(parts=final, overlaid=_overlaid(inputs, events, cut, final, None), positives={}, shift={})
    rows, _ = servable(join([found.train, found.test]).with_items(ranked_items(inputs)))
    last_N = carve_valid(rows.ranking, rows.t_N, _KEPT)
    final = final.with_rankers(fit_in_order(final, rows, last_N, stopping=_KEPT))
    return Refit(
        parts=final,
        overlaid=_overlaid(inputs, events, cut, final, (rows, last_N)),
        n_rows=len(rows),
        positives={name: int((rows.ranking.labels[name] > 0).sum()) for name in project.objective},
        shift=_shift(found.parts, final, found.test),
    )


def _shift(judged: Parts, released: Parts, rows: Rows) -> dict[str, ScoreShift]:
    """objective → how the released predictions differ from the judged ones for the candidates of the test span: those
    that sources retrieved, or where all of them had been shown, the exposures."""
    sampled = ~rows.exposed_N
    candidates = rows.ranking.take(sampled) if sampled.any() else rows.ranking
    before, after = judged.predict(candidates), released.predict(candidates)
    return {name: score_shift(before[name], after[name]) for name in before if name in after}


def _overlaid(
    inputs: Inputs, events: UserEvents, cut: Spans, base: Parts, learned_from: tuple[Rows, NDArray[np.bool_]] | None
) -> dict[str, Fitted]:
    """artifact name → what overlays fit otherwise than the base, on the data and the ranking rows of the base."""
    found: dict[str, Fitted] = {}
    ranked: dict[str, Parts] = {}
    for kept, (project, name) in overlaid_artifacts(inputs.project).items():
        inputs.progress(f"refit {kept} for release", 0, None)
        work = None if base.fitting.work is None else base.fitting.work / project.digest[:8]
        fitting = replace(base.fitting, work=work)
        if name not in (*RANKERS, CALIBRATION):
            data = fit_data(replace(inputs, project=project), events, cut, 4)
            made = fit_sources(project, data, fitting, only=(name,))
        elif project.digest in ranked:  # a ranker and its calibration are fitted together
            made = ranked[project.digest]
        elif learned_from is not None:
            rows, calibrate_N = learned_from
            sources = Parts(project=project, features=base.features, fitted={}, cost={}, fitting=fitting)
            made = ranked[project.digest] = fit_in_order(sources, rows, calibrate_N, stopping=_KEPT)
        else:
            continue  # nothing was ranked, so there is nothing to fit a ranker on
        found[kept] = Fitted(project=project, name=name, part=made.fitted[name], cost=made.cost[name])
    return found

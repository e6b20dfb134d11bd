"""Train: from a sealed log to a release in the candidate channel, one stage after the other.

    spans → sources on the first → replay: rows of the second and third → ranker on those of the second, its predictions
    calibrated on those of the third → sources again on all before the test
    → replay of the test: the table, the heads, feature coverage → everything again on all data → release

Sources that the table judges have seen everything before the test, the ranker what sources fitted on the first span
retrieved after it. Whatever is released is fitted once more on all data, and its scores are compared with those judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from feedwell.core.artifact import CANDIDATE, CHAMPION, Release
from feedwell.data.interactions import user_events
from feedwell.data.split import Spans, spans
from feedwell.pipeline.compile import kind_of
from feedwell.pipeline.frozen import freeze_plugins
from feedwell.pipeline.overlays import fit_config
from feedwell.training.gates import Refit, champion_of, check_gates, refit_gates
from feedwell.training.inputs import Inputs, Laps
from feedwell.training.measure import measure
from feedwell.training.parts import CALIBRATION, Fitted
from feedwell.training.refit import fit_for_release
from feedwell.training.report import EvaluateReport, TrainReport
from feedwell.training.walk import PIPELINE


def train(inputs: Inputs, *, channel: str = CANDIDATE, max_requests: int | None = None) -> TrainReport:
    """Everything above; the report of a run whose checks held. CheckFailed: a feature knows the future or says nothing.

    `max_requests` bounds the evaluation, as the project does. A log without events gives a release of what needs
    no training.
    """
    project, laps = inputs.project, Laps()
    champion = champion_of(inputs.releases, CHAMPION)
    inputs.progress("spans", 0, None)
    view = inputs.view()
    events, cut = user_events(view, project), spans(view, project.split)
    laps.end("events and spans")
    found = measure(inputs, events, cut, max_requests=max_requests)
    before = {**laps.to_dict(), **found.cost}
    laps = Laps()
    inputs.progress("refit for release", 0, None)
    refit = fit_for_release(inputs, events, cut, found)
    laps.end("refit for release")
    warnings = list(found.warnings)
    told = getattr(refit.parts.fitted.get(CALIBRATION), "warnings", ())
    warnings += [f"fitted on all data: {why}" for why in told if why not in found.warnings]
    gates = check_gates(inputs, events, cut, found, champion) + refit_gates(project, refit)
    laps.end("gates")
    fits = {f"fit {name}": cost.to_dict() for name, cost in refit.parts.cost.items()}
    fits |= {f"fit {name}": fitted.cost.to_dict() for name, fitted in refit.overlaid.items()}
    judged = {
        "gates": tuple(g.to_dict() for g in gates),
        "metrics": _headline(found.evaluation),
        "judged_against": champion and champion.release_id,
        "judged_recipe": champion.project_digest if isinstance(champion, Release) else "",
    }
    release_id = _release(inputs, refit, cut, judged)
    # Of what was a candidate before nothing depends: a pointer that cannot be read must not cost the run.
    inputs.releases.set_channel(channel, release_id, why="train", anew=True)
    return TrainReport(
        release_id=release_id,
        spans=cut.to_dict(),
        n_exposures=found.n_exposures,
        served=found.served,
        n_rows=0 if found.train is None else len(found.train),
        labels=found.labels,
        coverage=found.coverage,
        evaluation=found.evaluation,
        gates=gates,
        score_shift=refit.shift,
        warnings=tuple(warnings),
        cost=before | laps.to_dict() | fits,
    )


def _release(inputs: Inputs, refit: Refit, cut: Spans, judged: Mapping[str, Any]) -> str:
    """Writes each fitted part as an artifact and the release that names them; `judged`: its gates, and against whom."""
    project, store, parts = inputs.project, inputs.releases, refit.parts
    watermark = cut.end - 1 if cut.end else 0
    base = {
        name: Fitted(project=project, name=name, part=part, cost=parts.cost[name])
        for name, part in parts.fitted.items()
    }
    artifacts = {}
    for kept, fitted in {**base, **refit.overlaid}.items():
        artifacts[kept] = store.write_artifact(
            fitted.name.partition(".")[0],
            fitted.name.partition(".")[2] or kind_of(fitted.project, fitted.name),
            fitted.part.save,
            config=fit_config(fitted.part),
            window=(0, cut.end),
            cost=fitted.cost.to_dict(),
        )
    release = Release(
        release_id=store.new_release_id(artifacts, inputs.project_text),
        created_at=inputs.clock.now(),
        artifacts=artifacts,
        plugins=freeze_plugins(store, project),
        project_text=inputs.project_text,
        environment=inputs.environment,
        project_digest=project.digest,
        features_version=parts.features.version,
        watermark=watermark,
        log_window=(0, cut.end),
        parent=judged["judged_against"],
        **judged,
    )
    store.write_release(release)
    return release.release_id


def _headline(evaluation: EvaluateReport) -> dict[str, float]:
    if not any(r.name == PIPELINE for r in evaluation.rows):
        return {}
    return {name: i.value for name, i in evaluation.row(PIPELINE).metrics.items() if np.isfinite(i.value)}

"""Parts: those of the project that learn, fitted on some spans and kept in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from feedwell.core.candidates import Float
from feedwell.core.project import Project
from feedwell.core.protocols import Interactions, RankingRows, learns
from feedwell.features import FeatureSet
from feedwell.pipeline.compile import (
    Pipeline,
    compile_features,
    compile_pipeline,
    make_part,
    part_names,
    retrieval_features,
)
from feedwell.training.inputs import ALONE, Cost, Fitting, measured

RANKER = "ranker"
RANKERS = ("light", RANKER)
"""What learns from ranking rows, in the order of the flow."""
CALIBRATION = "calibration"
"""Learns from what the ranker predicts for rows that it has not seen; all others learn from interactions."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """`fitted`: part name → the part; `cost` of each fit; the features that all parts of the project read."""

    project: Project
    features: FeatureSet
    fitted: Mapping[str, Any]
    cost: Mapping[str, Cost]
    fitting: Fitting = ALONE

    def with_rankers(self, rankers: Parts) -> Parts:
        """These with the rankers of others."""
        return replace(self, fitted={**self.fitted, **rankers.fitted}, cost={**self.cost, **rankers.cost})

    def pipeline(self) -> Pipeline:
        """The request path over these parts; while the rankers are not fitted, without them."""
        project = self.project if RANKER in self.fitted else _unranked(self.project)
        return compile_pipeline(project, {}, self.features, shared=self.fitted, project_digest=self.project.digest)

    def retrieving(self) -> Pipeline:
        """The request path as far as its candidates, reading only what sources and filters read."""
        project = _unranked(self.project)
        features = retrieval_features(project)
        shared = {name: part for name, part in self.fitted.items() if name not in (*RANKERS, CALIBRATION)}
        return compile_pipeline(project, {}, features, shared=shared, project_digest=self.project.digest)

    def predict(self, rows: RankingRows, *, calibrated: bool = True) -> Mapping[str, Float]:
        """objective → what the ranker predicts for rows in the training order of features, as it would be served."""
        found: Mapping[str, Float] = self.fitted[RANKER].predict(rows)
        calibration = self.fitted.get(CALIBRATION)
        return found if calibration is None or not calibrated else calibration.calibrated(found)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One part that learned: the project that declares it, its name there, what fitting it cost."""

    project: Project
    name: str
    part: Any
    cost: Cost


def fit_sources(
    project: Project, data: Interactions, fitting: Fitting = ALONE, *, only: Collection[str] | None = None
) -> Parts:
    """Every source that learns, or of these `only` some, fitted; filters, slates and live sources have nothing to
    fit."""
    fitted, costs = {}, {}
    for name in part_names(project):
        if name in (*RANKERS, CALIBRATION) or (only is not None and name not in only):
            continue
        part = make_part(project, name)
        if learns(part):
            with measured() as cost:
                _given(part, name, fitting).fit(data)
            fitted[name], costs[name] = part, cost
    return Parts(project=project, features=compile_features(project), fitted=fitted, cost=costs, fitting=fitting)


def fit_rankers(project: Project, features: FeatureSet, rows: RankingRows, fitting: Fitting = ALONE) -> Parts:
    """The declared rankers, light and heavy, fitted on the same rows."""
    fitted, costs = {}, {}
    for name in (name for name in RANKERS if name in part_names(project)):
        part = make_part(project, name)
        with measured() as cost:
            _given(part, name, fitting).fit(rows)
        fitted[name], costs[name] = part, cost
    return Parts(project=project, features=features, fitted=fitted, cost=costs)


def fit_calibration(rankers: Parts, rows: RankingRows) -> Parts:
    """The rankers with what makes their predictions mean what they say, fitted on rows that they have not seen."""
    part = make_part(rankers.project, CALIBRATION)
    with measured() as cost:
        part.fit(replace(rows, predictions=rankers.fitted[RANKER].predict(rows)))
    fitted, costs = {**rankers.fitted, CALIBRATION: part}, {**rankers.cost, CALIBRATION: cost}
    return replace(rankers, fitted=fitted, cost=costs)


def _given(part: Any, name: str, fitting: Fitting) -> Any:
    """The part; one that fits for long has an attribute `progress` to tell how far it is, and `work` for a folder."""
    if hasattr(part, "progress"):
        part.progress = fitting.progress
    if hasattr(part, "work") and fitting.work is not None:
        part.work = fitting.work / name
    return part


def _unranked(project: Project) -> Project:
    return project.model_copy(update=dict.fromkeys(RANKERS))

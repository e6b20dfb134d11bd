"""Content: all that a page shows, from a training run or from an evaluation alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feedwell.core.project import Project
from feedwell.metrics import Interval
from feedwell.training.measure import Measured
from feedwell.training.report import CoverageRow, EvaluateReport, Gate, SystemRow, TrainReport
from feedwell.training.walk import PIPELINE


@dataclass(frozen=True, kw_only=True)
class Content:
    """`made_at` in µs; `units`: outcome → unit of its amounts; `cost`: stage → cpu_s, wall_s, peak_mb."""

    project: str
    digest: str
    made_at: int
    main_metric: str
    evaluation: EvaluateReport
    spans: Mapping[str, Any]
    n_exposures: Mapping[str, int]
    labels: Mapping[str, Mapping[str, int]]
    n_rows: int
    units: Mapping[str, str] = field(default_factory=dict)
    coverage: tuple[CoverageRow, ...] = ()
    warnings: tuple[str, ...] = ()
    cost: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    release_id: str | None = None

    @staticmethod
    def of_training(project: Project, made_at: int, report: TrainReport) -> Content:
        return Content(
            **_about(project, made_at),
            evaluation=report.evaluation,
            spans=report.spans,
            n_exposures=report.n_exposures,
            labels=report.labels,
            n_rows=report.n_rows,
            coverage=report.coverage,
            warnings=report.warnings,
            cost=report.cost,
            gates=report.gates,
            release_id=report.release_id,
        )

    @staticmethod
    def of_measured(project: Project, made_at: int, spans: Mapping[str, Any], found: Measured) -> Content:
        return Content(
            **_about(project, made_at),
            evaluation=found.evaluation,
            spans=spans,
            n_exposures=found.n_exposures,
            labels=found.labels,
            n_rows=0 if found.train is None else len(found.train),
            coverage=found.coverage,
            warnings=found.warnings,
            cost=found.cost,
        )

    @property
    def pipeline(self) -> SystemRow | None:
        return next((row for row in self.evaluation.rows if row.name == PIPELINE), None)

    @property
    def metric(self) -> str:
        """The metric that the page leads with: the gates', at the evaluated depth, else the first there is."""
        names = list(self.pipeline.metrics) if self.pipeline is not None else []
        wanted = f"{self.main_metric}@{self.evaluation.k}"
        return wanted if wanted in names else next(iter(names), "")

    @property
    def others(self) -> list[SystemRow]:
        """Every other way of making lists, best first."""
        rows = [row for row in self.evaluation.rows if row.kind != "pipeline"]
        return sorted(rows, key=lambda row: (-value_of(row.metrics[self.metric]), row.name))


def value_of(found: Interval) -> float:
    """What to sort by: an unknown value comes last."""
    return found.value if found.value == found.value else -1.0


def ends(found: Interval) -> tuple[float, float, float]:
    """All that a scale must hold."""
    return found.low, found.value, found.high


def _about(project: Project, made_at: int) -> dict[str, Any]:
    return {
        "project": project.project.name,
        "digest": project.digest,
        "made_at": made_at,
        "main_metric": project.gates.metric,
        "units": units_of(project),
    }


def units_of(project: Project) -> dict[str, str]:
    """Objective of durations or amounts → the one unit that its events declare, where they do."""
    found = {}
    for name, objective in project.objective.items():
        units = {section.unit for e in objective.events if (section := project.event.get(e)) and section.unit}
        if objective.kind in ("duration", "amount") and len(units) == 1:
            found[name] = units.pop()
    return found

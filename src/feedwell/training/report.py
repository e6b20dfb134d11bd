"""Reports: what a run found, as frozen rows; `to_dict` is plain JSON, the CLI draws tables from the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from feedwell.metrics import Interval


class Report:
    """Base: frozen dataclasses that turn into JSON; NaN becomes null."""

    def to_dict(self) -> dict[str, Any]:
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class SystemRow(Report):
    """One way to make lists. `kind`: pipeline, source or baseline; `metrics`: "recall@10" → interval by user.

    `gini` is over items. Of the groups of items: how unevenly exposure falls on them, and how far its shares are from
    their shares of what was relevant (total variation); NaN where nothing groups items.
    """

    name: str
    kind: str
    metrics: Mapping[str, Interval]
    diversity: Interval
    coverage: float
    gini: float
    group_gini: float = math.nan
    group_distance: float = math.nan


@dataclass(frozen=True, kw_only=True)
class GroupRow(Report):
    """A group of items: its share of the pipeline's exposure, each slot weighing 1 / log2(1 + slot), and of what was
    relevant."""

    group: str
    exposure: float
    relevant: float


@dataclass(frozen=True, kw_only=True)
class DifferenceRow(Report):
    """`name` minus `than` on the same requests; `detectable`: what a test at 5 % would have found with 80 % power."""

    name: str
    than: str
    metric: str
    difference: Interval
    detectable: float

    @property
    def wins(self) -> bool:
        return self.difference.low > 0


@dataclass(frozen=True, kw_only=True)
class HeadRow(Report):
    """How well a model predicts one objective in the test span, `over` its exposures, or over candidates: those that a
    source retrieved, and a sample of what else was retrieved and not chosen.

    `rate`: the share with the outcome, each row weighing what it stands for. `ranker_minus`: measure → the ranker's
    figure minus this model's, paired by user; empty in the ranker's own row, and where a model left rows out.
    """

    name: str
    objective: str
    over: str
    n: int
    positives: int
    rate: float
    auc: Interval
    grouped_auc: Interval
    log_loss: Interval
    ece: float
    ranker_minus: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReliabilityRow(Report):
    """Mean prediction and mean outcome in bins of equal weight, lowest first; `ece` the mean distance of the two, in
    the outcome's unit."""

    predicted: tuple[float, ...]
    happened: tuple[float, ...]
    weight: tuple[float, ...]
    ece: float
    log_loss: Interval


@dataclass(frozen=True, kw_only=True)
class CalibrationRow(Report):
    """What calibration did to one objective's predictions in the test span, by rows as `HeadRow` counts them; log loss
    is NaN where the outcome is not binary."""

    objective: str
    kind: str
    method: str
    over: str
    n: int
    outcomes: int
    before: ReliabilityRow
    after: ReliabilityRow
    log_loss_difference: Interval


@dataclass(frozen=True, kw_only=True)
class QuantityRow(Report):
    """How near a model comes to how much of a count, duration or amount there was; `over` as for heads.

    `rank_correlation` is Spearman's within users; `poisson_deviance` is for counts only, else NaN; `mean` of y.
    """

    name: str
    objective: str
    kind: str
    over: str
    n: int
    mean: float
    poisson_deviance: Interval
    rmse: Interval
    mae: Interval
    rank_correlation: Interval

    @property
    def loss(self) -> Interval:
        return self.poisson_deviance if self.kind == "count" else self.rmse

    @property
    def loss_name(self) -> str:
        return "Poisson deviance" if self.kind == "count" else "RMSE"


@dataclass(frozen=True, kw_only=True)
class SliceRow(Report):
    """One way to make lists in a part of the requests.

    `pipeline_minus`: the pipeline's metrics minus these, paired; a project's own may be of other requests for each.
    """

    slice: str
    name: str
    n_requests: int
    metrics: Mapping[str, Interval]
    pipeline_minus: Mapping[str, Interval] = field(default_factory=dict)
    diversity: float = math.nan
    coverage: float = math.nan
    gini: float = math.nan


@dataclass(frozen=True, kw_only=True)
class FunnelRow(Report):
    """One step from candidates to slates: "retrieved", what took some away ("filter.seen", "cut.light"), "scored", what
    the slate took away ("not selected"), "shown". `candidates` is a mean per request, `wanted` a share of all that
    users wanted."""

    step: str
    candidates: float
    wanted: float


@dataclass(frozen=True, kw_only=True)
class SourceRow(Report):
    """What a source contributes: candidates per request, its share of the shown slots and of what users wanted, and the
    shares that no other source brought."""

    name: str
    candidates: float
    shown: float
    shown_alone: float
    recall: Interval
    recall_alone: Interval


@dataclass(frozen=True, kw_only=True)
class LorenzRow(Report):
    """How evenly slots fall on the catalog: (share of items, share of what they got), those with the least first."""

    name: str
    points: tuple[tuple[float, float], ...]
    gini: float


@dataclass(frozen=True, kw_only=True)
class CurveRow(Report):
    """Loss per round (a tree, an epoch) of one head of a fitted part; `best` is the round that was kept, from 0."""

    part: str
    head: str
    train: tuple[float, ...]
    valid: tuple[float, ...]
    best: int


@dataclass(frozen=True, kw_only=True)
class EvaluateReport(Report):
    """The metrics table and what a reader must know: how many requests and users, what is not causal, who won."""

    k: int
    relevant: str
    n_requests: int
    n_counted: int
    n_users: int
    note: str
    rows: tuple[SystemRow, ...]
    differences: tuple[DifferenceRow, ...] = ()
    heads: tuple[HeadRow, ...] = ()
    calibration: tuple[CalibrationRow, ...] = ()
    quantities: tuple[QuantityRow, ...] = ()
    funnel: tuple[FunnelRow, ...] = ()
    sources: tuple[SourceRow, ...] = ()
    lorenz: tuple[LorenzRow, ...] = ()
    curves: tuple[CurveRow, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    """The 20 that the pipeline exposed most."""
    statements: tuple[str, ...] = ()
    degraded: Mapping[str, int] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)

    def row(self, name: str) -> SystemRow:
        return next(r for r in self.rows if r.name == name)


@dataclass(frozen=True, kw_only=True)
class CoverageRow(Report):
    """Shares of values that are not null, and not zero, in the training rows and as served.

    `gap`: of the exposures that replay retrieved too, the share whose batch and online values differ; `serving_gap`: of
    recorded slots, the share whose value then is not what the batch plan reads now.
    """

    feature: str
    declared: bool
    train_non_null: float
    train_non_zero: float
    serve_non_null: float
    serve_non_zero: float
    gap: float
    serving_gap: float


@dataclass(frozen=True, kw_only=True)
class Gate(Report):
    name: str
    passed: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class ScoreShift(Report):
    """How one objective's scores for the same rows moved from one fit to another.

    `rank_correlation` is Spearman's: 1 the same order; 0 too where only one of the two tells rows apart. `mean_ratio`
    is the larger mean over the smaller: 1 the same level; where a mean is not above 0, 1 + their distance in standard
    deviations of the first. Both are NaN where there is nothing to compare.
    """

    rank_correlation: float
    mean_ratio: float

    @property
    def measured(self) -> bool:
        return math.isfinite(self.rank_correlation)

    def within(self, min_rank_correlation: float, max_mean_ratio: float) -> bool:
        """Not where nothing was measured."""
        return self.rank_correlation >= min_rank_correlation and self.mean_ratio <= max_mean_ratio


@dataclass(frozen=True, kw_only=True)
class TrainReport(Report):
    """What `train` did; `release_id` is None where it stopped short of a release."""

    release_id: str | None
    spans: Mapping[str, Any]
    n_exposures: Mapping[str, int]
    n_rows: int
    labels: Mapping[str, Mapping[str, int]]
    coverage: tuple[CoverageRow, ...]
    evaluation: EvaluateReport
    gates: tuple[Gate, ...]
    score_shift: Mapping[str, ScoreShift]
    """objective → the released scores beside the judged ones"""
    warnings: tuple[str, ...]
    cost: Mapping[str, Mapping[str, float]]
    """Stage → cpu_s, wall_s, peak_mb; "fit <part>" is a part's share of the refit."""
    served: Mapping[str, int] = field(default_factory=dict)
    """slots that were served, events that they hold (no exposures of their own), slots seen."""


def _plain(value: Any) -> Any:
    if isinstance(value, Report | Interval):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""Evaluate: lists under replay → the metrics table, with intervals by user, slices and plain statements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core.needs import ColumnNeed
from feedwell.core.project import Project
from feedwell.core.request import Keys
from feedwell.data.split import Spans
from feedwell.features import FeatureSet, asof
from feedwell.metrics import Lists, Ratios, difference
from feedwell.metrics.beyond_accuracy import BeyondAccuracy, Shown, diversity_values
from feedwell.metrics.exposure import Attention, Exposure
from feedwell.training.compare import METRICS, differences, statements
from feedwell.training.funnel import lorenz_points
from feedwell.training.inputs import Inputs
from feedwell.training.metric_set import MetricSet, metric_set
from feedwell.training.report import (
    CalibrationRow,
    EvaluateReport,
    GroupRow,
    HeadRow,
    LorenzRow,
    QuantityRow,
    SliceRow,
    SystemRow,
)
from feedwell.training.statements import head_statements, quantity_statements
from feedwell.training.walk import PIPELINE, Walked, relevant_name

WANTED = "what users wanted"
_QUARTERS = 4
_FEW = 8
_MOST_GROUPS = 20


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How well each objective is predicted: yes or no, how much, and what calibration did."""

    heads: tuple[HeadRow, ...] = ()
    calibration: tuple[CalibrationRow, ...] = ()
    quantities: tuple[QuantityRow, ...] = ()


def report(
    inputs: Inputs,
    project: Project,
    spans: Spans,
    walked: Walked,
    *,
    judged: Judged = Judged(),
    cost: Mapping[str, float] | None = None,
) -> EvaluateReport:
    """The evaluation of what a walk answered. Requests with nothing relevant count for coverage and diversity only."""
    k, bootstrap = project.evaluate.k, project.evaluate.bootstrap
    catalog = np.arange(inputs.log.ids.size("item"), dtype=np.int64)
    group_I = item_groups(inputs, project, spans.end)
    by_name = {name: walked.lists(name) for name in walked.ranked}
    metrics = metric_set(inputs, project, spans.end)
    ratios = {name: metrics.ratios(lists, bootstrap) for name, lists in by_name.items()}
    rows = tuple(
        _row(name, walked.kinds[name], ratios[name], by_name[name], group_I, catalog, project) for name in by_name
    )
    others = [name for name in by_name if walked.kinds[name] != "pipeline"]
    compared = differences(PIPELINE, ratios, others, k) if PIPELINE in ratios else ()
    counted = np.array([len(r) > 0 for r in walked.relevant], np.bool_)
    users = np.array(walked.user_R, np.int64)
    return EvaluateReport(
        k=k,
        relevant=relevant_name(project),
        n_requests=len(users),
        n_counted=int(counted.sum()),
        n_users=len(np.unique(users[counted])) if len(users) else 0,
        note=spans.note,
        rows=rows,
        differences=compared,
        heads=judged.heads,
        calibration=judged.calibration,
        quantities=judged.quantities,
        funnel=walked.funnel.rows(),
        sources=walked.funnel.sources(min(bootstrap, 200)),
        lorenz=_lorenz(by_name, walked, catalog),
        slices=_slices(walked, by_name, metrics, Catalog(items=catalog, group_I=group_I, bootstrap=bootstrap)),
        groups=_groups(inputs, project, by_name[PIPELINE], group_I) if PIPELINE in by_name else (),
        statements=statements([d for d in compared if d.metric.startswith("ndcg")])
        + head_statements(judged.heads)
        + quantity_statements(judged.quantities),
        degraded=dict(walked.degraded),
        cost=dict(cost or {}),
    )


def _lorenz(by_name: Mapping[str, Lists], walked: Walked, catalog: Keys) -> tuple[LorenzRow, ...]:
    """Of each way of making lists, and of what users wanted: no list should be much less even than that."""
    shown = {name: Shown.of(lists.ranked_RK, catalog) for name, lists in by_name.items()}
    wanted = np.concatenate([np.empty(0, np.int64), *walked.relevant])
    shown[WANTED] = Shown.of(wanted[None, :], catalog)
    return tuple(
        LorenzRow(name=name, points=lorenz_points(s.count_I), gini=s.gini)
        for name, s in shown.items()
        if s.count_I.any()
    )


def item_groups(inputs: Inputs, project: Project, t: int) -> Keys:
    """group_I[key]: the key of each item's group as of t, else of the first entity derived from items; -1: it has none.

    Empty where the project declares neither: there is nothing to tell items apart by.
    """
    n = inputs.log.ids.size("item")
    column = _grouping(project)
    segments = inputs.log.segment_paths()
    if not column or not segments or not n:
        return np.empty(0, np.int64)
    frame = pa.table({"t": np.full(n, t, np.int64), "item": np.arange(n, dtype=np.int64)})
    need = ColumnNeed("item", column)
    read = asof(FeatureSet.compile(project, (need,)), segments, frame, columns=[f"item.{column}"], engine=inputs.view())
    value = read[f"item.{column}"].to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(np.isnan(value), -1, value).astype(np.int64)


def _grouping(project: Project) -> str:
    item = project.entity.get("item")
    if item and item.group:
        return item.group
    return next((column for base, column in project.derived_entities.values() if base == "item"), "")


def _row(
    name: str, kind: str, ratios: Ratios, lists: Lists, group_I: Keys, catalog: Keys, project: Project
) -> SystemRow:
    k = project.evaluate.k
    family = BeyondAccuracy(BeyondAccuracy.Config(k=k))
    shown, attention = family.shown(lists, catalog), attention_of(lists, group_I, k)
    return SystemRow(
        name=name,
        kind=kind,
        metrics={f"{metric}@{k}": ratios.interval(metric) for metric in ratios.names},
        diversity=family(lists, group_I, bootstrap=min(project.evaluate.bootstrap, 200)).interval("diversity"),
        coverage=shown.coverage,
        gini=shown.gini,
        group_gini=attention.gini,
        group_distance=attention.distance,
    )


def attention_of(lists: Lists, group_I: Keys, k: int) -> Attention:
    """The exposure of each group of items in the first k slots, beside how often it was relevant."""
    return Exposure(Exposure.Config(k=k))(lists, group_I, int(group_I.max(initial=-1)) + 1)


def _groups(inputs: Inputs, project: Project, lists: Lists, group_I: Keys) -> tuple[GroupRow, ...]:
    attention = attention_of(lists, group_I, project.evaluate.k)
    share_G, merit_G = attention.share_G, attention.merit_G
    most = np.lexsort((-merit_G, -share_G))[:_MOST_GROUPS]
    most = most[(share_G[most] > 0) | (merit_G[most] > 0)]
    if not len(most):
        return ()
    column = _grouping(project)
    entity = next((e for e, origin in project.derived_entities.items() if origin == ("item", column)), column)
    names = inputs.log.ids.names(entity, most.tolist())
    return tuple(
        GroupRow(group=name or str(g), exposure=float(share_G[g]), relevant=float(merit_G[g]))
        for g, name in zip(most.tolist(), names, strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """What slices are seen against: the items that may be shown, the group of each, how many replicates."""

    items: Keys
    group_I: Keys
    bootstrap: int


def _slices(
    walked: Walked, by_name: Mapping[str, Lists], measured: MetricSet, catalog: Catalog
) -> tuple[SliceRow, ...]:
    known_R = np.array(walked.known_R, np.int64)
    masks: dict[str, NDArray[np.bool_]] = {"cold (no event before)": known_R == 0, "warm": known_R > 0}
    for column in walked.user_features[0] if walked.user_features else ():
        masks |= _buckets(column, np.array([row[column] for row in walked.user_features], np.float64))
    rows = []
    for label, mask in masks.items():
        if not mask.any():
            continue
        inside = {name: lists.take(mask) for name, lists in by_name.items()}
        ratios = {name: measured.ratios(lists, min(catalog.bootstrap, 200)) for name, lists in inside.items()}
        for name, lists in inside.items():
            shown = Shown.of(lists.ranked_RK[:, : measured.k], catalog.items)
            varied_R = diversity_values(lists.ranked_RK[:, : measured.k], catalog.group_I)
            rows.append(
                SliceRow(
                    slice=label,
                    name=name,
                    n_requests=int(mask.sum()),
                    metrics={f"{m}@{measured.k}": ratios[name].interval(m) for m in ratios[name].names},
                    pipeline_minus={
                        f"{m}@{measured.k}": difference(ratios[PIPELINE], ratios[name], m)
                        for m in METRICS
                        if PIPELINE in ratios and name != PIPELINE
                    },
                    diversity=float(np.nanmean(varied_R)) if not np.isnan(varied_R).all() else float("nan"),
                    coverage=shown.coverage,
                    gini=shown.gini,
                )
            )
    return tuple(rows)


def _buckets(column: str, value_R: Any) -> dict[str, NDArray[np.bool_]]:
    """Each value where there are few, quarters where there are many; missing ones apart."""
    missing = np.isnan(value_R)
    masks = {f"{column} missing": missing}
    values = np.unique(value_R[~missing])
    if len(values) <= _FEW:
        masks |= {f"{column} = {v:g}": value_R == v for v in values}
    else:
        edges = np.quantile(value_R[~missing], np.linspace(0, 1, _QUARTERS + 1)[1:-1])
        at = np.searchsorted(edges, value_R, side="right")
        masks |= {f"{column} quarter {q + 1}": (at == q) & ~missing for q in range(_QUARTERS)}
    return masks

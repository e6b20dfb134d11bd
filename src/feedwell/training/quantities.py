"""Quantities: how well counts, durations and amounts are predicted in the test span, beside the simplest models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from feedwell.core.candidates import Float
from feedwell.core.project import Project
from feedwell.metrics import Interval
from feedwell.metrics.quantity import Quantity, root
from feedwell.training.heads import CONSTANT, LOGISTIC, scopes
from feedwell.training.report import QuantityRow
from feedwell.training.rows import Rows

ITEM_MEAN, LINEAR = "item mean", "linear"
_PRIOR = 20.0
_NOT_FOR_THIS = Interval(value=float("nan"), low=float("nan"), high=float("nan"), n_units=0)


def quantity_rows(
    project: Project, models: Mapping[str, Mapping[str, Float]], train: Rows, test: Rows, *, bootstrap: int = 200
) -> tuple[QuantityRow, ...]:
    """One row per model and objective that is no yes or no: those models, the item's own mean and a constant.

    `models` as `heads.models_of` gives them: what is called logistic there is log-linear here. Where an outcome goes
    below 0, which that one can't be fitted for, ridge regression stands in for it.
    """
    rows = []
    for over, (learned_N, inside_N) in scopes(train, test).items():
        for name, objective in project.objective.items():
            known_N = inside_N & ~np.isnan(test.ranking.labels[name])
            if objective.kind == "binary" or not known_N.any():
                continue
            judged = {_called(project, model): p[name][known_N] for model, p in models.items() if name in p}
            if not {LINEAR, LOGISTIC} & set(judged):
                judged[LINEAR] = _ridge(train, learned_N, name, test)[known_N]
            judged[ITEM_MEAN] = _item_means(train, learned_N, name, test.item_N[known_N])
            judged[CONSTANT] = np.full(int(known_N.sum()), _mean(train, learned_N, name))
            kind = objective.kind
            rows += [_judge((m, name, kind, over), test, known_N, p_n, bootstrap) for m, p_n in judged.items()]
    return tuple(rows)


def _judge(
    named: tuple[str, str, str, str], rows: Rows, known_N: Any, predicted_n: Float, bootstrap: int
) -> QuantityRow:
    model, objective, kind, over = named
    user_n, y_n = rows.user_N[known_N], rows.ranking.labels[objective][known_N]
    weight_n = rows.ranking.weight_N[known_N]
    found = Quantity()(user_n, user_n, y_n, predicted_n, weight_N=weight_n, bootstrap=max(bootstrap, 20))
    return QuantityRow(
        name=model,
        objective=objective,
        kind=kind,
        over=over,
        n=len(y_n),
        mean=float(np.average(y_n, weights=weight_n)),
        poisson_deviance=found.interval("poisson_deviance") if kind == "count" else _NOT_FOR_THIS,
        rmse=root(found.interval("squared_error")),
        mae=found.interval("absolute_error"),
        rank_correlation=found.interval("rank_correlation"),
    )


def _called(project: Project, model: str) -> str:
    ours = project.ranker.kind if project.ranker else ""
    return LINEAR if model == LOGISTIC and ours != LOGISTIC else model


def _known(train: Rows, learned_N: Any, name: str) -> tuple[Any, Float, Float]:
    """(which training rows, their y, their weight)."""
    y_N = train.ranking.labels[name]
    known_N = ~np.isnan(y_N) & learned_N
    return known_N, y_N[known_N], train.ranking.weight_N[known_N]


def _mean(train: Rows, learned_N: Any, name: str) -> float:
    _, y, w = _known(train, learned_N, name)
    return float(y @ w / w.sum()) if w.sum() else 0.0


def _item_means(train: Rows, learned_N: Any, name: str, item_n: Any) -> Float:
    """The item's mean, drawn to the mean of all by 20 pseudo-rows."""
    known_N, y, w = _known(train, learned_N, name)
    item = train.item_N[known_N]
    size = int(max(item.max(initial=0), item_n.max(initial=0))) + 1
    n_I, y_I = np.bincount(item, weights=w, minlength=size), np.bincount(item, weights=w * y, minlength=size)
    mean_I = (y_I + _PRIOR * _mean(train, learned_N, name)) / (n_I + _PRIOR)
    return np.asarray(mean_I[item_n], np.float64)


def _ridge(train: Rows, learned_N: Any, name: str, test: Rows) -> Float:
    """Least squares with a penalty of 1 on standardised log-scaled features; missing ones at their mean."""
    known_N, y, w = _known(train, learned_N, name)
    if not len(y):
        return np.zeros(len(test))
    x, new = (
        np.sign(f) * np.log1p(np.abs(f)) for f in (r.ranking.features_NF.astype(np.float64) for r in (train, test))
    )
    x = x[known_N]
    seen = np.isfinite(x)
    n_F = np.maximum(seen.sum(axis=0), 1)
    mean_F = np.where(seen, x, 0).sum(axis=0) / n_F
    sd_F = np.sqrt((np.where(seen, x - mean_F, 0) ** 2).sum(axis=0) / n_F)
    x, new = (np.where(np.isfinite(v), v - mean_F, 0) / np.where(sd_F > 0, sd_F, 1) for v in (x, new))
    centre = float(y @ w / w.sum())
    weights = np.linalg.solve(x.T @ (x * w[:, None]) + np.eye(x.shape[1]), x.T @ (w * (y - centre)))
    return np.asarray(new @ weights + centre, np.float64)

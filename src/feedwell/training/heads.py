"""Heads: how well each objective is predicted on the exposures of the test span, beside the simplest models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from feedwell.core.candidates import Float
from feedwell.core.errors import DataError
from feedwell.core.project import PartSection, Project
from feedwell.metrics import Interval, Ratios, difference
from feedwell.metrics.calibration import Aucs, Calibration, Reliability
from feedwell.training.calibrate import CANDIDATES, EXPOSURES, fit_in_order
from feedwell.training.parts import RANKER, Parts
from feedwell.training.report import HeadRow
from feedwell.training.rows import Rows, servable

CONSTANT, POPULARITY, LOGISTIC = "constant", "popularity", "logistic"
_PRIOR = 20.0


def models_of(parts: Parts, train: Rows, test: Rows, calibrate_N: Any) -> dict[str, Mapping[str, Float]]:
    """model → objective → what it predicts for the test rows: the ranker as it would be served, then a linear model.

    The linear one goes the same way: fitted on the same rows, calibrated on those that `calibrate_N` marks in `train`.
    """
    models: dict[str, Mapping[str, Float]] = {}
    ranker = parts.project.ranker
    if RANKER in parts.fitted:
        models[ranker.kind if ranker else RANKER] = parts.predict(test.ranking)
    if LOGISTIC not in models:
        linear = _linear(parts, train, calibrate_N)
        models |= {} if linear is None else {LOGISTIC: linear.predict(test.ranking)}
    return models


def scopes(train: Rows, test: Rows) -> dict[str, tuple[Any, Any]]:
    """What is judged → (the training rows that the simplest models learn from, the test rows that are judged)."""
    learned_N = learned_from(train)
    return {
        EXPOSURES: (train.exposed_N & learned_N, test.exposed_N),
        CANDIDATES: (train.retrieved_N & learned_N, test.retrieved_N),
    }


def learned_from(train: Rows) -> Any:
    """The rows that the ranker was not stopped by; all where nothing else is there."""
    keep_N = ~train.ranking.valid_N
    return keep_N if keep_N.any() else ~keep_N


def head_rows(
    project: Project, models: Mapping[str, Mapping[str, Float]], train: Rows, test: Rows, *, bootstrap: int = 200
) -> tuple[HeadRow, ...]:
    """One row per model and binary objective: those models (the ranker first), the item's own rate and a constant.

    All are judged on the same rows of the test span whose window has closed: its exposures, whoever showed them, and
    the candidates that our own sources retrieved, which is what the ranker is fitted for. The constant and the rates
    learn from the training rows of the kind that is judged, those of calibration included; no model learns from the
    rows that the ranker is stopped by.
    """
    rows = []
    for over, (learned_N, inside_N) in scopes(train, test).items():
        for name, objective in project.objective.items():
            known_N = inside_N & ~np.isnan(test.ranking.labels[name])
            if objective.kind != "binary" or not known_N.any():
                continue
            judged = {model: p[name][known_N] for model, p in models.items() if name in p}
            judged[POPULARITY] = _item_rates(train, learned_N, name, test.item_N[known_N])
            judged[CONSTANT] = np.full(int(known_N.sum()), _rate(train, learned_N, name))
            held = {model: _Judged.of(test, known_N, name, p_n, bootstrap) for model, p_n in judged.items()}
            ranker = next(iter(held.values()))
            rows += [found.row(model, name, over, ranker) for model, found in held.items()]
    return tuple(rows)


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """One model's predictions p_n of one objective held against y_n: AUC over all rows, within users, and log loss."""

    y_n: Float
    p_n: Float
    weight_n: Float
    aucs: Aucs
    rest: Ratios

    @staticmethod
    def of(rows: Rows, known_N: Any, objective: str, p_n: Float, bootstrap: int) -> _Judged:
        user_n, y_n = rows.user_N[known_N], rows.ranking.labels[objective][known_N]
        weight_n, replicates = rows.ranking.weight_N[known_N], max(bootstrap, 20)
        return _Judged(
            y_n=y_n,
            p_n=p_n,
            weight_n=weight_n,
            aucs=Aucs.of(user_n, y_n, p_n, bootstrap=replicates),
            rest=Calibration()(user_n, user_n, y_n, p_n, weight_N=weight_n, bootstrap=replicates),
        )

    def row(self, model: str, objective: str, over: str, ranker: _Judged) -> HeadRow:
        """Each with an interval by user, and the calibration error."""
        return HeadRow(
            name=model,
            objective=objective,
            over=over,
            n=len(self.y_n),
            positives=int(self.y_n.sum()),
            rate=float(self.y_n @ self.weight_n / total) if (total := self.weight_n.sum()) else float("nan"),
            auc=self.aucs.interval,
            grouped_auc=self.rest.interval("grouped_auc"),
            log_loss=self.rest.interval("log_loss"),
            ece=Reliability.of(self.y_n, self.p_n, self.weight_n).ece,
            ranker_minus=self._behind(ranker),
        )

    def _behind(self, ranker: _Judged) -> dict[str, Interval]:
        if self is ranker or not np.array_equal(np.isnan(self.p_n), np.isnan(ranker.p_n)):
            return {}
        rest = {name: difference(ranker.rest, self.rest, name) for name in self.rest.names}
        return {"auc": ranker.aucs.minus(self.aucs)} | rest


def _linear(parts: Parts, train: Rows, calibrate_N: Any) -> Parts | None:
    """The same recipe with logistic regression for a ranker, for all objectives but those below 0."""
    learned, _ = servable(train)
    marked_N = calibrate_N if len(learned) == len(train) else calibrate_N[train.retrieved_N]
    labels = {
        name: y_N
        for name, y_N in learned.ranking.labels.items()
        if parts.project.objective[name].kind == "binary" or not (y_N < 0).any()
    }
    learned = replace(learned, ranking=replace(learned.ranking, labels=labels))
    ranker = PartSection.model_validate({"kind": LOGISTIC})
    project = parts.project.model_copy(update={"ranker": ranker, "light": None})
    try:
        return fit_in_order(replace(parts, project=project, fitted={}), learned, marked_N)
    except DataError:
        return None


def _rate(train: Rows, inside_N: Any, name: str) -> float:
    """The share of those training rows with the outcome, each weighing what it stands for."""
    y = train.ranking.labels[name]
    known = ~np.isnan(y) & inside_N
    w = train.ranking.weight_N[known]
    return float(((y[known] > 0) @ w + 0.5) / (w.sum() + 1))


def _item_rates(train: Rows, inside_N: Any, name: str, item_n: Any) -> Float:
    """The same share by item, drawn to the mean by 20 pseudo-rows."""
    y = train.ranking.labels[name]
    known = ~np.isnan(y) & inside_N
    item, w = train.item_N[known], train.ranking.weight_N[known]
    size = int(max(item.max(initial=0), item_n.max(initial=0))) + 1
    n_I = np.bincount(item, weights=w, minlength=size)
    y_I = np.bincount(item, weights=w * (y[known] > 0), minlength=size)
    rate_I = (y_I + _PRIOR * _rate(train, inside_N, name)) / (n_I + _PRIOR)
    return np.asarray(rate_I[item_n], np.float64)

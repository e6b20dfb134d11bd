"""Retailrocket, two tasks, both split by time.

    FEEDWELL_DATA=... python benchmarks/bench_retailrocket.py [--task a|b] [--recipes "xgboost,mmoe + two_tower"]

(a) Given the views of the test span (last 20 %), rank each user's by cart and by buy within 7 days: XGBoost and
    logistic regression over the same as-of features, popularity (the item's own rate) and recency (logistic regression
    on the view's place among the user's views, newest last). The file holds each (user, item, event) once, so nothing
    that reads earlier views of the same pair says anything. Hyper-parameters are chosen by log loss on the span before,
    from which no model learns anything else. Then `mmoe` and `xgboost` with their defaults and their calibration, all
    fitted as a `train` goes; nothing of them is chosen here.
(b) The next item that the user never touched before, for users with an earlier event: five rolling weeks, all models
    refitted before each, pooled; paired bootstrap by user, with the difference that could have been seen. Recipes are
    those of bench_learned.py; "retrieval order" is the recipe's pipeline without its ranker.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from _project import cell, show, workspace_of
from _report import Stopwatch, header
from _views import TEST_SPAN, Views
from bench_learned import BASE, RECIPES, UNRANKED, recipe, unranked

from feedwell.core.clock import DAY
from feedwell.core.protocols import RankingRows
from feedwell.core.registry import find
from feedwell.data.interactions import UserEvents, user_events
from feedwell.data.split import Spans
from feedwell.metrics import Lists, Ratios, difference, smallest_detectable
from feedwell.metrics.calibration import Calibration, Reliability, auc_interval
from feedwell.pipeline.compile import setting_of
from feedwell.training.compare import METRICS, differences, statement
from feedwell.training.inputs import Inputs
from feedwell.training.measure import measure
from feedwell.training.metric_set import MetricSet
from feedwell.training.rows import Rows
from feedwell.training.walk import PIPELINE, Moments, Relevance
from feedwell.workspace import Workspace

BOOTSTRAP = 1000
WEEKS, WEEK = 5, 7 * DAY
GRID = {"max_depth": (3, 5, 7), "min_child_weight": (5.0, 20.0), "learning_rate": (0.05,)}
RANKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mmoe": ("mmoe", {}),
    "xgboost": ("xgboost", {}),
    "mmoe, history off": ("mmoe", {"history": 0}),
}
Predictions = dict[str, Any]
"""ranker → objective → p_N"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", choices=("a", "b"), default=None)
    parser.add_argument("--recipes", default=BASE, help=f"of (b), by comma: {', '.join(RECIPES)}")
    given = parser.parse_args()
    task = given.task
    print(header("retailrocket, [split] by = time"))
    if task in (None, "a"):
        with workspace_of("retailrocket") as workspace, Stopwatch() as watch:
            views = Views.of(workspace)
            outcomes_of_views(views)
            rankers_of_views(views)
        print(f"# {watch}\n")
    if task in (None, "b"):
        touch = '[objective.touch]\nevents = ["view", "cart", "buy"]\nwithin = "1s"\n\n[filter.seen]'
        changes = [
            ("[filter.seen]", touch),
            ('[filter.seen]\nevents = ["buy"]', '[filter.seen]\nevents = ["view", "cart", "buy"]'),
            ('relevant = "cart"', 'relevant = "touch"'),
            ('horizon = "7d"', 'horizon = "1us"'),
            ("max_requests = 6000", "min_feature_share = 0.0\nmax_requests = 6000"),
            ("explore = { first = 6, last = 10,", "explore = { first = 1, last = 0,"),
        ]
        with workspace_of("retailrocket", changes) as workspace, Stopwatch() as watch:
            next_new_item(workspace, given.recipes.split(","))
        print(f"# {watch}")


# -- (a) -------------------------------------------------------------------------------------------------------------


def outcomes_of_views(views: Views) -> None:
    """One table per objective: AUC within users and over all, log loss, and XGBoost minus each of the others."""
    rows, span_X, project = views.rows, views.span_N, views.parts.project
    user_X, x_XF, names = rows.user_N, rows.ranking.features_NF, rows.ranking.feature_names
    for name, y_X in rows.ranking.labels.items():
        known = ~np.isnan(y_X)
        train, valid, test = (known & np.isin(span_X, s) for s in ([0, 1], [2], [3]))
        print(
            f"## {name} within 7 days of a view: {train.sum():,} / {valid.sum():,} / {test.sum():,} views whose window "
            f"has closed, "
            f"{y_X[train].sum():.0f} / {y_X[valid].sum():.0f} / {y_X[test].sum():.0f} positive; "
            f"{len(np.unique(user_X[test])):,} users in the test"
        )
        place_X1 = _place(user_X, rows.t_N, np.where(span_X < 2, 0, span_X))[:, None].astype(np.float32)
        recency = _Fitted(project, name, place_X1, ("place",), y_X, train, valid)
        fitted = _Fitted(project, name, x_XF, names, y_X, train, valid)
        rate = float(y_X[train].mean())
        predicted = {
            "xgboost": fitted.xgboost(test),
            "logistic": fitted.logistic(test),
            "recency": recency.logistic(test),
            "popularity": _item_rate(rows.item_N, y_X, train, rate)[test],
            "constant": np.full(int(test.sum()), rate),
        }
        _print_outcomes(predicted, user_X[test], y_X[test])


def rankers_of_views(views: Views) -> None:
    """Rankers and their calibration as a `train` fits them: one table per objective, then mmoe minus each."""
    test = views.span(TEST_SPAN)
    raw, served = {}, {}
    for name, (kind, config) in RANKERS.items():
        with Stopwatch() as watch:
            fitted = views.fitted(kind, **config)
        print(f"# {name}: {watch}", flush=True)
        raw[name], served[name] = (fitted.predict(test.ranking, calibrated=c) for c in (False, True))
    for objective in test.ranking.labels:
        print(f"## {objective}, each ranker with its defaults, calibrated on the span before the test")
        _print_rankers(test, objective, raw, served)


def _print_rankers(test: Rows, objective: str, raw: Predictions, served: Predictions) -> None:
    y_N = test.ranking.labels[objective]
    known = ~np.isnan(y_N)
    user, y = test.user_N[known], y_N[known]
    p_of = [{name: p[objective][known] for name, p in of.items()} for of in (raw, served)]
    before, after = ({n: Calibration()(user, user, y, p, bootstrap=BOOTSTRAP) for n, p in of.items()} for of in p_of)
    print("| | AUC within users | AUC | log loss before → after | ECE before → after |\n" + "|---" * 5 + "|")
    for name in raw:
        losses = [cell(stats[name].interval("log_loss")) for stats in (before, after)]
        errors = [f"{Reliability.of(y, of[name]).ece:.4f}" for of in p_of]
        over_all = auc_interval(user, y, p_of[1][name], bootstrap=200)
        print(
            f"| {name} | {cell(after[name].interval('grouped_auc'))} | {cell(over_all)} | {' → '.join(losses)} "
            f"| {' → '.join(errors)} |"
        )
    _print_differences("mmoe", after)


class _Fitted:
    def __init__(self, project: Any, name: str, x: Any, names: tuple[str, ...], y: Any, train: Any, valid: Any) -> None:
        self.project = project.model_copy(update={"objective": {name: project.objective[name]}})
        self.name, self.x, self.names, self.y, self.train, self.valid = name, x, names, y, train, valid

    def xgboost(self, test: Any) -> Any:
        """The configuration of the grid with the least log loss on the validation span, as it stopped there."""
        found = []
        for values in product(*GRID.values()):
            config = dict(zip(GRID, values, strict=True)) | {"n_trees": 1000, "patience": 50}
            model = self._fit("xgboost", config)
            found.append(
                (self._loss(model.predict(self._rows(self.valid))[self.name], self.y[self.valid]), config, model)
            )
        loss, config, model = min(found, key=lambda f: f[0])
        print(f"chosen on validation: {config}, log loss {loss:.4f}")
        return model.predict(self._rows(test))[self.name]

    def logistic(self, test: Any) -> Any:
        return self._fit("logistic", {}).predict(self._rows(test))[self.name]

    def _fit(self, kind: str, config: dict[str, Any]) -> Any:
        part: Any = find("scorer", kind)
        model = part(part.Config(**config), setting_of(self.project, "value"))
        model.fit(self._rows(self.train | self.valid))
        return model

    def _rows(self, inside: Any) -> RankingRows:
        n = int(inside.sum())
        return RankingRows(
            features_NF=self.x[inside],
            feature_names=self.names,
            labels={self.name: self.y[inside]},
            group_N=np.arange(n),
            weight_N=np.ones(n),
            valid_N=self.valid[inside],
        )

    @staticmethod
    def _loss(p: Any, y: Any) -> float:
        p = np.clip(p, 1e-7, 1 - 1e-7)
        return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())


def _place(user_X: Any, t_X: Any, span_X: Any) -> Any:
    """0 for a user's oldest view of the span to 1 for the newest."""
    order = np.lexsort((t_X, user_X, span_X))
    start = np.concatenate([[True], (np.diff(user_X[order]) != 0) | (np.diff(span_X[order]) != 0)])
    group = np.cumsum(start) - 1
    n = np.bincount(group)
    place = np.empty(len(order))
    place[order] = (np.arange(len(order)) - np.flatnonzero(start)[group]) / np.maximum(n[group] - 1, 1)
    return place


def _item_rate(item_X: Any, y_X: Any, inside: Any, rate: float, prior: float = 20.0) -> Any:
    n = np.bincount(item_X[inside], minlength=item_X.max() + 1)
    positive = np.bincount(item_X[inside], weights=y_X[inside], minlength=item_X.max() + 1)
    return ((positive + prior * rate) / (n + prior))[item_X]


def _print_outcomes(predicted: dict[str, Any], user: Any, y: Any) -> None:
    stats = {n: Calibration()(user, user, y, p, bootstrap=BOOTSTRAP) for n, p in predicted.items()}
    print("| | AUC within users | AUC | log loss |\n|---|---|---|---|")
    for name, p in predicted.items():
        over_all = auc_interval(user, y, p, bootstrap=200)
        print(
            f"| {name} | {cell(stats[name].interval('grouped_auc'))} | {cell(over_all)} "
            f"| {cell(stats[name].interval('log_loss'))} |"
        )
    _print_differences("xgboost", stats)


def _print_differences(name: str, stats: dict[str, Ratios]) -> None:
    """`name` minus each of the others, paired by user."""
    for other in [n for n in stats if n != name]:
        for metric in ("grouped_auc", "log_loss"):
            d = difference(stats[name], stats[other], metric)
            seen = smallest_detectable(stats[name], stats[other], metric)
            print(f"{name} - {other} on {metric}: {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}], detectable {seen:.4f}")


# -- (b) -------------------------------------------------------------------------------------------------------------


def next_new_item(workspace: Workspace, recipes: Sequence[str]) -> None:
    """Five weeks, each with models fitted before it; the lists of all weeks together, a table for each recipe."""
    opened = replace(workspace.training_inputs(), progress=show)
    base = None
    for name in recipes:
        project = recipe(opened.project_text, name)
        project = project.model_copy(update={"objective": {"touch": project.objective["touch"]}})
        print(f"### {name}")
        with Stopwatch() as watch:
            ratios = _five_weeks(replace(opened, project=project))
        print("| | " + " | ".join(f"{m}@10" for m in METRICS) + " |\n" + "|---" * 5 + "|")
        for one, r in ratios.items():
            print(f"| {one} | {' | '.join(cell(r.interval(m)) for m in METRICS)} |")
        print(f"{ratios[PIPELINE].interval('ndcg').n_units:,} users")
        for row in differences(PIPELINE, ratios, [n for n in ratios if n != PIPELINE], 10):
            print(statement(row))
        base = base or ratios[PIPELINE]
        if ratios[PIPELINE] is not base:
            beside = f"the {recipes[0]} pipeline"
            for row in differences(PIPELINE, {PIPELINE: ratios[PIPELINE], beside: base}, [beside], 10):
                print(statement(row))
        else:
            for row in differences("source.transitions", ratios, ["source.als", "source.popular"], 10):
                print(statement(row))
        print(f"# {watch}", flush=True)


def _five_weeks(inputs: Inputs) -> dict[str, Ratios]:
    events = user_events(inputs.view(), inputs.project)
    end = int(events.at_E.max()) + 1
    found: dict[str, list[Lists]] = {}
    for week in range(WEEKS):
        start = end - (WEEKS - week) * WEEK
        cut = week_of(start)
        moments = _new_item_moments(inputs, events, start, start + WEEK)
        measured = measure(inputs, events, cut, moments=moments)
        walked = measured.walked
        lists = {name: walked.lists(name) for name in walked.ranked}
        lists[UNRANKED] = unranked(inputs, measured, events, cut, moments)
        for name, of_week in lists.items():
            found.setdefault(name, []).append(of_week)
        n_relevant = sum(len(r) > 0 for r in walked.relevant)
        print(f"week {week + 1}: {n_relevant:,} requests of {len(np.unique(moments.user_R)):,} users", flush=True)
    return {name: _pooled(parts) for name, parts in found.items()}


def week_of(start: int) -> Spans:
    """Sources on all before three weeks, the ranker on two weeks, a week to stop by, then the week that is judged."""
    cuts = np.array([[start - 3 * WEEK, start - WEEK, start]])
    return Spans(by="time", user_U=np.empty(0, np.int64), cut_U3=cuts, end=start + WEEK, n_S=np.zeros(4, np.int64))


def _new_item_moments(inputs: Inputs, events: UserEvents, start: int, stop: int) -> Moments:
    """(user, t) in the week at which a user with an earlier event touches an item for the first time."""
    user_R, t_R = events.moments()
    inside = (t_R >= start) & (t_R < stop)
    relevance = Relevance(events, events.item_E >= 0, 1)
    kept = []
    for user, t in zip(user_R[inside].tolist(), t_R[inside].tolist(), strict=True):
        rows = events.rows_of(user)
        before = np.unique(events.item_E[rows[events.at_E[rows] < t]])
        now, known = relevance.at(user, t, before)
        if known and len(now):
            kept.append((t, user))
    pairs = np.array(sorted(kept), np.int64).reshape(-1, 2)
    return Moments(user_R=pairs[:, 1], t_R=pairs[:, 0])


def _pooled(parts: list[Lists]) -> Ratios:
    ends = np.cumsum([0, *(len(p.relevant_keys) for p in parts)])
    return MetricSet(k=parts[0].ranked_RK.shape[1]).ratios(
        Lists(
            unit_R=np.concatenate([p.unit_R for p in parts]),
            ranked_RK=np.concatenate([p.ranked_RK for p in parts]),
            relevant_keys=np.concatenate([p.relevant_keys for p in parts]),
            relevant_from=np.concatenate([[0], *(p.relevant_from[1:] + e for p, e in zip(parts, ends, strict=False))]),
        ),
        BOOTSTRAP,
    )


if __name__ == "__main__":
    main()

"""Calibration: error and log loss of each objective in the test span, before and after; and how a method is chosen.

    FEEDWELL_DATA=... python benchmarks/bench_calibration.py [--data ml-100k|retailrocket] [--choose] [--requests N]

ml-100k: the candidates that a training run ranks. retailrocket: the views, rank by cart and by buy within 7 days.
`--choose` looks at the calibration span alone: five folds of users, each method fitted on a part of four of them and
judged on the fifth, by how many outcomes it was fitted on. The test span is not read.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from _project import show, workspace_of
from _report import Stopwatch, header
from _views import CALIBRATION_SPAN, TEST_SPAN, Views

from feedwell.core.protocols import Setting
from feedwell.core.registry import find
from feedwell.data.interactions import user_events
from feedwell.data.split import spans
from feedwell.metrics import Interval, Ratios, difference
from feedwell.metrics.calibration import Reliability, log_losses
from feedwell.pipeline.compile import setting_of
from feedwell.training.calibrate import calibration_rows
from feedwell.training.measure import measure
from feedwell.training.parts import CALIBRATION, Parts
from feedwell.training.rows import Rows, servable
from feedwell.workspace import Workspace

FOLDS = 5
SHARES = (1.0, 0.3, 0.1, 0.03)
METHODS: dict[str, dict[str, Any]] = {
    "as predicted": {"method": "none"},
    "scale": {"method": "scale"},
    "platt": {"method": "platt"},
    "beta": {"method": "beta"},
    "isotonic, 20 a knot": {"method": "isotonic", "min_outcomes": 20},
    "isotonic, 50 a knot": {"method": "isotonic", "min_outcomes": 50},
    "isotonic, 100 a knot": {"method": "isotonic", "min_outcomes": 100},
}


@dataclass(frozen=True)
class Case:
    """A ranker fitted before the calibration span, that span's rows, and the test's."""

    parts: Parts
    calibration: Rows
    test: Rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=("ml-100k", "retailrocket"), default=None)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--requests", type=int, default=4000)
    arguments = parser.parse_args()
    for name, case_of in (("ml-100k", _candidates), ("retailrocket", _views)):
        if arguments.data in (None, name):
            print(header(f"calibration on {name}"))
            with workspace_of(name) as workspace, Stopwatch() as watch:
                case = case_of(workspace, arguments.requests)
                choose(case) if arguments.choose else before_and_after(case)
            print(f"# {watch}\n")


def before_and_after(case: Case) -> None:
    print(
        "| objective | over | rows | outcomes | method | ECE | log loss | log loss after - before |\n"
        + "|---" * 8
        + "|"
    )
    for row in calibration_rows(case.parts, case.test, bootstrap=1000):
        before, after = row.before, row.after
        print(
            f"| {row.objective} | {row.over} | {row.n:,} | {row.outcomes:,} | {row.method} | {before.ece:.5f} → "
            f"{after.ece:.5f} | {before.log_loss.value:.5f} → {after.log_loss.value:.5f} | "
            f"{row.log_loss_difference.value:+.6f} [{row.log_loss_difference.low:+.6f}, "
            f"{row.log_loss_difference.high:+.6f}] |"
        )


def choose(case: Case) -> None:
    """Out-of-fold error by method and by the number of outcomes that it was fitted on."""
    rows = case.calibration
    setting = setting_of(case.parts.project, CALIBRATION)
    p = dict(case.parts.predict(rows.ranking, calibrated=False))
    print("| objective | outcomes to fit on | method | ECE | log loss | minus as predicted |\n" + "|---" * 6 + "|")
    for name in p:
        for share in SHARES:
            y_N = rows.ranking.labels[name]
            known_N = ~np.isnan(y_N)
            found = {m: _out_of_fold(setting, rows, p, name, share, c) for m, c in METHODS.items()}
            stats = {m: _loss(rows, y_N, c_N, known_N) for m, c_N in found.items()}
            n = int((y_N[known_N] > 0).sum() * share * (FOLDS - 1) / FOLDS)
            for method, c_N in found.items():
                ece = Reliability.of(y_N[known_N], c_N[known_N], rows.ranking.weight_N[known_N]).ece
                loss = stats[method].value("log_loss")
                moved = difference(stats[method], stats["as predicted"], "log_loss")
                print(f"| {name} | {n:,} | {method} | {ece:.5f} | {loss:.5f} | {_fine(moved)} |")


def _fine(i: Interval) -> str:
    return f"{i.value:+.6f} [{i.low:+.6f}, {i.high:+.6f}]"


def _loss(rows: Rows, y_N: np.ndarray, p_N: np.ndarray, known_N: np.ndarray) -> Ratios:
    value = log_losses(y_N[known_N] > 0, p_N[known_N])[:, None]
    return Ratios.of(("log_loss",), rows.user_N[known_N], value, weight_RM=rows.ranking.weight_N[known_N][:, None])


def _out_of_fold(
    setting: Setting, rows: Rows, p: dict[str, np.ndarray], name: str, share: float, config: dict[str, Any]
) -> np.ndarray:
    part: Any = find("scorer", CALIBRATION)
    fold_N = np.random.default_rng(0).integers(0, FOLDS, rows.user_N.max() + 1)[rows.user_N]
    drawn_N = np.random.default_rng(1).random(len(rows)) < share
    c_N = p[name].copy()
    for fold in range(FOLDS):
        made = part(part.Config(**config), setting)
        inside = drawn_N & (fold_N != fold)
        taken = rows.take(inside).ranking
        made.fit(replace(taken, predictions={name: p[name][inside]}))
        c_N[fold_N == fold] = made.calibrated({name: p[name][fold_N == fold]})[name]
    return c_N


def _candidates(workspace: Workspace, requests: int) -> Case:
    inputs = replace(workspace.training_inputs(), progress=show)
    view = inputs.view()
    cut = spans(view, inputs.project.split)
    found = measure(inputs, user_events(view, inputs.project), cut, max_requests=requests)
    if found.train is None or found.test is None:
        sys.exit("the project has no ranker: nothing to calibrate")
    rows, _ = servable(found.train)
    rows = rows.take(cut.span(rows.user_N, rows.t_N) == CALIBRATION_SPAN)
    return Case(found.parts, rows, found.test)


def _views(workspace: Workspace, requests: int) -> Case:
    views = Views.of(workspace, "xgboost")
    return Case(views.fitted("xgboost"), views.span(CALIBRATION_SPAN), views.span(TEST_SPAN))


if __name__ == "__main__":
    main()

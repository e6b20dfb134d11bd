"""Learned parts in the pipeline: each recipe against the XGBoost-only one, its own sources and its retrieval order.

    FEEDWELL_DATA=... python benchmarks/bench_learned.py [--data ml-100k|retailrocket] [--requests N] [--recipes a,b]
        [--validation]

Every recipe is fitted on the same spans and judged on the same requests of the test span, so differences are paired by
user. "retrieval order" is the recipe's own pipeline without its ranker: the same candidates, as they were retrieved.
Nothing is chosen on that span: the parts' defaults were chosen on validation data (`bench_two_tower.py`,
`bench_mmoe.py`), and what concerns a recipe by `--validation`, which judges the span before it as `choose_ml_100k.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from _project import DATA, cell, show, workspace_at, workspace_of
from _report import Stopwatch, header
from choose_ml_100k import FRACTIONS, without_test

from feedwell.core.project import Project
from feedwell.data.interactions import UserEvents, user_events
from feedwell.data.split import Spans, spans
from feedwell.metrics import Lists, Ratios, difference, smallest_detectable
from feedwell.pipeline.project_file import parse_project
from feedwell.training.inputs import Inputs
from feedwell.training.measure import Measured, measure
from feedwell.training.metric_set import MetricSet
from feedwell.training.parts import RANKERS
from feedwell.training.walk import PIPELINE, Moments, walk
from feedwell.workspace import Workspace

BOOTSTRAP = 1000
BASE = "xgboost"
UNRANKED = "retrieval order"
TREES = '[ranker]\nkind = "xgboost"\n'
NETWORK = '[ranker]\nkind = "mmoe"\n'
TOWERS = '[source.two_tower]\nk = 100\nembed = ""\nhistory_table = true\n\n'
"""By MovieLens' validation data: without the content of titles (bench_two_tower.py; Retailrocket has none), and with a
table for histories (`--validation --requests 2500`: .1421 with it, .1368 without, xgboost alone .1092)."""
RECIPES: Mapping[str, tuple[str, str]] = {
    BASE: (TREES, ""),
    "xgboost + two_tower": (TREES, TOWERS),
    "xgboost + two_tower of one table": (TREES, TOWERS.replace("history_table = true\n", "")),
    "mmoe": (NETWORK, ""),
    "mmoe + two_tower": (NETWORK, TOWERS),
}
"""name → (its ranker's section, further sources)"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=("ml-100k", "retailrocket"), default="ml-100k")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--validation", action="store_true", help="ml-100k, the span before the test")
    arguments = parser.parse_args()
    chosen = [name for name in RECIPES if name in arguments.recipes.split(",") or name == BASE]
    span = "validation" if arguments.validation else "test"
    print(header(f"{arguments.data}: learned parts in the pipeline, {span} span"))
    with _workspace(arguments.data, arguments.validation) as workspace:
        compare(workspace, chosen, arguments.requests)


@contextmanager
def _workspace(data: str, validation: bool) -> Iterator[Workspace]:
    if not validation:
        with workspace_of(data) as workspace:
            yield workspace
        return
    if data != "ml-100k":
        raise SystemExit("--validation is for ml-100k alone")
    with tempfile.TemporaryDirectory() as folder:
        without_test(DATA / data, Path(folder))
        with workspace_at(Path(folder), [("[split]\n", FRACTIONS)]) as workspace:
            yield workspace


def compare(workspace: Workspace, chosen: list[str], requests: int) -> None:
    inputs = replace(workspace.training_inputs(), progress=show)
    view = inputs.view()
    events, cut = user_events(view, inputs.project), spans(view, inputs.project.split)
    moments, base = None, None
    for name in chosen:
        project = recipe(inputs.project_text, name)
        own = replace(inputs, project=project)
        with Stopwatch() as watch:
            found = measure(own, events, cut, max_requests=requests, moments=moments)
        moments = found.moments
        ratios = _ratios(found)
        ratios[UNRANKED] = _measured(unranked(own, found, events, cut, moments))
        if base is None:
            base = ratios[PIPELINE]
            print(f"{found.evaluation.n_counted:,} requests of {found.evaluation.n_users:,} users. {cut.note}\n")
        _print(name, ratios, base, f"{watch}")
        sys.stdout.flush()


def recipe(text: str, name: str) -> Project:
    """The data set's project with that recipe's ranker and sources."""
    ranker, sources = RECIPES[name]
    if TREES not in text:
        raise SystemExit(f"the project file no longer has {TREES!r}: mend this benchmark")
    return parse_project(text.replace(TREES, sources + ranker))


def unranked(inputs: Inputs, found: Measured, events: UserEvents, cut: Spans, moments: Moments) -> Lists:
    """The same pipeline with nothing after retrieval and filters but the slate."""
    kept = {name: part for name, part in found.parts.fitted.items() if name not in (*RANKERS, "calibration")}
    pipeline = replace(found.parts, fitted=kept).pipeline()
    walked = walk(inputs, pipeline, events, cut, moments, with_sources=False)
    return walked.lists(PIPELINE)


def _ratios(found: Measured) -> dict[str, Ratios]:
    return {name: _measured(found.walked.lists(name)) for name in found.walked.ranked}


def _measured(lists: Lists) -> Ratios:
    return MetricSet(k=lists.ranked_RK.shape[1]).ratios(lists, BOOTSTRAP)


def _print(name: str, ratios: Mapping[str, Ratios], base: Ratios, cost: str) -> None:
    print(f"## {name} ({cost})\n")
    print("| | recall@10 | ndcg@10 | pipeline minus it, ndcg@10 | detectable |\n|---|---|---|---|---|")
    ours = ratios[PIPELINE]
    for other, theirs in ratios.items():
        cells = [cell(theirs.interval(metric)) for metric in ("recall", "ndcg")]
        print(f"| {other} | {' | '.join([*cells, *_against(ours, theirs, other == PIPELINE)])} |")
    if ours is not base:
        print(f"| *{BASE} pipeline* | | | {' | '.join(_against(ours, base, False))} |")
    print(flush=True)


def _against(ours: Ratios, theirs: Ratios, is_itself: bool) -> list[str]:
    if is_itself:
        return ["", ""]
    d = difference(ours, theirs, "ndcg")
    return [f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]", f"{smallest_detectable(ours, theirs, 'ndcg'):.4f}"]


if __name__ == "__main__":
    main()

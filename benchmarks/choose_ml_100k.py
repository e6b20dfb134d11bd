"""The choices of the MovieLens 100K project that figures decide, made on the validation span; the test is not there.

    FEEDWELL_DATA=... python benchmarks/choose_ml_100k.py [--requests N]

The last 20 % of each user's ratings, which `bench_ml_100k.py` judges, are cut from the file before anything is loaded.
Of the rest, sources learn from the first 5/8 of each user's time line, the ranker from the next 2/8, and the last 1/8
is judged. Two choices are compared, each with the others as they are, by paired differences with intervals by user:

* how many moments the ranker learns from (`[train] max_requests`);
* whether films that the user rated later, in the same span, are sampled among what was retrieved like any other film,
  or left out. The project's window is 1 s, so what it labels "turned to within the window" (decision 0007) are the
  exposures themselves: of what was retrieved beside them nothing is kept for its label, and whatever the user rated
  later may be sampled with label 0.

`--requests` limits the moments learned from and the requests judged: a try of the benchmark, not a figure.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _project import DATA, cell, show, workspace_at
from _report import Stopwatch, header

from feedwell.data.interactions import user_events
from feedwell.data.split import spans
from feedwell.metrics import Ratios, difference, smallest_detectable
from feedwell.training.calibrate import fit_in_order
from feedwell.training.fit_data import fit_data
from feedwell.training.metric_set import MetricSet
from feedwell.training.parts import fit_sources
from feedwell.training.rows import RowBuilder, Rows, servable
from feedwell.training.training_rows import labelled_exposures, training_rows
from feedwell.training.walk import PIPELINE, moments_of, situations, walk
from feedwell.workspace import Workspace

TEST_SHARE = 0.2
FRACTIONS = "[split]\nfractions = [0.625, 0.25, 0.0, 0.125]\n"
ALL = 1_000_000
BOOTSTRAP = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=ALL, help="at most so many moments and requests")
    most = parser.parse_args().requests
    print(header("ml-100k without its test span: choices by validation"))
    with tempfile.TemporaryDirectory() as folder:
        n_kept, n_all = without_test(DATA / "ml-100k", Path(folder))
        print(f"# {n_kept:,} of {n_all:,} ratings; the others are the test's and were left out")
        with workspace_at(Path(folder), [("[split]\n", FRACTIONS)]) as workspace:
            compare(workspace, most)


def without_test(data: Path, folder: Path) -> tuple[int, int]:
    """Copies the data set with only the ratings before each user's test span; (ratings kept, ratings in all)."""
    shutil.copytree(data, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    path = next(p for name in ("u.data", "ml-100k.inter") if (p := folder / name).is_file())
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    head, rows = (rows[:1], rows[1:]) if path.name == "ml-100k.inter" else ([], rows)
    cut = {user: _cut(times) for user, times in _times(rows).items()}
    kept = [row for row in rows if float(row[3]) < cut[row[0]]]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(head + kept)
    return len(kept), len(rows)


def _times(rows: list[list[str]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for user, _, _, ts in rows:
        found.setdefault(user, []).append(float(ts))
    return found


def _cut(times: list[float]) -> float:
    """The first second before which at least 80 % of a user's ratings lie: where the split begins the test."""
    before = 0
    for ts, n in sorted(Counter(times).items()):
        if before >= (1 - TEST_SHARE) * len(times) - 1e-9:
            return ts
        before += n
    return float("inf")


def compare(workspace: Workspace, most: int = ALL) -> None:
    """One line per choice, then its paired differences from the first."""
    base = Recipe(workspace, most)
    found: dict[str, Ratios] = {}
    learned: dict[int, Rows] = {}
    print(f"{len(base.moments):,} requests of the validation span")
    print("| | rows learned from | recall@10 | ndcg@10 |\n|---|---|---|---|")
    for n_moments, builder in CHOICES:
        with Stopwatch() as watch:
            ratios, rows = base.judged(min(n_moments, most), builder)
        require_different(rows, learned.setdefault(n_moments, rows), builder)
        told = f"{len(np.unique(rows.ranking.group_N)):,} moments"
        name = f"{told}, rated later {'left out' if builder is LeftOut else 'sampled'}"
        cells = (cell(ratios.interval(metric)) for metric in ("recall", "ndcg"))
        print(f"| {name} | {len(rows):,} | {' | '.join(cells)} | {watch}", flush=True)
        for other, theirs in list(found.items())[:1]:
            for metric in ("ndcg", "recall"):
                d, seen = difference(ratios, theirs, metric), smallest_detectable(ratios, theirs, metric)
                print(
                    f"  minus {other}, {metric}@10: {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}], detectable {seen:.4f}"
                )
        found[name] = ratios


def require_different(rows: Rows, others: Rows, builder: type[RowBuilder]) -> None:
    """Stops where the second builder of the same moments made the rows of the first: nothing would be compared."""
    if rows is not others and np.array_equal(rows.item_N, others.item_N):
        sys.exit(f"{builder.__name__} made the same {len(rows):,} rows as the first builder: mend this benchmark")


class Recipe:
    """All that the choices share: the events, the sources fitted on the first span and on all before the judged."""

    def __init__(self, workspace: Workspace, most: int = ALL) -> None:
        inputs = replace(workspace.training_inputs(), progress=show)
        view = inputs.view()
        self.inputs, self.events, self.cut = (
            inputs,
            user_events(view, inputs.project),
            spans(view, inputs.project.split),
        )
        self.shown = labelled_exposures(inputs, self.events, self.cut)
        self.first = fit_sources(inputs.project, fit_data(inputs, self.events, self.cut, 1))
        self.parts = fit_sources(inputs.project, fit_data(inputs, self.events, self.cut, 3))
        self.moments = moments_of(situations(self.events, self.shown), self.cut, [3], most, "evaluate")

    def judged(self, most: int, builder: type[RowBuilder]) -> tuple[Ratios, Rows]:
        """The pipeline's statistics on the validation span, with a ranker of those rows."""
        project = self.inputs.project
        train = project.train.model_copy(update={"max_requests": most})
        inputs = replace(self.inputs, project=project.model_copy(update={"train": train}))
        span_X = self.cut.span(self.shown["user"].to_numpy(), self.shown["moment"].to_numpy())
        rows = training_rows(inputs, self.first, self.events, self.cut, self.shown, span_X, builder=builder)
        learned = servable(rows)[0]
        rankers = fit_in_order(self.first, learned, np.zeros(len(learned), np.bool_))
        pipeline = self.parts.with_rankers(rankers).pipeline()
        walked = walk(inputs, pipeline, self.events, self.cut, self.moments, with_sources=False)
        return MetricSet(k=project.evaluate.k).ratios(walked.lists(PIPELINE), BOOTSTRAP), rows


class LeftOut(RowBuilder):
    """Rows without the retrieved films that the user rated later in the span: neither kept nor sampled."""

    def _beside_rows(self, *asked: Any) -> tuple[Any, Any]:
        turned, pool = super()._beside_rows(*asked)
        return turned[:0], pool

    def _turned_to(self, user: int, t: int, until: int) -> Any:
        """Whatever the user acted on before `until`, however long after t."""
        rows = self._events.rows_of(user, since=t, until=until)
        return self._events.item_E[rows[self._acts[rows]]]


CHOICES = ((9_000, RowBuilder), (9_000, LeftOut), (ALL, RowBuilder), (3_000, RowBuilder), (ALL, LeftOut))
"""(`[train] max_requests`, which rows); the first is what the project says."""


if __name__ == "__main__":
    main()

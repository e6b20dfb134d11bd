"""The choices of the MovieLens 100K project that figures decide, made on the validation span; the test is not there.

    FEEDWELL_DATA=... python benchmarks/choose_ml_100k.py

The last 20 % of each user's ratings, which `bench_ml_100k.py` judges, are cut from the file before anything is loaded.
Of the rest, sources learn from the first 5/8 of each user's time line, the ranker from the next 2/8, and the last 1/8
is judged. Two choices are compared, each with the others as they are, by paired differences with intervals by user:

* how many moments the ranker learns from (`[train] max_requests`);
* whether the retrieved items that the user turned to later are kept as labelled rows (decision 0007) or left out.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _project import DATA, cell, show, workspace_at
from _report import Stopwatch, header

from feedwell.data.interactions import user_events
from feedwell.data.split import spans
from feedwell.metrics import Ratios, difference, smallest_detectable
from feedwell.training import measure as measure_module
from feedwell.training.evaluate import ratios_of
from feedwell.training.measure import measure
from feedwell.training.rows import RowBuilder
from feedwell.training.walk import PIPELINE
from feedwell.workspace import Workspace

TEST_SHARE = 0.2
FRACTIONS = "[split]\nfractions = [0.625, 0.25, 0.0, 0.125]\n"
MOMENTS = (3_000, 6_000, 9_000, 20_000)
BOOTSTRAP = 1000


def main() -> None:
    print(header("ml-100k without its test span: choices by validation"))
    with tempfile.TemporaryDirectory() as folder:
        n_kept, n_all = without_test(DATA / "ml-100k", Path(folder))
        print(f"# {n_kept:,} of {n_all:,} ratings; the others are the test's and were left out")
        with workspace_at(Path(folder), [("[split]\n", FRACTIONS)]) as workspace:
            compare(workspace)


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


def compare(workspace: Workspace) -> None:
    """One line per choice, then the paired differences."""
    found: dict[str, Ratios] = {}
    for most in MOMENTS:
        found[f"{most:,} moments, turned to kept"] = judged(workspace, most, RowBuilder, baselines=most == MOMENTS[0])
    for most in MOMENTS[-2:]:
        found[f"{most:,} moments, turned to left out"] = judged(workspace, most, LeftOut)
    for a, b in (
        *((f"{most:,} moments, turned to kept", "9,000 moments, turned to kept") for most in MOMENTS if most != 9_000),
        *((f"{m:,} moments, turned to kept", f"{m:,} moments, turned to left out") for m in MOMENTS[-2:]),
    ):
        for metric in ("ndcg", "recall"):
            d, seen = difference(found[a], found[b], metric), smallest_detectable(found[a], found[b], metric)
            print(f"{a} - {b}, {metric}@10: {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}], detectable {seen:.4f}")


def judged(workspace: Workspace, most: int, builder: type[RowBuilder], *, baselines: bool = False) -> Ratios:
    """The pipeline's statistics on the validation span, with a ranker of those rows."""
    inputs = replace(workspace.training_inputs(), progress=show)
    train = inputs.project.train.model_copy(update={"max_requests": most})
    inputs = replace(inputs, project=inputs.project.model_copy(update={"train": train}))
    view = inputs.view()
    events, cut = user_events(view, inputs.project), spans(view, inputs.project.split)
    with built_by(builder), Stopwatch() as watch:
        found = measure(inputs, events, cut)
    k = inputs.project.evaluate.k
    ratios = {name: ratios_of(found.walked.lists(name), k, BOOTSTRAP) for name in found.walked.ranked}
    if baselines:
        print(f"{found.evaluation.n_counted:,} requests of {found.evaluation.n_users:,} users have something relevant")
        print("| | rows learned from | recall@10 | ndcg@10 |\n|---|---|---|---|")
        for name, r in ratios.items():
            if name != PIPELINE:
                print(f"| {name} | | {cell(r.interval('recall'))} | {cell(r.interval('ndcg'))} |")
    r, rows = ratios[PIPELINE], found.train
    assert rows is not None
    of = len(np.unique(rows.ranking.group_N))
    kind = "turned to left out" if builder is LeftOut else "turned to kept"
    print(
        f"| {most:,} moments ({of:,} there), {kind} | {len(rows):,} | {cell(r.interval('recall'))} "
        f"| {cell(r.interval('ndcg'))} | {watch}",
        flush=True,
    )
    return r


class LeftOut(RowBuilder):
    """Rows without the retrieved items that the user turned to later."""

    def _beside_rows(self, *asked: Any) -> tuple[Any, Any]:
        turned, pool = super()._beside_rows(*asked)
        return turned[:0], pool


@contextmanager
def built_by(builder: type[RowBuilder]) -> Iterator[None]:
    """Rows of this kind inside the block."""
    usual = measure_module.RowBuilder
    measure_module.RowBuilder = builder  # type: ignore[misc]
    try:
        yield
    finally:
        measure_module.RowBuilder = usual  # type: ignore[misc]


if __name__ == "__main__":
    main()

"""Sources over the full catalog of amazon-cds, beside popularity and the published anchor of UltraGCN on this split.

FEEDWELL_DATA=... python benchmarks/bench_retrieval.py [--sources A,B] [--choose] [--pruning [--items N]]

`--choose` prints the grids that SETTINGS come from, on 8,000 users of the validation part of the train file; EASE's on
the 8,000 items with the most users, since its time grows with their cube. `--pruning` fits EASE on that part once, on
the `--items` with the most users, and shows what keeping fewer weights of each row costs there.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _report import ROOT, Stopwatch, header, peak_mb
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from feedwell.sources._item_item import Incidence, ItemWeights
from feedwell.sources.ease import pruned
from feedwell.training.retrieval import (
    TrainTest,
    evaluate_retrieval,
    evaluate_source,
    interactions_of,
    read_train_test,
    validation_of,
)
from feedwell.training.source_bench import make_source

FOLDER = Path(os.environ.get("FEEDWELL_DATA", ROOT / "../shared/data")) / "amazon-cds"
ANCHOR = {"recall@20": 0.1622, "ndcg@20": 0.1043}
K = 20
SETTINGS: dict[str, dict[str, Any]] = {
    "ease": {"regularization": 100.0},
    "als": {"embedding_dim": 512, "unobserved_weight": 0.001, "regularization": 0.01, "epochs": 8},
    "two_tower": {
        "context": "others",
        "history": 30,
        "embedding_dim": 128,
        "temperature": 0.1,
        "batch_size": 2048,
        "table_learning_rate": 0.05,
        "epochs": 15,
        "valid_share": 0.05,
    },
}
"""What GRIDS has was chosen by --choose; what is not named are defaults."""
_NEEDED_GIB = 8
_USERS = 8_000
GRIDS: dict[str, dict[str, list[Any]]] = {
    "item_knn": {
        "history_exponent": [0.5, 1.0],
        "popularity_exponent": [0.5, 0.7],
        "user_exponent": [0.0, 0.5],
        "shrinkage": [0.0, 10.0],
    },
    "als": {
        "unobserved_weight": [0.0003, 0.001, 0.003, 0.01],
        "embedding_dim": [128, 256, 512],
        "regularization": [0.003, 0.01],
        "epochs": [8],
    },
    "two_tower": {
        "context": ["others"],
        "history": [30],
        "embedding_dim": [64, 128],
        "temperature": [0.07, 0.1, 0.2],
        "batch_size": [2048],
        "table_learning_rate": [0.05],
        "epochs": [15],
        "history_table": [False, True],
    },
    "ease": {"regularization": [25.0, 50.0, 100.0, 200.0, 400.0], "max_items": [8000]},
}


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--sources", default="popular,item_knn,als,ease,two_tower")
    asked.add_argument("--choose", action="store_true")
    asked.add_argument("--pruning", action="store_true")
    asked.add_argument("--items", type=int, default=40_000)
    given = asked.parse_args()
    print(header("retrieval: amazon-cds"))
    if not (FOLDER / "train.txt").exists():
        print(f"skipped: no file {FOLDER / 'train.txt'}; set FEEDWELL_DATA")
        return
    lists = read_train_test(FOLDER / "train.txt", FOLDER / "test.txt")
    names = given.sources.split(",")
    if given.choose:
        for name in (name for name in names if name in GRIDS):
            choose(lists, name)
    elif given.pruning:
        show_pruning(lists, given.items)
    else:
        show_table(lists, names)


def show_table(lists: TrainTest, names: list[str]) -> None:
    """Each source with its settings on the test file, one after the other."""
    best = 0.0
    protocol, shown = "", False
    for name in names:
        if name == "ease" and _free_gib() < _NEEDED_GIB:
            print(f"{name}: skipped, it needs {_NEEDED_GIB} GiB of memory and {_free_gib():.1f} are free")
            continue
        protocol, [one] = evaluate_retrieval(lists, [name], K, options=SETTINGS)
        row = one.to_dict()
        _print_row(list(row) if not shown else [], list(row.values()))
        shown, best = True, max(best, row["recall@20"])
    print("transitions: n/a, the lines of these files are in no order of time")
    ratio = best / ANCHOR["recall@20"]
    print(f"published, UltraGCN on this split (best epoch picked on test): {ANCHOR}; ours {ratio:.3f} x its recall")
    print(protocol)


def choose(lists: TrainTest, name: str) -> None:
    """Every setting of the source's grid on the validation part."""
    keys = list(GRIDS[name])
    divided, asked_U = _validation(lists)
    for number, values in enumerate(product(*GRIDS[name].values())):
        part = make_source("retrieval", name, K, 0, dict(zip(keys, values, strict=True)))
        one = evaluate_source(name, part, divided, asked_U, K)
        row = [*values, one.recall, one.recall_se, one.ndcg, one.fit_s, one.eval_s]
        _print_row([*keys, "recall@20", "se", "ndcg@20", "fit_s", "eval_s"] if not number else [], row)


def show_pruning(lists: TrainTest, most_items: int) -> None:
    """EASE fitted once; its matrix cut to fewer and fewer weights a row, each judged on the validation part."""
    divided, asked_U = _validation(lists)
    part = make_source("retrieval", "ease", K, 0, SETTINGS.get("ease"))
    found = Incidence.of(interactions_of(divided), part.config.user_items, most_items)
    with Stopwatch() as watch, threadpool_limits(limits=part.config.threads, user_api="blas"):
        inverse_II = part._inverse(found.has_UI)
    print(f"inverse of {len(found.keys_I):,} items: {watch}, peak {peak_mb():,.0f} MB")
    part.fit = lambda data: None  # it is: what differs from row to row is what is kept of the weights
    first = True
    for n in _levels(len(found.keys_I)):
        part._weights = ItemWeights.of(found.keys_I, list(pruned(inverse_II, n)))
        one = evaluate_source("ease", part, divided, asked_U, K)
        row = [n, part._weights.rows.nnz * 8 / 1e6, one.recall, one.recall_se, one.ndcg, one.eval_s]
        _print_row(["neighbours", "artifact_mb", "recall@20", "se", "ndcg@20", "eval_s"] if first else [], row)
        first = False


def _validation(lists: TrainTest) -> tuple[TrainTest, NDArray[np.intp]]:
    """The train file divided, and some of its users by chance."""
    divided = validation_of(lists, 0)
    asked_U = np.flatnonzero(np.diff(divided.answer_indptr))
    return divided, np.sort(np.random.default_rng(0).permutation(asked_U)[:_USERS])


def _levels(n_items: int) -> Iterator[int]:
    yield from (n for n in (2000, 1000, 500, 200, 100, 50, 20) if n < n_items)


def _free_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 2**30


def _print_row(names: list[str], row: list[Any]) -> None:
    if names:
        print("  ".join(f"{name:>13}" for name in names))
    print("  ".join(f"{v:>13.4f}" if isinstance(v, float) else f"{v:>13}" for v in row), flush=True)


if __name__ == "__main__":
    main()

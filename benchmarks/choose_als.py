"""How much als should weigh what nobody touched, on validation data: 0.1 and multiples of the share that is observed.

    FEEDWELL_DATA=... python benchmarks/choose_als.py

Retailrocket: fitted on the first 60 % of the time, asked for what is new to a user in the next 20 %. Toys and Games:
each list but its last two items, asked for the last but one. Test parts are not read; items that training lacks are not
asked for. 4,000 users at most, by chance. amazon-cds: bench_retrieval.py --choose.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from _report import ROOT, header

from feedwell.training.retrieval import TrainTest, evaluate_source, read_train_test
from feedwell.training.source_bench import make_source

DATA = Path(os.environ.get("FEEDWELL_DATA", ROOT / "../shared/data"))
K, USERS = 20, 4_000
MULTIPLES = (30, 10, 3, 1)
Pairs = Iterable[tuple[int, int]]


def main() -> None:
    print(header("als: the weight of what nobody touched, validation"))
    for name, lists in (("retailrocket", _retailrocket()), ("toys-and-games", _toys())):
        share = len(lists.train_E) / (len(lists.user_ids) * len(lists.item_ids))
        asked_U = np.flatnonzero(np.diff(lists.answer_indptr))
        asked_U = np.sort(np.random.default_rng(0).permutation(asked_U)[:USERS])
        print(f"\n## {name}: {share:.5f} of all pairs observed, {len(asked_U):,} users asked")
        for told, weight in [("0.1", 0.1), *((f"{m} x observed", m * share) for m in MULTIPLES)]:
            part = make_source("retrieval", "als", K, 0, {"unobserved_weight": weight})
            one = evaluate_source("als", part, lists, asked_U, K)
            print(
                f"{told:>14s}  recall@{K} {one.recall:.4f} ± {one.recall_se:.4f}  ndcg@{K} {one.ndcg:.4f}", flush=True
            )


def _retailrocket() -> TrainTest:
    table = pq.read_table(DATA / "retailrocket" / "events.parquet", columns=["user", "item", "ts"])
    user_E, item_E, ts_E = (table[name].to_numpy() for name in ("user", "item", "ts"))
    first, second = np.quantile(ts_E, [0.6, 0.8])
    before, after = ts_E < first, (ts_E >= first) & (ts_E < second)
    return _lists(*(zip(user_E[at].tolist(), item_E[at].tolist(), strict=True) for at in (before, after)))


def _toys() -> TrainTest:
    lines = (DATA / "toys-and-games" / "Toys_and_Games.txt").read_text(encoding="utf-8").splitlines()
    lists = [[int(word) for word in line.split()] for line in lines]
    train = [(user, item) for user, *items in lists for item in items[:-2]]
    return _lists(train, [(user, items[-2]) for user, *items in lists])


def _lists(train: Pairs, answers: Pairs) -> TrainTest:
    """Each user's distinct items; of the answers those that are new to the user and not to training."""
    had, wanted = defaultdict[int, set[int]](set), defaultdict[int, set[int]](set)
    for user, item in train:
        had[user].add(item)
    known = set[int]().union(*had.values())
    for user, item in answers:
        if user in had and item in known and item not in had[user]:
            wanted[user].add(item)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "train.txt", Path(folder) / "test.txt"
        for path, of in zip(paths, (had, wanted), strict=True):
            path.write_text("".join(f"{u} {' '.join(map(str, sorted(of[u])))}\n" for u in sorted(of)), encoding="utf-8")
        return read_train_test(*paths)


if __name__ == "__main__":
    main()

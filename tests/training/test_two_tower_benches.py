"""Both benches take two_tower: a file of sequences has an order and no times, one of lists has neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from feedwell.training.next_item import evaluate_next_item, read_sequences
from feedwell.training.retrieval import evaluate_retrieval, read_train_test

N_ITEMS = 40
OPTIONS = {"context": "others", "batch_size": 64, "epochs": 12}


def test_the_next_item_of_a_cycle_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for user in range(80):
        begin, step = int(rng.integers(N_ITEMS)), 1
        lines.append(" ".join([f"u{user}", *(f"i{(begin + step * n) % N_ITEMS}" for n in range(8))]))
    (tmp_path / "sequences.txt").write_text("\n".join(lines))
    _, (result,) = evaluate_next_item(read_sequences(tmp_path / "sequences.txt"), ["two_tower"], 10)
    assert result.recall > 0.6  # by chance: .25


def test_the_rest_of_a_list_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    own = [[f"i{i * 4 + user % 4}" for i in rng.permutation(10)] for user in range(80)]
    for name, part in (("train", slice(6)), ("test", slice(6, 8))):
        lines = [" ".join([f"u{user}", *items[part]]) for user, items in enumerate(own)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    lists = read_train_test(tmp_path / "train.txt", tmp_path / "test.txt")
    _, (result,) = evaluate_retrieval(lists, ["two_tower"], 10, options={"two_tower": OPTIONS})
    assert result.recall > 0.6  # of 40 items 10 are of the taste

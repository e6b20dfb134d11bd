"""Files of sorted ids: exact, whatever the Bloom filter says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedwell.core.errors import CorruptArtifact
from feedwell.stores.log.dedupe import Run, SealedIds, write_run
from feedwell.stores.log.history import among

# Few values, so that equal first halves with different second halves are common.
halves = st.integers(0, 5) | st.integers(2**64 - 3, 2**64 - 1)
pairs = st.tuples(halves, halves)


def words(found: list[tuple[int, int]]) -> np.ndarray:
    return np.array(found, np.uint64).reshape(-1, 2)


@settings(max_examples=100, deadline=None)
@given(held=st.sets(pairs), asked=st.lists(pairs, max_size=150))
def test_a_run_contains_what_was_written(tmp_path_factory: pytest.TempPathFactory, held, asked):
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(path, words(list(held)))
    assert Run(path).contains(words(asked)).tolist() == [pair in held for pair in asked]
    assert among(words(asked), words(list(held))).tolist() == [pair in held for pair in asked]


def test_large_runs_are_exact(tmp_path: Path):
    ids = np.random.default_rng(0).integers(0, 2**64, (60_000, 2), np.uint64)
    write_run(tmp_path / "run", ids[:30_000])
    run = Run(tmp_path / "run")
    assert run.contains(ids).tolist() == [True] * 30_000 + [False] * 30_000
    assert run._maybe(ids[30_000:]).mean() < 0.05


def test_merging_keeps_all_ids_in_few_files(tmp_path: Path):
    ids = np.random.default_rng(0).integers(0, 2**64, (5_000, 2), np.uint64)
    sealed, runs = SealedIds(tmp_path), list[str]()
    for i in range(50):
        runs, replaced = sealed.merge(runs, ids[i * 100 : i * 100 + 100], f"run-{i}")
        sealed.drop(replaced)
    assert len(runs) <= 7
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(runs)
    assert sealed.contains(runs, ids).all()


def test_a_foreign_file_is_named(tmp_path: Path):
    (tmp_path / "run").write_bytes(b"x" * 64)
    with pytest.raises(CorruptArtifact, match="run"):
        Run(tmp_path / "run")

"""What a batch reading will need is told, and refused, before it begins; the bound is one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feedwell.core.errors import Unavailable
from feedwell.engines import LocalEngine
from feedwell.features import FeatureSet, asof, hydrate, memory
from feedwell.features.scan import count_events, read_log
from feedwell.stores.state import MemoryState
from feedwell.testing.generated import generate, parity_project
from feedwell.testing.parity import write_segments

FEATURES = FeatureSet.compile(parity_project())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, list[Path]]:
    table = generate(3, n_logs=40, n_events=500).table(parity_project())
    return table, list(write_segments(table, tmp_path_factory.mktemp("log"), 3))


def frame(table: pa.Table, n: int) -> pa.Table:
    at = table["available_at"].to_numpy()
    rng = np.random.default_rng(1)
    keys = {name: rng.integers(0, 40, n) for name in ("user", "item")}
    return pa.table({"t": np.sort(rng.integers(at.min(), at.max(), n)), **keys})


def peak(work: Callable[[], object]) -> int:
    """Bytes of numpy and Python at the highest; what the engine holds of a scan comes beside it."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_events_counted_are_the_events_read(log: tuple[pa.Table, list[Path]]) -> None:
    _, paths = log
    engine = LocalEngine()
    for upto in (None, 500):
        assert count_events(engine, paths, FEATURES.views, upto) == len(read_log(engine, paths, FEATURES.views, upto))
    assert count_events(engine, [], FEATURES.views) == 0


def test_the_bound_of_asof_holds_for_events_and_for_rows(log: tuple[pa.Table, list[Path]]) -> None:
    table, paths = log
    n = count_events(LocalEngine(), paths, FEATURES.views)
    for rows in (100, 60_000):
        asked = frame(table, rows)
        bound = memory.asof_bytes(FEATURES.views, n, rows, len(FEATURES.columns)) - memory.BASE
        asof(FEATURES, paths, asked.slice(0, 10))  # what is made once does not count
        assert peak(lambda asked=asked: asof(FEATURES, paths, asked, sequences=False)) < bound
    assert bound < 20 * rows * 8 * len(FEATURES.columns)


def test_the_bound_of_hydrate_holds(log: tuple[pa.Table, list[Path]]) -> None:
    table, paths = log
    n = count_events(LocalEngine(), paths, FEATURES.views)

    class Dropping(MemoryState):
        """Keeps nothing: a real state is on disk."""

        def update(self, change: Callable[..., object]) -> None:  # type: ignore[override]
            return None

    work = lambda: hydrate(FEATURES, paths, Dropping(), epoch=0, upto_offset=len(table) - 1)  # noqa: E731
    work()
    assert peak(work) < memory.hydrate_bytes(FEATURES.views, n) - memory.BASE


def test_too_little_memory_is_told_with_figures_and_nothing_is_begun(
    log: tuple[pa.Table, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, paths = log
    monkeypatch.setattr(memory, "free_bytes", lambda: 100_000_000)
    with pytest.raises(Unavailable, match=r"as-of features: [\d,]+ events need about 0\.2 GB .* 0\.1 GB are free"):
        asof(FEATURES, paths, frame(table, 50))
    state = MemoryState()
    with pytest.raises(Unavailable, match=r"the online state: .* machine with more memory"):
        hydrate(FEATURES, paths, state, epoch=0, upto_offset=len(table) - 1)
    with state.read() as txn:
        assert dict(txn.scan(b"")) == {}


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [("max", "5", 2_000 * 1024), ("1000000", "400000", 600_000), ("100", "400", 0), (None, None, 2_000 * 1024)],
)
def test_a_containers_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, used: str | None, expected: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    2000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    if limit is not None and used is not None:
        (tmp_path / "memory.max").write_text(limit + "\n")
        (tmp_path / "memory.current").write_text(used)
    assert memory.free_bytes() == expected
    (tmp_path / "meminfo").unlink()
    assert memory.free_bytes() is None

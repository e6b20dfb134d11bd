"""Sealing: what is read does not change, through a crash at any step either."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from feedwell.core.clock import DAY
from feedwell.stores.log import manifest, seal, segments


def fill(log, view, n: int = 30) -> None:
    for i in range(0, n, 5):
        log.append([view(f"u{j % 4}", event_id=f"e{j}") for j in range(i, i + 5)])


@pytest.mark.parametrize("upto", [-1, 0, 7, 28, 29, 1000])
def test_reading_is_the_same_before_and_after(log, open_log, view, upto):
    fill(log, view)
    before, tail = log.read(-1, 100), log.user_tail(2, 5)
    assert log.seal(upto) == min(upto + 1, 30)
    for reader in (log, open_log()):
        assert reader.read(-1, 100).equals(before)
        assert reader.read(10, 7).equals(before.slice(11, 7))
        assert reader.user_tail(2, 5).equals(tail)
        assert reader.high_water() == (29, 1_000_029)
    hot = log.hot.connection().execute("SELECT count(*) FROM event").fetchone()[0]
    assert hot == 30 - min(upto + 1, 30)


def test_segments_hold_the_schema_in_offset_order(log, view):
    fill(log, view)
    log.seal(9)
    log.seal(29)
    tables = [pq.read_table(path) for path in log.segment_paths()]
    assert [table["offset"].to_pylist() for table in tables] == [list(range(10)), list(range(10, 30))]
    assert all(table.schema.equals(log.schema) for table in tables)
    assert log.seal(29) == 0


def test_segments_are_cut_at_days_once_large(log, view, clock, monkeypatch):
    monkeypatch.setattr(segments, "MIN_ROWS", 4)
    monkeypatch.setattr(segments, "MAX_ROWS", 6)
    for day, n in enumerate([2, 3, 1, 15, 4]):
        clock.set((day + 1) * DAY)
        log.append([view() for _ in range(n)])
    log.seal(100)
    rows = [s.rows for s in log.manifest_file.current().segments]
    assert rows == [5, 6, 6, 4, 4]  # days 1-2; 3 with a part of 4; the rest of 4; 5
    assert sum(rows) == 25


class Crash(Exception):
    pass


def _crash(*_: object, **__: object) -> None:
    raise Crash


STEPS = {
    "while a segment is written": (segments.pq, "write_table"),
    "before the ids are written": (seal, "sync_folder"),
    "before the manifest is swapped": (manifest, "write_atomic"),
    "before the hot rows go": (seal, "_delete_covered"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_loses_and_doubles_nothing(log, open_log, view, monkeypatch, step):
    fill(log, view)
    before = log.read(-1, 100)
    log.seal(4)
    calls = {"n": 0}
    real = seal._delete_covered

    def second_time(*args: object) -> None:
        # The first call of a seal mends what an earlier one left; the crash is at the second.
        calls["n"] += 1
        if calls["n"] % 2 == 0:
            raise Crash
        real(*args)

    where, name = STEPS[step]
    monkeypatch.setattr(where, name, second_time if name == "_delete_covered" else _crash)
    with pytest.raises(Crash):
        log.seal(19)
    monkeypatch.undo()
    for reader in (log, open_log()):
        assert reader.read(-1, 100).equals(before)
        assert reader.append([view(event_id=f"e{i}") for i in range(30)]).n_new == 0
    assert open_log().seal(29) == (10 if name == "_delete_covered" else 25)
    assert log.read(-1, 100).equals(before)
    assert log.append([view(event_id=f"e{i}") for i in range(30)]).n_new == 0
    listed = {p.name for p in log.segment_paths()} | set(log.manifest_file.current().runs)
    log.seal(29)
    assert {p.name for p in Path(log.segments_folder).iterdir()} == listed


def test_reading_goes_on_while_others_seal(log, open_log, view):
    fill(log, view, 600)
    before, wrong, done = log.read(-1, 1000), [], threading.Event()

    def read() -> None:
        while not done.is_set():
            if not log.read(-1, 1000).equals(before) or log.high_water() != (599, 1_000_599):
                wrong.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    sealer = open_log()
    for upto in range(20, 600, 20):
        sealer.seal(upto)
    done.set()
    reader.join()
    assert not wrong


def test_runs_are_merged_and_stay_few(log, view):
    rng = np.random.default_rng(0)
    for i in range(40):
        log.append([view(event_id=f"{i}-{j}") for j in range(int(rng.integers(1, 20)))])
        log.seal(10**9)
    runs = log.manifest_file.current().runs
    assert len(runs) <= 8
    assert log.append([view(event_id=f"{i}-0") for i in range(40)]).n_new == 0


def test_a_process_that_looks_up_while_runs_are_merged_finds_them(log, open_log, view):
    other = open_log()
    log.append([view(event_id="a")])
    log.seal(0)
    stale = other.manifest_file.current()
    log.append([view(event_id="b")])
    log.seal(1)
    # The other process has read the old list but not yet opened its file, which the merge has deleted.
    current = other.manifest_file.current
    answers = [stale]
    other.manifest_file.current = lambda: answers.pop() if answers else current()
    assert other._appender._known_sealed([__import__("hashlib").md5(b"a").digest()])

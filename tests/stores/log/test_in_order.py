"""The whole log by (available_at, offset), whatever order it was loaded in."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from feedwell.core.clock import DAY, ManualClock
from feedwell.stores.log import EventLog, in_order


def _days(days: list[int], tag: str, n: int = 20) -> pa.Table:
    at = [day * DAY + i for day in days for i in range(n)]
    users = [f"{tag}{i}" for i in range(len(at))]
    return pa.table({"type": ["view"] * len(at), "ts": at, "user": users, "item": ["i"] * len(at)})


@pytest.mark.parametrize("rows_at_once", [3, 16_384])
def test_every_row_comes_once_in_order(
    log: EventLog, clock: ManualClock, view: Callable, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
):
    clock.advance(7 * DAY)
    monkeypatch.setattr(in_order, "_ROWS", rows_at_once)
    log.load_history([_days([3, 5], "a")])
    log.append([view(f"live{i}") for i in range(10)])
    log.load_history([_days([0, 0, 4], "b")])
    log.seal(log.high_water()[0])
    log.load_history([_days([1, 3, 6], "c")])
    log.append([view(f"later{i}") for i in range(10)])
    log.forget("a7")
    tables = list(log.in_order(size=7))
    assert max(table.num_rows for table in tables) <= 7
    places = [(r["available_at"], r["offset"]) for table in tables for r in table.to_pylist()]
    stored = [(r["available_at"], r["offset"]) for r in log.read(-1, 10_000).to_pylist()]
    assert places == sorted(stored)
    assert [offset for _, offset in stored] != [offset for _, offset in places]
    upto = stored[len(stored) // 2][1]
    chosen = [r["offset"] for table in log.in_order(upto_offset=upto) for r in table.to_pylist()]
    assert chosen == [offset for _, offset in places if offset <= upto]


def test_loads_that_follow_each_other_are_one_run(log: EventLog, clock: ManualClock):
    clock.advance(7 * DAY)
    for day in range(4):
        log.load_history([_days([day], f"d{day}")])
    log.load_history([_days([2], "late")])
    assert [len(run) for run in in_order.runs_of(log.manifest_file.current().segments)] == [4, 1]

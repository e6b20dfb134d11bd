"""Two loads of history: what comes later may have been available earlier, and everything goes on reading it alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feedwell import workspace
from feedwell.core.clock import DAY, ManualClock
from feedwell.core.event import RawEvent
from feedwell.features import asof
from tests.training.conftest import PROJECT, START, shop_events

_PROJECT = PROJECT.replace('events = "events.jsonl"', 'events = "day*.jsonl"').replace(
    "[event.view]", '[entity.item]\npath = "items.csv"\n[entity.item.columns]\ntitle = "string"\n\n[event.view]'
)
_ITEMS = "item_id,title\n" + "".join(f"i{n},t{n}\n" for n in range(40))


def _write(folder: Path, day: int, rows: list[dict[str, Any]]) -> None:
    (folder / f"day{day}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _second_load(shop: workspace.Workspace, folder: Path, case: str, rows: list[dict[str, Any]]) -> None:
    """The second half of the events, and what makes it come with larger offsets but earlier times."""
    half = len(rows) // 2
    if case == "a new item":
        (folder / "items.csv").write_text(_ITEMS + "i40,new\n")
    elif case == "a changed title":
        (folder / "items.csv").write_text(_ITEMS.replace("t3\n", "T3\n"))
        shop.ingest()
    elif case == "a PUT between":
        shop.log.append([RawEvent(type="$item", ts=shop.clock.now(), ids={"item": "i0"}, payload={"title": "put"})])
    _write(folder, 2, rows[half - (60 if case == "overlapping files" else 0) :])
    shop.ingest()
    if case == "an event that comes late":
        # One user, one second, two events a week apart: between them lies nearly everything.
        shop.log.append([RawEvent(type="view", ts=rows[5]["ts"], ids={"user": rows[5]["user"], "item": "i39"})])


@pytest.mark.parametrize(
    "case", ["a new item", "a changed title", "a PUT between", "overlapping files", "an event that comes late"]
)
def test_a_second_load_is_read_in_the_order_of_time(tmp_path: Path, case: str):
    rows = shop_events()
    (tmp_path / "feedwell.toml").write_text(_PROJECT)
    (tmp_path / "items.csv").write_text(_ITEMS)
    _write(tmp_path, 1, rows[: len(rows) // 2])
    with workspace.open(tmp_path, clock=ManualClock(START + 6 * DAY)) as shop:
        shop.ingest()
        _second_load(shop, tmp_path, case, rows)
        assert shop.evaluate().rows
        shop.publish(shop.train().release_id, force=True)  # what the gates say is not the question here
        record = shop.recommend("u1").record
        frame = pa.table({"user": [record.user] * len(record.keys), "item": list(record.keys)})
        frame = frame.append_column("t", pa.array([record.t] * len(record.keys)))
        read = asof(shop.features.set, shop.log.segment_paths(), frame)
        names = [name for name in record.feature_names if name in read.column_names]
        assert names
        for name in names:
            online = [row[record.feature_names.index(name)] for row in record.features]
            np.testing.assert_array_equal(online, read[name].to_numpy())

from __future__ import annotations

import math
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feedwell.core.slate import SlateRecord
from feedwell.stores.records import RecordStore


def record(request_id: str = "r1", user: int = 1, t: int = 100, **changes: Any) -> SlateRecord:
    made: dict[str, Any] = {
        "request_id": request_id,
        "user": user,
        "user_id": "u",
        "t": t,
        "surface": "home",
        "n": 2,
        "release_id": "rel",
        "project_digest": "d",
        "epoch": 0,
        "state_offset": 5,
        "tail_offset": -1,
        "seed": 1,
        "width": 1.0,
        "keys": [4, 9],
        "utility": [0.1 + 0.2, math.nan],
        "propensity": [0.25, 1.0],
        "sources": [3, 2],
        "source_names": ["source.a", "source.b"],
        "predictions": {"buy": [0.5, math.nan]},
        "feature_names": ["f", "g"],
        "features": [[float(np.float32(0.1)), math.nan], [1.0, 2.0]],
        "user_features": {"age": math.nan, "views": 3.0},
        "assignments": {"exp": "b"},
    }
    return SlateRecord(**{**made, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    opened = RecordStore.open(tmp_path)
    yield opened
    opened.close()


def test_what_is_written_is_read_bit_for_bit(store: RecordStore) -> None:
    store.write(record())
    assert repr(store.get("r1")) == repr(record())


def test_an_empty_slate_is_kept(store: RecordStore) -> None:
    empty = record(keys=[], utility=[], propensity=[], sources=[], features=[], predictions={"buy": []})
    store.write(empty)
    assert repr(store.get("r1")) == repr(empty)


def test_an_unknown_request_is_none(store: RecordStore) -> None:
    assert store.get("nope") is None
    assert store.trace("nope") is None


def test_traces_come_back_with_null_for_nan(store: RecordStore) -> None:
    store.write(record(), {"keys": np.array([1, 2]), "scores": np.array([0.5, np.nan])})
    assert store.trace("r1") == {"keys": [1, 2], "scores": [0.5, None]}


def test_a_request_id_is_kept_once(store: RecordStore) -> None:
    store.write(record(n=2))
    store.write(record(n=3))
    assert store.count() == 1
    found = store.get("r1")
    assert found is not None
    assert found.n == 3


def test_slots_are_rows_for_training(store: RecordStore) -> None:
    store.write(record("r1", t=100))
    store.write(record("r2", t=200, prefix=[7, 8]))
    table = store.scan(since=100, until=201)
    assert table["request_id"].to_pylist() == ["r1", "r1", "r2", "r2"]
    assert table["slot"].to_pylist() == [1, 2, 3, 4]
    assert table["item"].to_pylist() == [4, 9, 4, 9]
    assert table["propensity"].to_pylist() == [0.25, 1.0] * 2
    assert table["sources"].to_pylist()[:2] == [["source.a", "source.b"], ["source.b"]]
    assert dict(table["features"].to_pylist()[1]) == {"f": 1.0, "g": 2.0}
    assert store.scan(since=101)["request_id"].to_pylist() == ["r2", "r2"]
    assert store.scan(until=100).num_rows == 0


def test_what_was_not_shown_is_kept_and_is_no_slot(store: RecordStore) -> None:
    store.write(record("r1", among=[4, 9], shown=False))
    store.write(record("r2"))
    found = store.get("r1")
    assert found is not None
    assert (found.keys, found.shown) == ([4, 9], False)
    assert [r.request_id for r in store.records()] == ["r1", "r2"]
    assert store.scan()["request_id"].to_pylist() == ["r2", "r2"]


def test_a_users_records_newest_first(store: RecordStore) -> None:
    for i in range(5):
        store.write(record(f"r{i}", t=i, user=i % 2))
    assert [r.request_id for r in store.of_user(0)] == ["r4", "r2", "r0"]
    assert [r.request_id for r in store.of_user(0, since=1, limit=1)] == ["r4"]


def test_forget_leaves_no_record_and_no_trace(store: RecordStore) -> None:
    store.write(record("r1", user=1), {"x": 1})
    store.write(record("r2", user=2), {"x": 2})
    assert store.forget([1]) == 1
    assert store.get("r1") is None
    assert store.trace("r1") is None
    assert store.get("r2") is not None
    assert store.trace("r2") == {"x": 2}


def test_threads_share_commits_and_lose_nothing(store: RecordStore) -> None:
    def write(k: int) -> None:
        for i in range(25):
            store.write(record(f"{k}-{i}"))
            assert store.get(f"{k}-{i}") is not None

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count() == 200
    assert len({r.request_id for r in store.records()}) == 200


def _write_elsewhere(folder: Path) -> None:
    RecordStore.open(folder).write(record("far"))


def test_another_process_finds_it(tmp_path: Path, store: RecordStore) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_write_elsewhere, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert store.get("far") is not None

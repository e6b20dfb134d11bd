"""The dictionary: lookups both ways, across processes, with caches that never lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedwell.core.clock import ManualClock
from feedwell.core.errors import UsageError
from feedwell.core.event import RawEvent
from feedwell.core.project import Project, ProjectSection
from feedwell.stores.ids import store
from feedwell.stores.log import EventLog


def open_log(folder: Path) -> EventLog:
    return EventLog.open(folder, Project(project=ProjectSection(name="shop")), ManualClock(10))


def views(names: list[str]) -> list[RawEvent]:
    return [RawEvent(type="view", ts=1, ids={"user": name, "item": f"item of {name}"}) for name in names]


def test_keys_count_up_per_entity_and_come_back_as_names(tmp_path: Path):
    log = open_log(tmp_path)
    log.append(views(["b", "a", "b"]))
    assert log.ids.lookup("user", ["a", "x", "b", "a"]).tolist() == [1, -1, 0, 1]
    assert log.ids.names("item", [1, 7, 0, -1]) == ["item of a", None, "item of b", None]
    assert (log.ids.size("user"), log.ids.size("item")) == (2, 2)
    assert log.ids.lookup("user", []).tolist() == []


def test_another_process_sees_new_keys_at_once(tmp_path: Path):
    one, two = open_log(tmp_path), open_log(tmp_path)
    assert two.ids.lookup("user", ["a"]).tolist() == [-1]
    one.append(views(["a"]))
    assert two.ids.lookup("user", ["a"]).tolist() == [0]
    two.append(views(["b"]))
    assert one.ids.lookup("user", ["a", "b"]).tolist() == [0, 1]


def test_many_ids_at_once(tmp_path: Path):
    log = open_log(tmp_path)
    names = [f"u{i}" for i in range(2_500)]
    log.append(views(names))
    fresh = open_log(tmp_path)
    assert fresh.ids.lookup("user", names).tolist() == list(range(2_500))
    assert fresh.ids.names("user", range(2_500)) == names


def test_a_full_cache_is_emptied_not_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "_MAX_CACHED", 3)
    log = open_log(tmp_path)
    for i in range(20):
        log.append(views([f"u{i}", f"v{i}"]))
    assert log.ids.lookup("user", ["u0", "v9", "u19"]).tolist() == [0, 19, 38]
    assert len(log.ids.cached("user")) <= 3


def test_broken_unicode_is_unknown_not_an_error(tmp_path: Path):
    assert open_log(tmp_path).ids.lookup("user", ["\ud800"]).tolist() == [-1]


def test_an_undeclared_entity_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match="planet"):
        open_log(tmp_path).ids.lookup("planet", ["x"])

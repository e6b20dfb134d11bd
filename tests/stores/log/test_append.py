"""Appending: offsets, times, keys, derived keys, each event once, whoever appends."""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from feedwell.core.errors import UsageError
from feedwell.core.event import RawEvent, hash_event_id


def test_offsets_and_times_grow_though_the_clock_steps_back(log, clock, view, rows_of):
    assert log.append([view(), view()]).offsets == [0, 1]
    clock.set(10)
    assert log.append([view()]).offsets == [2]
    clock.set(5_000_000)
    log.append([view()])
    assert [r["available_at"] for r in rows_of(log)] == [1_000_000, 1_000_001, 1_000_002, 5_000_000]
    assert log.high_water() == (3, 5_000_000)


def test_an_empty_log_says_so(log, open_log):
    assert log.high_water() == (-1, 0)
    assert log.read(-1, 10).num_rows == 0
    assert log.append([]).offsets == []
    assert log.segment_paths() == []


def test_an_event_id_is_stored_once(log, open_log, view, rows_of):
    first = log.append([view(event_id="a"), view(event_id="b"), view(event_id="a")])
    assert (first.offsets, first.n_new, first.n_duplicate) == ([0, 1, -1], 2, 1)
    assert open_log().append([view("u2", event_id="b"), view(event_id="c")]).offsets == [-1, 2]
    log.seal(1)
    assert open_log().append([view(event_id="a"), view(event_id="c"), view(event_id="d")]).offsets == [-1, -1, 3]
    assert [r["event_id"] for r in rows_of(log)] == [hash_event_id(x) for x in "abcd"]


def test_a_duplicate_makes_no_keys(log, view):
    log.append([view("u1", event_id="a")])
    log.append([view("u2", event_id="a")])
    assert log.ids.size("user") == 1
    assert log.ids.lookup("user", ["u1", "u2"]).tolist() == [0, -1]


def test_events_without_an_id_are_all_kept(log, view):
    assert log.append([view(), view()]).n_new == 2
    assert log.append([view()]).n_new == 1


def test_all_columns_come_back(log, view, rows_of):
    event = view(
        type="buy", value=1.255, unit="EUR", session="s", device="d", request_id="r", slot=3, surface="home",
        payload={"b": 1, "a": "é\0"},
    )  # fmt: skip
    log.append([event], origin="simulated")
    stored = rows_of(log)[0]
    assert stored["value_scaled"] == 125
    assert (stored["value"], stored["unit"], stored["slot"], stored["surface"]) == (1.255, "EUR", 3, "home")
    assert (stored["session"], stored["device"], stored["request_id"]) == ("s", "d", "r")
    assert stored["payload"] == '{"a":"é\\u0000","b":1}'
    assert (stored["origin"], stored["schema_version"], stored["country"]) == ("simulated", 1, -1)


@pytest.mark.parametrize(
    "name", [" ", "a b", "Zoë 🎧", "x\0y", "9223372036854775808", "'; DROP TABLE event", "u" * 512]
)
def test_odd_ids_come_back_exactly(log, open_log, view, name):
    log.append([view(name, name)])
    other = open_log()
    assert other.ids.names("user", other.ids.lookup("user", [name])) == [name]
    assert other.ids.names("item", other.ids.lookup("item", [name])) == [name]


def test_an_unknown_entity_is_refused_before_anything_is_stored(log, view):
    with pytest.raises(UsageError, match="shop"):
        log.append([view(), view(ids={"shop": "s"})])
    assert log.high_water() == (-1, 0)


def test_events_carry_the_derived_keys_of_their_moment(log, open_log, view, row, rows_of):
    log.append([view(), row("item", "i1", category="c1", maker="m1"), view()])
    open_log().append([row("maker", "m1", country="DE"), row("item", "i1", category="c2", maker="m1")])
    log.append([view(), view(item=None), row("item", "i1"), view()])
    key = {x: int(log.ids.lookup("category", [x])[0]) for x in ("c1", "c2")}
    found = [(r["category"], r["maker"], r["country"]) for r in rows_of(log)]
    m1, de = int(log.ids.lookup("maker", ["m1"])[0]), int(log.ids.lookup("country", ["DE"])[0])
    assert found == [
        (-1, -1, -1),
        (key["c1"], m1, -1),
        (key["c1"], m1, -1),
        (-1, m1, de),
        (key["c2"], m1, de),
        (key["c2"], m1, de),
        (-1, -1, -1),
        (-1, -1, -1),
        (-1, -1, -1),
    ]


def test_a_key_that_the_event_names_itself_wins(log, view, row, rows_of):
    log.append([row("item", "i1", category="c1"), view(ids={"category": "c9"})])
    assert rows_of(log)[1]["category"] == log.ids.lookup("category", ["c9"])[0]


def test_an_equal_catalog_row_is_a_duplicate_and_a_changed_one_is_not(log, open_log, row):
    assert log.append([row("item", "i1", a=1, b=2), row("item", "i1", b=2, a=1)]).offsets == [0, -1]
    assert open_log().append([row("item", "i1", a=1, b=2), row("item", "i1", a=1)]).offsets == [-1, 1]
    assert log.append([row("item", "i1", a=1, b=2)]).offsets == [2]


def test_an_entity_declared_later_is_unset_in_older_events(open_log, view, row, rows_of):
    from feedwell.core.project import EntitySection, Project, ProjectSection

    small = Project(project=ProjectSection(name="shop"))
    large = Project(project=ProjectSection(name="shop"), entity={"brand": EntitySection(**{"from": "item.brand"})})
    before = open_log(project=small)
    before.append([view(), view()])
    before.seal(0)
    after = open_log(project=large)
    after.append([row("item", "i1", brand="b"), view()])
    assert [r["brand"] for r in rows_of(after)] == [-1, -1, 0, 0]


def test_a_row_is_stored_anew_when_what_is_derived_from_it_changes(open_log, row):
    from feedwell.core.project import EntitySection, Project, ProjectSection

    small = Project(project=ProjectSection(name="shop"))
    large = Project(project=ProjectSection(name="shop"), entity={"brand": EntitySection(**{"from": "item.brand"})})
    open_log(project=small).append([row("item", "i1", brand="b")])
    assert open_log(project=large).append([row("item", "i1", brand="b")]).n_new == 1


def test_threads_share_commits_and_nothing_is_lost(log, view, rows_of):
    offsets: list[int] = []

    def work(name: str) -> None:
        for n in range(10):
            offsets.extend(log.append([view(f"{name}{n}", event_id=f"{name}-{n}-{i}") for i in range(5)]).offsets)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(offsets) == list(range(300))
    assert len({r["event_id"] for r in rows_of(log)}) == 300
    assert sorted(log.ids.lookup("user", [f"t{i}{n}" for i in range(6) for n in range(10)])) == list(range(60))


_WRITER = """
import sys
from pathlib import Path
from feedwell.core.clock import SystemClock
from feedwell.core.event import RawEvent
from feedwell.core.project import Project, ProjectSection
from feedwell.stores.log import EventLog
log = EventLog.open(Path(sys.argv[1]), Project(project=ProjectSection(name="shop")), SystemClock())
for n in range(30):
    log.append([RawEvent(type="view", ts=n, ids={"user": f"u{n}"}, event_id=f"{n}-{i}") for i in range(10)])
"""


def test_processes_share_keys_and_ids(open_log, tmp_path: Path, rows_of):
    from feedwell.core.project import Project, ProjectSection

    command = [sys.executable, "-c", _WRITER, str(tmp_path / "feedwell")]
    writers = [subprocess.Popen(command) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    found = rows_of(open_log(project=Project(project=ProjectSection(name="shop"))))
    assert [r["offset"] for r in found] == list(range(300))
    assert len({r["event_id"] for r in found}) == 300
    assert len({r["user"] for r in found}) == 30
    times = [r["available_at"] for r in found]
    assert all(a < b for a, b in pairwise(times))


def test_who_joins_a_commit_that_fails_is_told(log, view, monkeypatch):
    monkeypatch.setattr(log._appender, "_write", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        log.append([view()])
    monkeypatch.undo()
    assert log.append([RawEvent(type="view", ts=1, ids={"user": "u1"})]).offsets == [0]
    assert log.ids.lookup("user", ["u1"]).tolist() == [0]

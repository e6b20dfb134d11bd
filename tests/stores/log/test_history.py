"""Loading history: sorted, keyed, each row once, all or nothing."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedwell.core.clock import ManualClock
from feedwell.core.errors import DataError
from feedwell.core.event import RawEvent, hash_event_id, scale_value
from feedwell.stores.log import EventLog, raw_schema
from feedwell.stores.log import stage as stage_module


def table(log: EventLog, rows: list[dict[str, Any]], file: int = 0) -> pa.Table:
    return pa.Table.from_pylist([{"_file": file, "type": "view", **row} for row in rows], raw_schema(log.entities))


def load(log: EventLog, *tables: list[dict[str, Any]], **options: Any) -> Any:
    return log.load_history([table(log, rows, i) for i, rows in enumerate(tables)], **options)


def test_rows_come_in_order_of_time_then_of_arrival(log, rows_of):
    report = load(
        log,
        [{"ts": 30, "user": "c"}, {"ts": 10, "user": "a"}],
        [{"ts": 10, "user": "b"}, {"ts": 40, "available_at": 20, "user": "d", "item": "i"}],
    )
    found = rows_of(log)
    names = log.ids.names("user", [r["user"] for r in found])
    assert names == ["a", "b", "d", "c"]
    assert [r["available_at"] for r in found] == [10, 10, 20, 30]
    assert [r["offset"] for r in found] == [0, 1, 2, 3]
    assert {r["origin"] for r in found} == {"history"}
    assert (report.n_new, report.first_at, report.last_at, report.epoch, log.epoch) == (4, 10, 30, 1, 1)
    assert report.types == {"view": 4}


def test_the_assumed_delay_is_added_where_no_time_is_given(log, rows_of):
    load(log, [{"ts": 30, "user": "c"}, {"ts": 10, "user": "a", "available_at": 11}], assumed_delay=5)
    assert [(r["ts"], r["available_at"]) for r in rows_of(log)] == [(10, 11), (30, 35)]


def test_live_events_follow_history(log, view, rows_of):
    log.append([view("live")])
    load(log, [{"ts": 7_000_000, "user": "u"}])
    log.append([view("late")])
    assert [(r["offset"], r["available_at"]) for r in rows_of(log)] == [(0, 1_000_000), (1, 7_000_000), (2, 7_000_001)]
    assert log.high_water() == (2, 7_000_001)


def test_loading_twice_changes_nothing(log, open_log, rows_of):
    rows = [{"ts": i % 5, "user": f"u{i % 3}", "value": i / 7} for i in range(40)]
    load(log, rows)
    before = rows_of(log)
    again = load(open_log(), rows)
    assert (again.n_new, again.n_known, again.epoch) == (0, 40, 1)
    assert rows_of(log) == before
    more = load(log, [*rows, {"ts": 3, "user": "new"}])
    assert (more.n_new, more.n_known, log.epoch) == (1, 40, 2)


def test_twins_in_one_file_both_stay_and_over_two_files_count_as_one(log, rows_of):
    twin, other = {"ts": 1, "user": "u"}, {"ts": 1, "user": "v"}
    report = load(log, [twin, twin, other], [twin, twin, twin])
    assert (report.n_new, report.n_twins_across_files) == (4, 2)
    assert len({r["event_id"] for r in rows_of(log)}) == 4
    assert load(log, [twin, twin, twin]).n_new == 0
    assert load(log, [twin] * 4).n_new == 1


def test_a_row_differs_by_each_of_its_columns(log):
    base = {"ts": 1, "user": "u", "item": "i"}
    variants = [
        {"type": "buy"}, {"ts": 2}, {"user": "u2"}, {"item": None}, {"value": 1.0}, {"slot": 1}, {"session": "s"},
        {"device": "s"}, {"request_id": "s"}, {"unit": "s"}, {"surface": "s"}, {"payload": "{}"}, {"category": "s"},
        {"user": "u|item=1:i", "item": None},
    ]  # fmt: skip
    assert load(log, [base, *({**base, **change} for change in variants)]).n_new == len(variants) + 1
    assert load(log, [base]).n_new == 0


def test_client_ids_are_one_space_with_live_ones(log, view, rows_of):
    log.append([view(event_id="a")])
    log.append([view(event_id="b")])
    log.seal(0)
    report = load(log, [{"ts": 1, "user": "u", "event_id": x} for x in "abcc"])
    assert (report.n_new, report.n_known, report.n_repeated) == (1, 2, 1)
    assert log.append([view(event_id="c")]).n_new == 0
    assert [r["event_id"] for r in rows_of(log)] == [hash_event_id(x) for x in "abc"]


def test_a_live_event_that_comes_during_the_load_is_not_doubled(log, view, monkeypatch, rows_of):
    real = stage_module.Stage.events

    def meanwhile(self: Any) -> Any:
        log.append([view(event_id="a"), view(event_id="z")])
        return real(self)

    monkeypatch.setattr(stage_module.Stage, "events", meanwhile)
    load(log, [{"ts": 1, "user": "u", "event_id": "a"}])
    found = rows_of(log)
    assert sorted(r["event_id"] for r in found) == sorted(hash_event_id(x) for x in "az")
    assert [r["offset"] for r in found] == [0, 2]


def test_an_error_in_the_rows_stores_nothing(log):
    def rows() -> Any:
        yield table(log, [{"ts": 1, "user": "u"}])
        raise ValueError("strict")

    with pytest.raises(ValueError, match="strict"):
        log.load_history(rows())
    assert (log.high_water(), log.epoch, log.segment_paths()) == ((-1, 0), 0, [])
    assert not list((log.folder / "tmp").iterdir())


@pytest.mark.parametrize("committed", [False, True])
def test_a_crash_around_the_commit_is_all_or_nothing(log, open_log, monkeypatch, committed):
    from feedwell.stores.log import history, manifest

    def crash(*_: object) -> None:
        raise OSError("crash")

    rows = [{"type": "$item", "ts": 0, "available_at": 0, "item": "i", "payload": '{"category":"c"}'},
            {"ts": 1, "user": "u", "item": "i"}]  # fmt: skip
    monkeypatch.setattr(*((manifest, "write_atomic") if committed else (history, "_delete_repeated")), crash)
    with pytest.raises(OSError, match="crash"):
        load(log, rows)
    monkeypatch.undo()
    assert log.epoch == 0
    after = open_log()
    assert after.epoch == (1 if committed else 0)
    assert after.high_water()[0] == (1 if committed else -1)
    assert load(after, rows).n_new == (0 if committed else 2)
    assert after.seal(100) == 0  # and clears away what the failed load left
    assert {p.name for p in after.segments_folder.iterdir()} == {
        *(p.name for p in after.segment_paths()),
        *after.manifest_file.current().runs,
    }


def test_undated_catalog_rows_hold_from_the_beginning_then_change_from_now(log, view, row, rows_of, clock):
    def catalog(**items: str) -> list[dict[str, Any]]:
        base = {"type": "$item", "ts": 0, "available_at": 0}
        return [{**base, "item": item, "payload": f'{{"category":"{c}"}}'} for item, c in items.items()]

    first = load(log, catalog(i1="a", i2="b"), [{"ts": 5, "user": "u", "item": "i1"}])
    assert first.types == {"$item": 2, "view": 1}
    log.append([view(item="i1")])
    again = load(log, catalog(i1="a", i2="b"))
    assert (again.n_new, again.n_catalog_unchanged, again.n_catalog_changed, again.epoch) == (0, 2, 0, 1)
    changed = load(log, catalog(i1="A", i2="b"))
    assert (changed.n_new, changed.n_catalog_changed, changed.epoch) == (0, 1, 1)
    log.append([view(item="i1")])
    names = log.ids.names("category", [r["category"] for r in rows_of(log)])
    assert names == ["a", "b", "a", "a", "A", "A"]
    log.append([row("item", "i1", category="live")])
    assert load(log, catalog(i1="A", i2="b")).n_catalog_changed == 0  # the file says what it said
    assert load(log, catalog(i1="a", i2="b")).n_catalog_changed == 1
    assert load(log, catalog(i1="x", i2="b") + catalog(i1="a")).n_catalog_changed == 0  # the last row counts


def test_dated_versions_hold_from_their_time(log, rows_of):
    versions = [
        {"type": "$item", "ts": at, "available_at": at, "item": "i", "payload": f'{{"category":"{name}"}}'}
        for at, name in [(20, "b"), (10, "a"), (30, "")]
    ]
    load(log, versions, [{"ts": ts, "user": "u", "item": "i"} for ts in (9, 10, 19, 20, 29, 30)])
    found = [r for r in rows_of(log) if r["type"] == "view"]
    assert log.ids.names("category", [r["category"] for r in found]) == [None, "a", "a", "b", "b", None]
    # A later load finds the versions in the log.
    load(log, [{"ts": ts, "user": "v", "item": "i"} for ts in (15, 25)])
    found = [r for r in rows_of(log) if r["ts"] in (15, 25)]
    assert log.ids.names("category", [r["category"] for r in found]) == ["a", "b"]


def test_a_live_load_gives_the_time_of_now_and_the_same_ids(log, clock, rows_of):
    rows = [{"ts": 5, "user": "u"}, {"ts": 3, "user": "v"}, {"ts": 5, "user": "u"}]
    report = log.load_live([table(log, rows)])
    assert (report.n_new, report.epoch) == (3, 0)
    assert [(r["ts"], r["available_at"]) for r in rows_of(log)] == [(5, 1_000_000), (3, 1_000_001), (5, 1_000_002)]
    assert log.load_live([table(log, rows)]).n_known == 3
    assert load(log, rows).n_known == 3


def test_many_rows_go_through_in_several_batches(log, monkeypatch):
    monkeypatch.setattr(stage_module, "_OUT_ROWS", 100)
    rows = [{"ts": (i * 7919) % 1000, "user": f"u{i % 37}", "value": float(i)} for i in range(1_000)]
    assert load(log, rows[:500], rows[500:]).n_new == 1_000
    found = log.read(-1, 2_000)
    assert found["available_at"].to_pylist() == sorted(r["ts"] for r in rows)
    assert found["offset"].to_pylist() == list(range(1_000))
    assert load(log, rows[:500], rows[500:]).n_known == 1_000


@pytest.mark.parametrize("name", [" ", "Zoë 🎧", "x\0y", "it's", "9223372036854775808"])
def test_odd_ids_come_back_exactly(log, name):
    load(log, [{"ts": 1, "user": name, "item": name}])
    assert log.ids.names("user", [0]) == [name]
    assert load(log, [{"ts": 1, "user": name, "item": name}]).n_new == 0


_item = st.sampled_from(["i1", "i2"])
_catalog = st.tuples(st.just("$item"), _item, st.sampled_from(["a", "b", ""]), st.sampled_from(["m", "n", ""]))
_maker = st.tuples(st.just("$maker"), st.sampled_from(["m", "n"]), st.sampled_from(["x", "y", ""]), st.just(""))
_event = st.tuples(st.just("view"), st.none() | _item, st.sampled_from([None, "b"]), st.just(""))
_value = st.none() | st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(_catalog | _maker | _event | _event, _value), max_size=14), cut=st.integers(0, 14))
def test_history_and_live_give_the_same_facts(tmp_path_factory: pytest.TempPathFactory, steps, cut):
    """The same events, appended one by one, or loaded as history in two loads."""
    from .conftest import PROJECT  # type: ignore[import-not-found]

    clock = ManualClock(100)
    live, loaded = (EventLog.open(tmp_path_factory.mktemp(name), PROJECT, clock) for name in ("live", "loaded"))
    rows = []
    for i, ((kind, name, first, second), value) in enumerate(steps):
        payload = {"category": first, "maker": second} if kind == "$item" else {"country": first}
        ids = {"user": "u"} if kind == "view" else {}
        ids |= {kind.lstrip("$") if kind != "view" else "item": name} if name else {}
        ids |= {"category": first} if kind == "view" and first else {}
        # The row number makes each row its own: an unchanged row is no event when it comes live.
        event = RawEvent(
            type="buy" if kind == "view" else kind, ts=100 + i, ids=ids, value=value,
            payload={**payload, "n": i} if kind != "view" else {}, event_id=f"e{i}",
        )  # fmt: skip
        clock.set(100 + i)
        live.append([event])
        text = None if kind == "view" else __import__("json").dumps(event.payload)
        rows.append({"type": event.type, "ts": event.ts, **ids, "value": value, "payload": text, "event_id": f"e{i}"})
    load(loaded, rows[:cut])
    load(loaded, rows[cut:])
    a, b = (log.read(-1, 100).to_pylist() for log in (live, loaded))
    for one, two in zip(a, b, strict=True):
        assert one["event_id"] == two["event_id"]
        for column in ("ts", "available_at", "type", "value", "value_scaled"):
            assert one[column] == two[column]
        assert one["value_scaled"] == scale_value(one["value"], 100 if one["type"] == "buy" else 1)
        for entity in PROJECT.entities:
            assert live.ids.names(entity, [one[entity]]) == loaded.ids.names(entity, [two[entity]]), entity
    for log in (live, loaded):
        log.close()


def test_seal_after_history_keeps_offset_order(log, view, rows_of):
    log.append([view() for _ in range(3)])
    load(log, [{"ts": 1, "user": "h"}, {"ts": 2, "user": "h"}])
    log.append([view() for _ in range(3)])
    expected = rows_of(log)
    assert [r["offset"] for r in expected] == list(range(8))
    log.seal(1)
    assert rows_of(log) == expected
    log.seal(100)
    assert rows_of(log) == expected
    assert log.read(2, 3)["offset"].to_pylist() == [3, 4, 5]
    assert log.sealed_upto() == 7
    assert log.user_tail(int(log.ids.lookup("user", ["h"])[0]), -1).num_rows == 0


def test_a_row_from_ahead_of_the_clock_stores_nothing(log, clock):
    limit = clock.now() + log.project.data.max_future
    for rows, delay in (([{"ts": 1, "user": "u"}, {"ts": 2, "available_at": limit + 1}], 0), ([{"ts": 1}], limit)):
        with pytest.raises(DataError, match=r"ahead of the clock.*nothing was stored"):
            load(log, rows, assumed_delay=delay)
        assert (log.high_water(), log.epoch, log.segment_paths()) == ((-1, 0), 0, [])
    assert load(log, [{"ts": limit, "user": "u"}]).n_new == 1

"""One contract, two readings: live events in Python, files in SQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedwell.core.clock import ManualClock
from feedwell.core.event import RawEvent
from feedwell.core.project import DataSection, EntitySection, EventSection, Project, ProjectSection
from feedwell.data.contracts import EventContract, RowContract, read_list
from feedwell.data.ingest import ingest
from feedwell.data.quarantine import reason_kind
from feedwell.stores.log import EventLog

NOW = 1_700_000_000_000_000
PROJECT = Project(
    project=ProjectSection(name="shop"),
    data=DataSection(events="events.jsonl"),
    event={"buy": EventSection(value_scale=100, context={"price": "float", "gift": "bool", "n": "int"})},
    entity={"item": EntitySection(columns={"price": "float"})},
)

names = st.sampled_from(["", "u", "a b", "x\0y", "é" * 256, "é" * 257, "u" * 512, "u" * 513]) | st.integers(0, 2**63)
moments = [0, 5, 1_699_999_999, 1.5, 1_700_000_000_000, 1_700_000_100, 1_700_000_700, -1, 2**62, "1700000000"]
written = ["2023-01-01", "2023-01-01T00:00:00+02:00", "soon", "", "1e9", "1700000000.75"]
times = st.sampled_from([*moments, *written])
rows = st.fixed_dictionaries(
    {"type": st.sampled_from(["view", "buy", "", "$item", "v" * 65]), "user": names, "ts": times},
    optional={
        "item": names,
        "value": st.sampled_from([0, 1.255, -3, 1e300, 2.0**61, 5e18]),
        "slot": st.sampled_from([0, 3, -1, 1.5, 2**31]),
        "session": st.sampled_from(["s", "s" * 513]),
        "event_id": names,
        "price": st.sampled_from([1, 2.5, "cheap"]),
        "n": st.sampled_from([1, 2.5, "7"]),
    },
)


def live(row: dict[str, Any], now: int) -> RawEvent | str:
    """The row as an HTTP event: context apart, empty ids left out as a csv would."""
    event = {name: cell for name, cell in row.items() if name not in ("price", "n") and (cell != "" or name != "item")}
    event = {name: cell for name, cell in event.items() if name != "event_id" or cell != ""}
    if event["ts"] == "":
        return "ts is missing"
    if event["type"] == "buy":
        event["context"] = {name: row[name] for name in ("price", "n") if name in row}
    return EventContract(PROJECT)(event, now)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(rows, min_size=5, max_size=25))
def test_files_and_http_agree(tmp_path_factory: pytest.TempPathFactory, batch: list[dict[str, Any]]):
    folder = tmp_path_factory.mktemp("shop")
    # Each row its own, so that twins and repeated ids do not hide one behind another.
    batch = [{**row, "device": f"d{i}"} for i, row in enumerate(batch)]
    batch = [{**r, "event_id": f"{r['event_id']}{i}"[-512:]} if r.get("event_id") else r for i, r in enumerate(batch)]
    (folder / "events.jsonl").write_text("\n".join(json.dumps(row) for row in batch) + '\n{"item":"i"}')
    log = EventLog.open(folder / ".feedwell", PROJECT, ManualClock(NOW))
    report = ingest(PROJECT, folder, log)
    stored = {r["device"]: r for r in log.read(-1, 1000).to_pylist()}
    for row in batch:
        expected = live(row, NOW)
        found = stored.get(row["device"])
        assert (found is None) == isinstance(expected, str), (row, expected)
        if isinstance(expected, RawEvent) and found is not None:
            assert (found["type"], found["ts"], found["value"], found["slot"]) == (
                expected.type, expected.ts, expected.value, expected.slot)  # fmt: skip
            assert log.ids.names("user", [found["user"]]) == [expected.ids["user"]]
            assert log.ids.names("item", [found["item"]]) == [expected.ids.get("item")]
            assert json.loads(found["payload"] or "{}") == dict(expected.payload)
    assert report.n_quarantined == len(batch) - len(stored) + 1
    log.close()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "type is missing"),
        ({"type": "v", "user": "u", "itme": "i"}, "unknown field 'itme'"),
        ({"type": "v", "user": ["u"]}, "user cannot be read"),
        ({"type": "v", "user": True}, "user cannot be read: True"),
        ({"type": "v", "user": "u", "item": False}, "item cannot be read: False"),
        ({"type": "v", "user": "u", "session": True}, "session cannot be read: True"),
        (
            {"type": "v", "user": 2.0**53},
            "user is not exact as a number: 9007199254740992.0; send such an id as a text",
        ),
        ({"type": "v", "user": "u", "event_id": 1e300}, "event_id is not exact as a number"),
        ({"type": "served", "user": "u", "item": "i"}, "type 'served' is what the server itself appends"),
        ({"type": "v", "user": "u", "ts": True}, "ts cannot be read"),
        ({"type": "v", "user": "\ud800"}, "user is not valid Unicode"),
        ({"type": "v", "user": "u", "value": "3"}, "value must be a number"),
        ({"type": "v", "user": "u", "value": float("nan")}, "value is not finite"),
        ({"type": "v", "user": "u", "slot": True}, "slot must be a whole number"),
        ({"type": "v", "user": "u", "ts": 1_800_000_000}, "ts is 100000000 s ahead of the clock"),
        ({"type": "buy", "user": "u", "context": {"colour": 1}}, "context of 'buy' has 'colour'"),
        ({"type": "buy", "user": "u", "context": {"gift": "maybe"}}, "column gift: 'maybe' cannot be read as bool"),
    ],
)
def test_refused_events_say_why(row, reason):
    found = EventContract(PROJECT)(row, NOW)
    assert isinstance(found, str)
    assert found.startswith(reason)


INEXACT = ["18446744073709551617", "18446744073709551618", "9007199254740993.0", "1e22", "-9223372036854775809"]


def test_numbers_that_json_cannot_tell_apart_and_booleans_are_no_ids(tmp_path: Path):
    """By HTTP and in JSON lines alike; whole numbers of 64 bits and texts of any length are."""
    good = ["18446744073709551615", '"18446744073709551617"', "9007199254740991.0", '"true"', '"1e22"']
    cells = [*INEXACT, "true", "false", *good]
    lines = [f'{{"type":"v","user":{cell},"item":"i","device":"d{i}","ts":1700000000}}' for i, cell in enumerate(cells)]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    log = EventLog.open(tmp_path / ".feedwell", PROJECT, ManualClock(NOW))
    report = ingest(PROJECT, tmp_path, log)
    table = log.read(-1, 100)
    stored = dict(zip(table["device"].to_pylist(), log.ids.names("user", table["user"].to_pylist()), strict=True))
    log.close()
    n_bad = len(cells) - len(good)
    assert report.reasons == {"user is not exact as a number": len(INEXACT), "user cannot be read": 2}
    for i, line in enumerate(lines):
        live = EventContract(PROJECT)(orjson.loads(line), NOW)
        assert isinstance(live, str) == (i < n_bad)
        expected = None if i < n_bad else cells[i].strip('"').removesuffix(".0")
        assert (stored.get(f"d{i}"), None if isinstance(live, str) else live.ids["user"]) == (expected, expected)


def test_columns_of_floats_and_booleans_are_judged_alike(tmp_path: Path):
    table = {
        "type": ["v"] * 3, "user": [1.0, 2.0**53, 3.0], "item": [1.0, 1.0, -(2.0**60)], "session": [True, None, None],
        "ts": [1_700_000_000] * 3,
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "events.parquet")
    project = PROJECT.model_copy(update={"data": PROJECT.data.model_copy(update={"events": "events.parquet"})})
    log = EventLog.open(tmp_path / ".feedwell", project, ManualClock(NOW))
    report = ingest(project, tmp_path, log)
    log.close()
    assert report.load.n_new == 0
    assert report.reasons == {
        "session cannot be read": 1, "user is not exact as a number": 1, "item is not exact as a number": 1
    }  # fmt: skip


def test_only_ids_of_things_are_shortened(tmp_path: Path):
    """An event's own id, its session and the like are the client's texts: "1.0" is not "1"."""
    names = ("event_id", "session", "request_id", "surface", "device", "unit")
    rows = [
        {"type": "v", "user": f"u{i}", "item": "1.00", "ts": 1_700_000_000, **dict.fromkeys(names, text)}
        for i, text in enumerate(["1", "1.0", "1.00"])
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    log = EventLog.open(tmp_path / ".feedwell", PROJECT, ManualClock(NOW))
    report = ingest(PROJECT, tmp_path, log)
    stored = log.read(-1, 100).to_pylist()
    assert report.load.n_new == len(stored) == 3
    assert log.ids.names("item", [row["item"] for row in stored]) == ["1"] * 3
    log.close()
    for row, text in zip(rows, ["1", "1.0", "1.00"], strict=True):
        live = EventContract(PROJECT)(row, NOW)
        assert isinstance(live, RawEvent)
        assert {getattr(live, name) for name in names} == {text}
    for name in names[1:]:
        assert [row[name] for row in stored] == ["1", "1.0", "1.00"]


def test_a_live_event_may_leave_out_its_time():
    event = EventContract(PROJECT)({"type": "v", "user": 12.0, "item": 2**63}, NOW)
    assert isinstance(event, RawEvent)
    assert (event.ts, event.ids) == (NOW, {"user": "12", "item": "9223372036854775808"})


def test_each_project_has_its_own_contract():
    other = Project(project=ProjectSection(name="other"), entity={"shop": EntitySection()})
    row = {"type": "v", "user": "u", "shop": "s"}
    assert isinstance(EventContract(PROJECT)(row, NOW), str)
    assert isinstance(EventContract(other)(row, NOW), RawEvent)
    assert isinstance(EventContract(PROJECT)(row, NOW), str)


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("a|b c|", ["a", "b c"]),
        ("a b", ["a", "b"]),
        ("a, b", ["a", "b"]),
        ('["x","y"]', ["x", "y"]),
        ([1, 2], ["1", "2"]),
    ],
)
def test_lists_are_divided_by_what_they_contain(cell, parts):
    assert read_list(cell) == parts


def test_a_row_without_an_id_names_the_key_that_stands_in_its_place():
    named = PROJECT.model_copy(update={"entity": {"item": EntitySection(id="item", columns={"price": "float"})}})
    contract = RowContract(named, "item")
    told = contract({"item_id": "i1", "price": 1}, NOW)
    assert told == "item is missing: the row has 'item_id' in its place, but the id's key is 'item'"
    assert "'Item' in its place" in str(contract({"Item": "i1"}, NOW))
    assert contract({"price": 1}, NOW) == "item is missing"
    assert contract({"item": None, "item_id": "i1"}, NOW) == "item is missing"
    assert contract.undeclared({"item": "i1", "price": 1, "prize": 2, "gone": None}) == {"prize"}


def test_a_renamed_column_is_declared_under_both_of_its_names():
    """A row over HTTP may call it as the files do or as the project does: it is typed and kept alike."""
    item = EntitySection(id="Film-ID", columns={"year": "int"}, rename={"year": "Jahr", "maker": "Studio"})
    contract = RowContract(PROJECT.model_copy(update={"entity": {"item": item}}), "item")
    for row in ({"Film-ID": "A2", "year": "1995", "maker": "x"}, {"Film-ID": "A2", "Jahr": "1995", "Studio": "x"}):
        event = contract(row, NOW)
        assert isinstance(event, RawEvent)
        assert event.payload == {"year": 1995, "maker": "x"}
        assert contract.undeclared(row) == set()
    assert contract.undeclared({"Film-ID": "A2", "jahr": 1995}) == {"jahr"}


def test_a_row_that_is_too_large_is_refused():
    found = RowContract(PROJECT, "item")({"id": "i", "text": "x" * 70_000}, NOW)
    assert found == "the row is larger than 65536 bytes"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("column price: 'x: y' cannot be read as float", "column price: cannot be read as float"),
        ("ts is 37 s ahead of the clock", "ts is ahead of the clock"),
        ("ts cannot be read: 'a'", "ts cannot be read"),
        ("user is missing", "user is missing"),
    ],
)
def test_reasons_are_counted_by_kind(reason, kind):
    assert reason_kind(reason) == kind


def test_the_folder_of_a_log_may_have_odd_names(tmp_path: Path):
    folder = tmp_path / "it's a shop"
    folder.mkdir()
    (folder / "events.jsonl").write_text('{"type":"v","user":"u","item":"i","ts":1}\n')
    log = EventLog.open(folder / ".feedwell", PROJECT, ManualClock(NOW))
    assert ingest(PROJECT, folder, log).load.n_new == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"type": ["view"]}, "type must be a text, not ['view']"),
        ({"type": None}, "type is missing"),
        ({"context": 5}, "context must be an object, not 5"),
        ({"context": {"nope": 1}}, "context of 'v' has 'nope', and it declares none"),
    ],
)
def test_a_refusal_names_what_was_sent(fields, says):
    assert says in EventContract(PROJECT)({"type": "v", "user": "u", **fields}, NOW)


TIMES = {
    "2023-11-14T22:13:20Z": 1_700_000_000_000_000,
    "2023-11-14 23:13:20": 1_700_000_000_000_000,
    " 2023-11-14T23:13 ": 1_699_999_980_000_000,
    "2023-11-14T22:13Z": 1_699_999_980_000_000,
    "2023-11-14T22:13:20.1234567Z": 1_700_000_000_123_456,
    "2023-11-14T22:13+00": 1_699_999_980_000_000,
    "2023-11-14": 1_699_916_400_000_000,
    "2023-10-29 02:30:00": 1_698_543_000_000_000,
    "2023-03-26 02:30:00": 1_679_794_200_000_000,
    "2023-W46-2": None,
    "20231114T221320Z": None,
    "epoch": None,
    "infinity": None,
    "2023-11-14 22:13:20 America/New_York": None,
}


def test_a_text_is_the_same_time_by_every_route(tmp_path: Path):
    project = PROJECT.model_copy(update={"project": PROJECT.project.model_copy(update={"timezone": "Europe/Paris"})})
    rows = [{"type": "v", "user": "u", "item": "i", "device": text, "ts": text} for text in TIMES]
    (tmp_path / "events.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    log = EventLog.open(tmp_path / ".feedwell", project, ManualClock(NOW))
    ingest(project, tmp_path, log)
    stored = {row["device"]: row["ts"] for row in log.read(-1, 100).to_pylist()}
    log.close()
    for text, expected in TIMES.items():
        live = EventContract(project)(rows[list(TIMES).index(text)], NOW)
        found = live.ts if isinstance(live, RawEvent) else None
        assert (text, stored.get(text), found) == (text, expected, expected)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path):
    row = json.dumps({"type": "v", "user": "u", "item": "i", "ts": 1_700_000_000}).encode()
    (tmp_path / "events.jsonl").write_bytes(b"\xef\xbb\xbf" + row + b"\n")
    log = EventLog.open(tmp_path / ".feedwell", PROJECT, ManualClock(NOW))
    report = ingest(PROJECT, tmp_path, log)
    log.close()
    assert (report.load.n_new, report.n_quarantined) == (1, 0)


def test_values_whose_sums_would_overflow_are_refused(tmp_path: Path):
    row = {"type": "v", "user": "u", "item": "i", "ts": 1_700_000_000, "value": 2.0**48}
    assert str(EventContract(PROJECT)(row, NOW)).startswith("value is not finite or too large")
    (tmp_path / "events.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "value": 2.0**47}))
    log = EventLog.open(tmp_path / ".feedwell", PROJECT, ManualClock(NOW))
    report = ingest(PROJECT, tmp_path, log)
    log.close()
    assert (report.load.n_new, report.n_quarantined) == (1, 1)


def test_an_empty_string_view_is_no_id(tmp_path: Path):
    view = pa.array(["a", ""]).cast(pa.string_view())
    table = pa.table({"type": ["v", "v"], "user": view, "item": ["i", "i"], "ts": [1_700_000_000] * 2})
    pq.write_table(table, tmp_path / "events.parquet")
    project = PROJECT.model_copy(update={"data": PROJECT.data.model_copy(update={"events": "events.parquet"})})
    log = EventLog.open(tmp_path / ".feedwell", project, ManualClock(NOW))
    report = ingest(project, tmp_path, log)
    log.close()
    assert (report.load.n_new, report.reasons) == (1, {"user is missing": 1})


def test_a_number_is_the_same_id_by_every_route(tmp_path: Path):
    cells: list[Any] = [
        1e15,
        12.0,
        13,
        "12.0",
        "x",
        -4.0,
        2.5,
        "-0.0",
        -0.0,
        "007.0",
        "1.",
        "12.00",
        "v1.0",
        ".0",
        "1e3",
        "٣.0",
    ]
    rows = [
        {"type": "v", "user": cell, "item": "i", "ts": 1_700_000_000, "device": str(i)} for i, cell in enumerate(cells)
    ]
    expected_ids = ["1000000000000000", "12", "13", "12", "x", "-4", "2.5", "0", "0"]
    expected_ids += ["007.0", "1.", "12", "v1.0", ".0", "1e3", "٣.0"]
    (tmp_path / "events.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    log = EventLog.open(tmp_path / ".feedwell", PROJECT, ManualClock(NOW))
    ingest(PROJECT, tmp_path, log)
    table = log.read(-1, 100)
    stored = dict(zip(table["device"].to_pylist(), log.ids.names("user", table["user"].to_pylist()), strict=True))
    log.close()
    for i, expected in enumerate(expected_ids):
        live = EventContract(PROJECT)(rows[i], NOW)
        assert isinstance(live, RawEvent)
        assert (stored[str(i)], live.ids["user"]) == (expected, expected)

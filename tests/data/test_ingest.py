"""Files into the log: every format, every odd cell; nothing is dropped without a reason."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from feedwell.core.clock import SystemClock
from feedwell.core.errors import DataError
from feedwell.core.event import RawEvent
from feedwell.core.project import DataSection, EntitySection, EventSection, Project, ProjectSection
from feedwell.data.contracts import EventContract
from feedwell.data.ingest import IngestReport, ingest
from feedwell.data.unkeyed import unkeyed_notes
from feedwell.stores.log import EventLog

S = 1_000_000
NOW = 1_700_000_000


class Shop:
    """A project folder and its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = Project(project=ProjectSection(name="shop"))
        self._log: EventLog | None = None

    def declare(self, *, entity: dict[str, EntitySection] | None = None, event: Any = None, **data: Any) -> None:
        self.project = Project(
            project=ProjectSection(name="shop"), data=DataSection(**data), entity=entity or {}, event=event or {}
        )

    @property
    def log(self) -> EventLog:
        if self._log is None:
            self._log = EventLog.open(self.folder / ".feedwell", self.project, SystemClock())
        return self._log

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def ingest(self, **options: Any) -> IngestReport:
        return ingest(self.project, self.folder, self.log, **options)

    def events(self) -> list[dict[str, Any]]:
        """All stored events with outside ids."""
        rows = self.log.read(-1, 100_000).to_pylist()
        for entity in self.project.entities:
            for row, name in zip(rows, self.log.ids.names(entity, [r[entity] for r in rows]), strict=True):
                row[entity] = name
        return rows

    def quarantined(self, report: IngestReport) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in Path(str(report.quarantine)).read_bytes().splitlines()]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


ROWS = [("u1", "i1", "view", NOW), ("u 2", "i,2", "buy", NOW + 2), ('ü"3', "i1", "view", NOW + 1)]


def as_csv(path: Path, mark: str = ",") -> None:
    import csv

    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=mark).writerows([("user", "item", "type", "ts"), *ROWS])


def as_jsonl(path: Path) -> None:
    names = ("user", "item", "type", "ts")
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in ROWS))


def as_parquet(path: Path) -> None:
    user, item, kind, ts = zip(*ROWS, strict=True)
    pq.write_table(pa.table({"user": user, "item": item, "type": pa.array(kind).dictionary_encode(), "ts": ts}), path)


def zipped(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def both(path: Path) -> None:
        plain = path.with_suffix("")
        write(plain)
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()

    return both


WRITERS: dict[str, Callable[[Path], None]] = {
    "e.csv": as_csv,
    "e.tsv": lambda path: as_csv(path, "\t"),
    "e.txt": lambda path: as_csv(path, ";"),
    "e.jsonl": as_jsonl,
    "e.parquet": as_parquet,
    "e.csv.gz": zipped(as_csv),
    "e.jsonl.gz": zipped(as_jsonl),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_events(shop, name):
    WRITERS[name](shop.folder / name)
    shop.declare(events=name)
    report = shop.ingest()
    assert (report.n_rows, report.load.n_new, report.n_quarantined) == (3, 3, 0)
    found = [(r["user"], r["item"], r["type"], r["available_at"]) for r in shop.events()]
    assert found == [(u, i, t, ts * S) for u, i, t, ts in sorted(ROWS, key=lambda row: row[3])]
    assert shop.ingest().load.n_new == 0


def test_folders_globs_and_lists_name_files_once(shop):
    for name in ("day/1.csv", "day/deep/2.csv", "more/3.csv"):
        shop.write(name, f"user,item,type,ts\nu,{name[-5]},view,{NOW}\n")
    shop.write("day/readme.md", "not data")
    shop.declare(events=("day", "more/*.csv", "more"))
    assert [f.file for f in shop.ingest().files] == ["day/1.csv", "day/deep/2.csv", "more/3.csv"]


def test_a_path_that_is_there_is_no_pattern_and_neither_is_the_projects_folder(tmp_path):
    shop = Shop(tmp_path / "shop [1]")
    for name in ("ev [1].csv", "ev 1.csv", "day [2]/a.csv", "what?.csv", "whats.csv", "more/3.csv"):
        shop.write(name, f"user,item,type,ts\nu,{name},view,{NOW}\n")
    shop.declare(events=("ev [1].csv", "day [2]", "what?.csv", "more/*.csv"))
    assert [f.file for f in shop.ingest().files] == ["ev [1].csv", "day [2]/a.csv", "what?.csv", "more/3.csv"]


def test_a_pattern_without_a_file_is_named(shop):
    shop.declare(events="nowhere/*.csv")
    with pytest.raises(DataError, match=r"nowhere/\*\.csv"):
        shop.ingest()


def test_all_files_that_are_missing_or_cannot_be_read_are_named_together(shop):
    whole = shop.folder / "whole.parquet"
    pq.write_table(pa.table({"user": ["u1"] * 99}), whole)
    shop.write("cut.parquet", whole.read_bytes()[:200])
    shop.write("other.csv", "who,what\n")
    items = EntitySection(path=("no_items.csv", "other.csv"))
    shop.declare(events=("nowhere/*.csv", "cut.parquet", "other.csv"), entity={"item": items})
    with pytest.raises(DataError) as told:
        shop.ingest()
    lines = str(told.value).splitlines()
    wanted = [
        "no_items.csv",
        "other.csv: no column",
        "nowhere/*.csv",
        "cut.parquet (200 bytes)",
        "other.csv: no column",
    ]
    assert len(lines) == len(wanted)
    for line, part in zip(lines, wanted, strict=True):
        assert part in line
    shop.declare(events=[f"no{i}.csv" for i in range(30)])
    with pytest.raises(DataError, match=r"no19\.csv[^\n]*\n\.\.\. and 10 more$"):
        shop.ingest()


def test_an_unknown_format_is_named(shop):
    shop.write("e.xlsx", "x")
    shop.declare(events="e.xlsx")
    with pytest.raises(DataError, match="xlsx"):
        shop.ingest()


def test_columns_may_have_other_names_and_the_type_may_be_constant(shop):
    shop.write("e.csv", f"visitor;thing;when;stars\nu1;i1;{NOW}000;4\n")
    shop.declare(
        events="e.csv", type="rate", columns={"user": "visitor", "item": "thing", "ts": "when", "value": "stars"}
    )
    shop.ingest()
    (event,) = shop.events()
    assert (event["user"], event["item"], event["type"], event["ts"], event["value"]) == (
        "u1",
        "i1",
        "rate",
        NOW * S,
        4.0,
    )


def test_a_constant_type_goes_with_json_lines(shop):
    shop.write("e.jsonl", f'{{"user":"u","item":"i","ts":{NOW}}}\n')
    shop.declare(events="e.jsonl", type="view")
    assert shop.ingest().load.types == {"view": 1}


def test_available_at_is_read_where_it_is_and_said_to_be_assumed_where_not(shop):
    shop.write("e.csv", f"user,item,type,ts,available_at\nu,i,view,{NOW},{NOW + 5}\n")
    shop.declare(events="e.csv")
    assert not shop.ingest().notes
    assert shop.events()[0]["available_at"] == (NOW + 5) * S
    shop.write("e.csv", f"user,item,type,ts\nu,i,view,{NOW}\n")
    shop.declare(events="e.csv", assumed_delay="1h")
    assert shop.ingest().notes == ("available_at is assumed: ts + 1h ([data] assumed_delay)",)


def test_a_file_without_a_header_line(shop):
    shop.write("e.csv", f"u1,i1,{NOW}\nu2,i1,{NOW}\n")
    shop.declare(events="e.csv", type="view", header=("user", "item", "ts"))
    assert shop.ingest().load.n_new == 2


@pytest.mark.parametrize(
    ("cell", "unit", "expected"),
    [
        ("1700000000", "auto", 1_700_000_000 * S),
        ("1700000000123", "auto", 1_700_000_000_123_000),
        ("1700000000123456", "auto", 1_700_000_000_123_456),
        ("1700000000123456789", "auto", 1_700_000_000_123_456),
        ("1700000000.25", "auto", 1_700_000_000_250_000),
        ("1.7e9", "auto", 1_700_000_000 * S),
        ("5", "auto", 5 * S),
        ("5", "us", 5),
        ("1700000000000", "ms", 1_700_000_000_000_000),
        ("2023-11-14T22:13:20Z", "auto", 1_700_000_000 * S),
        ("2023-11-14 23:13:20.5+01:00", "iso", 1_700_000_000_500_000),
        ("2023-11-14", "auto", 1_699_920_000 * S),
    ],
)
def test_times_are_read(shop, cell, unit, expected):
    from feedwell.data.contracts import read_time

    shop.write("e.csv", f"user,item,type,ts\nu,i,view,{cell}\n")
    shop.declare(events="e.csv", ts_unit=unit)
    shop.ingest()
    assert shop.events()[0]["ts"] == expected == read_time(cell, unit)


def test_times_without_a_zone_are_the_projects(shop):
    from feedwell.data.contracts import read_time

    shop.write("e.csv", "user,item,type,ts\nu,i,view,2023-11-14 22:13:20\n")
    shop.project = Project(
        project=ProjectSection(name="shop", timezone="Europe/Berlin"), data=DataSection(events="e.csv")
    )
    shop.ingest()
    expected = 1_699_996_400 * S
    assert shop.events()[0]["ts"] == expected == read_time("2023-11-14 22:13:20", zone="Europe/Berlin")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_times_are_read_in_any_unit(shop, unit):
    for zone in (None, "Asia/Tokyo"):
        stamp = pa.array([NOW * 10**9]).cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp(unit, zone or "UTC"))
        stamp = stamp if zone else stamp.cast(pa.timestamp(unit))
        pq.write_table(
            pa.table({"user": ["u"], "item": [zone or "none"], "type": ["view"], "ts": stamp}),
            shop.folder / f"{unit}{zone and 1}.parquet",
        )
    shop.declare(events="*.parquet")
    shop.ingest()
    assert [r["ts"] for r in shop.events()] == [NOW * S] * 2


def test_parquet_dates_and_nanoseconds_are_times_in_catalogs_and_in_context(shop):
    day, ns = 1_699_920_000, NOW * 10**9 + 123_456_789
    dates, stamps = pa.array([day // 86_400] * 2, pa.date32()), pa.array([ns, None], pa.timestamp("ns"))
    items = {"item_id": ["a", "b"], "since": dates, "made": dates, "at": stamps, "shown": pa.array([[ns], []])}
    items["shown"] = items["shown"].cast(pa.list_(pa.timestamp("ns")))
    items["took"] = pa.array([ns, None], pa.duration("ns"))
    items["large"] = items["shown"].cast(pa.large_list(pa.timestamp("ns")))
    items["by"] = pa.array([[("one", ns)], []], pa.map_(pa.string(), pa.timestamp("ns")))
    pq.write_table(pa.table(items), shop.folder / "items.parquet")
    events = {"user": ["u", None], "item": ["a", "a"], "type": ["view"] * 2, "ts": stamps, "at": dates}
    pq.write_table(pa.table(events), shop.folder / "e.parquet")
    shop.declare(
        events="e.parquet",
        event={"view": EventSection(context={"at": "time"})},
        entity={
            "item": EntitySection(path="items.parquet", valid_from="since", columns={"made": "time", "at": "time"})
        },
    )
    report = shop.ingest()
    assert report.reasons == {"user is missing": 1}
    first, second, view = shop.events()
    assert (first["ts"], second["ts"], view["ts"]) == (day * S, day * S, ns // 1000)
    payload = orjson.loads(first["payload"])
    assert (payload["made"], payload["at"]) == (day * S, ns // 1000)
    assert json.loads(view["payload"]) == {"at": day * S}


def test_numbers_become_ids_exactly(shop):
    pq.write_table(
        pa.table({
            "user": pa.array([2**63, 2**53 + 1, 7], pa.uint64()),
            "item": pa.array([12.0, None, 2.0**52]),
            "type": ["view"] * 3, "ts": [NOW, NOW + 1, NOW + 2],
        }),
        shop.folder / "e.parquet",
    )  # fmt: skip
    shop.declare(events="e.parquet")
    shop.ingest()
    found = [(r["user"], r["item"]) for r in shop.events()]
    assert found == [("9223372036854775808", "12"), ("9007199254740993", None), ("7", "4503599627370496")]


def test_json_numbers_become_ids_exactly(shop):
    shop.write("e.jsonl", f'{{"user":9223372036854775808,"item":"007","type":"view","ts":{NOW}}}\n')
    shop.declare(events="e.jsonl")
    shop.ingest()
    assert [(r["user"], r["item"]) for r in shop.events()] == [("9223372036854775808", "007")]


def test_a_column_that_pandas_made_of_floats_is_read_as_whole_numbers(shop):
    shop.write("e.csv", f"user,item,type,ts\n12.0,1.0,view,{NOW}\n7.0,1.5,view,{NOW}\nab.0,-0.0,view,{NOW}\n")
    shop.declare(events="e.csv")
    shop.ingest()
    assert [(r["user"], r["item"]) for r in shop.events()] == [("12", "1"), ("7", "1.5"), ("ab.0", "0")]


def test_one_number_is_one_item_whichever_file_and_format_wrote_it(shop):
    """The catalog as floats, the events as text, whole numbers and floats, some columns mixed: one key each."""
    shop.write("items.csv", "item_id,creator\n12.0,3.0\nx-1,7\n-4.00,7.0\n")
    shop.write("a.csv", f"user,item,type,ts\n5,12,view,{NOW}\n5.0,x-1,view,{NOW + 1}\n")
    shop.write("b.jsonl", f'{{"user":5.0,"item":12,"type":"view","ts":{NOW + 2}}}\n'
               f'{{"user":"5.0","item":"12.0","type":"view","ts":{NOW + 3}}}\n')  # fmt: skip
    table = {"user": pa.array([5.0, 5.0]), "item": ["12.000", "-4.0"], "creator": pa.array([None, 7], pa.int64())}
    pq.write_table(pa.table(table | {"type": ["view"] * 2, "ts": [NOW + 4, NOW + 5]}), shop.folder / "c.parquet")
    entity = {
        "item": EntitySection(path="items.csv", columns={"creator": "string"}, group="creator"),
        "creator": EntitySection(**{"from": "item.creator"}),
    }
    shop.declare(events=["a.csv", "b.jsonl", "c.parquet"], entity=entity)
    shop.ingest()
    views = [r for r in shop.events() if r["type"] == "view"]
    found = [(r["user"], r["item"], r["creator"]) for r in views]
    assert found == [("5", "12", "3"), ("5", "x-1", "7"), *[("5", "12", "3")] * 3, ("5", "-4", "7")]
    assert (shop.log.ids.size("item"), shop.log.ids.size("user"), shop.log.ids.size("creator")) == (3, 1, 2)
    once, twice, other = shop.log.ids.lookup("item", ["12", "12.0", "1.50"])
    assert (once == twice >= 0, other) == (True, -1)
    assert {shop.log.forget("5.0")} == shop.log.forgotten()


BAD = [
    ("u1,i1,view,1700000000,1,0", None),
    (",i1,view,1700000000,,", "user is missing"),
    ("u1,i1,,1700000000,,", "type is missing"),
    ("u1,i1,$item,1700000000,,", "type must not begin with $"),
    ("u1,i1,view,,,", "ts is missing"),
    ("u1,i1,view,soon,,", "ts cannot be read: soon"),
    ("u1,i1", "not a row of 6 columns"),
    ("u1,i1,view,-5,,", "ts is before 1970"),
    ("u1,i1,view,99999999999,,", "ts is ahead of the clock"),
    ("u1,i1,view,1700000000,many,", "value must be a number"),
    ("u1,i1,view,1700000000,inf,", "value is not finite"),
    ("u1,i1,view,1700000000,nan,", "value is not finite"),
    ("u1,i1,view,1700000000,1e300,", "value is not finite or too large"),
    ("u1,i1,view,1700000000,,1.5", "slot must be a whole number"),
    ("u1,i1,view,1700000000,,-1", "slot must be a whole number"),
    ("u1,i1,view,1700000000,,0,9,9", "not a row of 6 columns"),
    (f"{'u' * 513},i1,view,1700000000,,", "user is longer than 512 bytes"),
    (f"{'ü' * 257},i1,view,1700000000,,", "user is longer than 512 bytes"),
    (f"u1,i1,{'v' * 65},1700000000,,", "type must not begin with $ nor exceed 64"),
    ("u9,,view,1700000001,,", None),
]


def test_bad_rows_go_to_quarantine_with_their_reason_and_place(shop):
    shop.write("e.csv", "user,item,type,ts,value,slot\n" + "\n".join(line for line, _ in BAD) + "\n")
    shop.declare(events="e.csv")
    report = shop.ingest()
    assert report.load.n_new == 2
    kept = {entry["row"]: entry for entry in shop.quarantined(report)}
    assert sorted(kept) == [n for n, (_, reason) in enumerate(BAD, 1) if reason]
    for n, entry in kept.items():
        assert entry["reason"].startswith(BAD[n - 1][1] or "")
        assert entry["file"] == "e.csv"
        assert entry["data"]
    assert report.n_quarantined == sum(report.reasons.values()) == len(kept)
    assert report.n_rows == len(BAD)
    assert "ts cannot be read" in str(report)


def test_strict_stores_nothing_and_tells_all(shop):
    shop.write("e.csv", "user,item,type,ts,value,slot\n" + "\n".join(line for line, _ in BAD) + "\n")
    shop.declare(events="e.csv")
    for history in (True, False):
        with pytest.raises(DataError, match="18 bad rows") as caught:
            shop.ingest(strict=True, history=history)
        assert "user is missing" in str(caught.value)
        assert shop.log.high_water() == (-1, 0)


def test_bad_lines_of_json_and_text_that_is_not_utf8(shop):
    good = f'{{"user":"u","item":"i","type":"view","ts":{NOW}}}'
    shop.write(
        "e.jsonl", f'{good}\n[1]\n\n{{oops\n"text"\n'.encode() + b'{"user":"\xff"}\n' + f'{good[:-1]},"x":1}}'.encode()
    )
    shop.write("e.csv", b"user,item,type,ts\nu\xff,i,view,1\nu,i,view,1\n")
    shop.declare(events=("e.jsonl", "e.csv"))
    report = shop.ingest()
    places = {(e["file"], e["row"]): e["reason"].split(":")[0] for e in shop.quarantined(report)}
    assert places == {
        ("e.jsonl", 2): "not a JSON object",
        ("e.jsonl", 4): "not a JSON object",
        ("e.jsonl", 5): "not a JSON object",
        ("e.jsonl", 6): "not UTF-8",
        ("e.csv", 1): "not a row of 4 columns",
    }
    assert report.load.n_new == 3


def test_nul_unicode_and_blanks_in_ids(shop):
    names = [" ", "a b", "x\0y", "Zoë 🎧", "it's", '"']
    lines = [json.dumps({"user": name, "item": name, "type": "view", "ts": NOW}) for name in names]
    shop.write("e.jsonl", "\n".join(lines))
    shop.declare(events="e.jsonl")
    assert shop.ingest().n_quarantined == 0
    assert sorted(r["user"] for r in shop.events()) == sorted(names)


def test_a_truncated_parquet_file_is_named_before_anything_is_loaded(shop):
    as_parquet(shop.folder / "a.parquet")
    as_parquet(shop.folder / "b.parquet")
    whole = (shop.folder / "b.parquet").read_bytes()
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
        shop.write("b.parquet", whole[:size])
        shop.declare(events="*.parquet")
        with pytest.raises(DataError, match=r"b\.parquet.*copy it again"):
            shop.ingest()
        assert shop.log.high_water() == (-1, 0)


def test_a_parquet_file_with_a_damaged_page_stores_nothing(shop):
    rng = np.random.default_rng(0)
    pq.write_table(
        pa.table({"user": rng.integers(0, 9, 5000), "item": rng.integers(0, 2**60, 5000), "type": ["v"] * 5000,
                  "ts": rng.integers(1, NOW, 5000)}), shop.folder / "e.parquet")  # fmt: skip
    content = bytearray((shop.folder / "e.parquet").read_bytes())
    content[200:4000] = b"\xff" * 3800
    shop.write("e.parquet", bytes(content))
    shop.declare(events="e.parquet")
    with pytest.raises(DataError, match=r"e\.parquet is damaged"):
        shop.ingest()
    assert shop.log.high_water() == (-1, 0)


WHOLE = gzip.compress("".join(f"u{i},i{i % 90},view,{NOW + i}\n" for i in range(9000)).encode(), 9)
DAMAGED = {
    "cut off": WHOLE[: len(WHOLE) // 2],
    "cut off: its gzip data end too soon": WHOLE[:-4],
    "is damaged gzip": WHOLE[:4000] + b"\xff" * 200 + WHOLE[4200:],
    "is damaged gzip: CRC": WHOLE[:-8] + b"\0" * 4 + WHOLE[-4:],
    "is no gzip file": b"user,item,type,ts\nu,i,view,1\n",
    "cut off: its gzip data": b"",
}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("told", DAMAGED)
def test_a_gzip_file_that_is_not_whole_is_named_and_nothing_is_stored(shop, told, ending):
    shop.write(f"e.{ending}.gz", DAMAGED[told])
    as_csv(shop.folder / "good.csv")
    shop.declare(events=["good.csv", f"e.{ending}.gz"], header=["user", "item", "type", "ts"])
    with pytest.raises(DataError, match=rf"e\.{ending}\.gz .*{told}.*; "):
        shop.ingest()
    assert shop.log.high_water() == (-1, 0)


@pytest.mark.parametrize("n", [10, 600_000])
def test_a_csv_whose_lines_end_in_two_ways_is_named_and_nothing_is_stored(shop, n):
    shop.write("e.csv", "user,item,type,ts\n" + f"u,i,view,{NOW}\n" * n + f"u,i,buy,{NOW}\r\nu,i,view,{NOW}\n")
    shop.declare(events="e.csv")
    with pytest.raises(DataError, match=r"e\.csv cannot be read: .*\\r\\n.*one ending of lines$"):
        shop.ingest()
    assert shop.log.high_water() == (-1, 0)


def test_a_wrong_header_tells_what_is_there_and_what_to_do(shop):
    shop.write("e.csv", "visitor,product,when\n1,2,3\n")
    shop.declare(events="e.csv")
    with pytest.raises(DataError) as caught:
        shop.ingest()
    text = str(caught.value)
    for part in ("e.csv", "no column for user, ts, type, item", "visitor, product, when", "[data] columns"):
        assert part in text
    shop.declare(events="e.csv", columns={"user": "visiter"})
    with pytest.raises(DataError, match="user = 'visiter'"):
        shop.ingest()
    shop.write("e.csv", 'user,item,type,"ts\n(s)"\nu,i,view,1700000000\n')
    with pytest.raises(DataError, match=r"e\.csv: a name in the header has a line break .* header on one line"):
        shop.ingest()


def test_empty_files_are_zero_events(shop):
    shop.write("a.csv", "")
    shop.write("b.csv", "user,item,type,ts\n")
    shop.write("c.jsonl", "")
    empty = pa.schema([("user", pa.string()), ("item", pa.string()), ("type", pa.string()), ("ts", pa.int64())])
    pq.write_table(empty.empty_table(), shop.folder / "d.parquet")
    shop.declare(events=("a.csv", "b.csv", "c.jsonl", "d.parquet"))
    report = shop.ingest()
    assert (report.n_rows, report.load.epoch, shop.log.high_water()) == (0, 0, (-1, 0))
    assert "no rows are in a.csv, b.csv, c.jsonl and 1 more files" in str(report)
    shop.declare()
    assert shop.ingest().n_rows == 0


CATALOG = {
    "item": EntitySection(
        path="items.csv", columns={"price": "float", "genres": "list", "made": "time", "on": "bool", "n": "int"},
        rename={"price": "cost"},
    ),
    "category": EntitySection(**{"from": "item.category"}),
}  # fmt: skip


def test_catalogs_are_typed_and_give_derived_keys(shop):
    shop.write(
        "items.csv",
        'item_id,cost,genres,made,on,n,category,title\ni1,1.5,"a|b",2020-01-01,yes,3,c1,"A, B"\n'
        "i2,cheap,,,,,c2,\n,1,,,,,c2,\ni3,,,,,2.5,c1,\ni4,,,,,,,\n",
    )
    shop.write("e.csv", f"user,item,type,ts\nu,i1,view,{NOW}\nu,i4,view,{NOW}\n")
    shop.declare(events="e.csv", entity=CATALOG)
    report = shop.ingest()
    assert report.reasons == {
        "column price: cannot be read as float": 1,
        "item_id is missing": 1,
        "column n: cannot be read as int": 1,
    }
    first, second, *views = shop.events()
    assert (first["type"], first["item"], first["category"], first["available_at"]) == ("$item", "i1", "c1", 0)
    assert orjson.loads(first["payload"]) == {
        "price": 1.5, "genres": ["a", "b"], "made": 1_577_836_800 * S, "on": True, "n": 3, "category": "c1",
        "title": "A, B",
    }  # fmt: skip
    assert (second["item"], second["payload"], second["category"]) == ("i4", "{}", None)
    assert [(v["item"], v["category"]) for v in views] == [("i1", "c1"), ("i4", None)]
    assert shop.ingest().load.n_catalog_unchanged == 2


def test_a_catalog_of_one_item_from_each_format(shop):
    shop.write("a.jsonl", '{"id": 5, "tags": ["x", "y"], "category": 7}\n')
    pq.write_table(pa.table({"item": [6], "tags": [["x"]], "category": [7.0]}), shop.folder / "b.parquet")
    entity = {
        "item": EntitySection(path=("a.jsonl", "b.parquet"), columns={"tags": "list"}),
        "category": EntitySection(**{"from": "item.category"}),
    }
    shop.declare(entity=entity)
    assert shop.ingest().load.types == {"$item": 2}
    assert [(r["item"], r["category"]) for r in shop.events()] == [("5", "7"), ("6", "7")]


def test_a_dated_catalog_holds_from_its_dates(shop):
    shop.write("items.csv", f"item_id,since,category\ni1,{NOW},a\ni1,{NOW + 10},b\n")
    shop.write("e.csv", "user,item,type,ts\n" + "".join(f"u,i1,view,{NOW + d}\n" for d in (-1, 1, 11)))
    entity = {
        "item": EntitySection(path="items.csv", valid_from="since"),
        "category": EntitySection(**{"from": "item.category"}),
    }
    shop.declare(events="e.csv", entity=entity)
    shop.ingest()
    assert [r["category"] for r in shop.events() if r["type"] == "view"] == [None, "a", "b"]


def test_a_catalog_without_its_columns_is_named(shop):
    shop.write("items.csv", "sku,category\n1,2\n")
    shop.declare(entity={"item": EntitySection(path="items.csv", columns={"price": "float"})})
    with pytest.raises(DataError, match=r"items\.csv: no column item_id or id or item, price"):
        shop.ingest()


def test_declared_context_becomes_the_payload(shop):
    shop.write(
        "e.csv",
        f"user,item,type,ts,price,page\nu,i,buy,{NOW},2.5,home\nu,i,view,{NOW + 1},,home\nu,i,buy,{NOW + 2},x,\n",
    )
    shop.declare(
        events="e.csv",
        event={"buy": EventSection(context={"price": "float"}), "view": EventSection(context={"page": "string"})},
    )
    report = shop.ingest()
    assert [r["payload"] for r in shop.events()] == ['{"price":2.5}', '{"page":"home"}']
    assert report.reasons == {"column price: cannot be read as float": 1}


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl", "e.parquet"])
def test_a_list_in_context_is_the_same_from_every_file_and_by_http(shop, name):
    cells: list[Any] = ["a|b", '["a", 1, true]', "it's one; two", "[broken", None]
    rows = [{"user": "u", "item": "i", "type": "view", "ts": NOW + i, "tags": cell} for i, cell in enumerate(cells)]
    if name == "e.csv":
        pacsv.write_csv(pa.Table.from_pylist(rows), shop.folder / name)
    elif name == "e.jsonl":
        rows[1]["tags"] = ["a", 1, True]
        shop.write(name, "\n".join(json.dumps(row) for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), shop.folder / name)
        lists = pa.Table.from_pylist([{**row, "ts": NOW + 9, "tags": ["a", "b"]} for row in rows[:1]])
        pq.write_table(lists, shop.folder / "e2.parquet")
    shop.declare(events="e*", event={"view": EventSection(context={"tags": "list"})})
    report = shop.ingest()
    assert report.reasons == {"column tags: cannot be read as list": 1}
    found = {r["ts"] // S - NOW: json.loads(r["payload"] or "{}") for r in shop.events()}
    check = EventContract(shop.project)
    for row in rows:
        live = check({key: row[key] for key in ("user", "item", "type")} | {"context": {"tags": row["tags"]}}, NOW * S)
        assert found.get(row["ts"] - NOW) == (None if isinstance(live, str) else live.payload)
    assert found.get(9, {"tags": ["a", "b"]}) == {"tags": ["a", "b"]}
    assert (9 in found) == (name == "e.parquet")


def test_types_that_nobody_declared_are_told(shop):
    WRITERS["e.csv"](shop.folder / "e.csv")
    shop.declare(events="e.csv", event={"buy": EventSection()})
    assert shop.ingest().undeclared == {"view": 2}


def test_live_ingest_is_available_from_now(shop):
    WRITERS["e.csv"](shop.folder / "e.csv")
    shop.write("items.csv", "item_id,cost,genres,made,on,n\ni1,1,,,,\n")
    shop.declare(events="e.csv", entity=CATALOG)
    before = shop.log.clock.now()
    report = shop.ingest(history=False)
    assert (report.load.n_new, report.load.epoch) == (4, 0)
    assert min(r["available_at"] for r in shop.events()) >= before
    assert shop.ingest(history=False).load.n_new == 0


def test_a_column_that_only_late_json_lines_have_is_read(shop):
    lines = [{"user": "u", "item": "i", "type": "view", "ts": NOW + i} for i in range(1_500)]
    lines[-1]["value"] = 3
    shop.write("e.jsonl", "\n".join(json.dumps(line) for line in lines))
    shop.declare(events="e.jsonl")
    shop.ingest()
    assert shop.events()[-1]["value"] == 3


def test_the_reason_of_an_unreadable_line_is_one_line(shop):
    shop.write("e.csv", 'user,item,type,ts\nu,i,view,1700000000\nu,i,view,1700000000,extra,more\n"u,i\n')
    shop.declare(events="e.csv")
    report = shop.ingest()
    assert report.n_quarantined
    assert not [kind for kind in [*report.reasons, *report.examples.values()] if "\n" in kind]


def test_events_that_came_before_an_entity_was_declared_are_told_to_have_no_key_of_it(shop):
    shop.write("e.csv", "user,item,type,ts\nu,a,view,1700000000\n")
    shop.write("i.csv", "item_id,category\na,red\n")
    shop.declare(events="e.csv", entity={"item": EntitySection(path="i.csv", columns={"category": "string"})})
    assert "category" not in str(shop.ingest())
    shop.log.close()
    again = Shop(shop.folder)
    again.declare(
        events="e.csv",
        entity={"item": EntitySection(path="i.csv", columns={"category": "string"}, group="category")},
    )
    (note,) = [text for text in again.ingest().notes if "category" in text]
    assert note.startswith("2 stored events came before the entity 'category' was declared")
    assert unkeyed_notes(again.project, shop.folder / ".feedwell") == [note]
    again.log.append([RawEvent(type="view", ts=NOW * S, ids={"user": "u", "item": "a"})])
    assert again.events()[-1]["category"] == "red"
    again.log.close()


def test_what_would_be_available_ahead_of_the_clock_goes_to_quarantine(shop):
    now = SystemClock().now() // S
    shop.write("items.csv", f"item_id,since\ni1,{now - 9}\ni1,{now + 86_400}\n")
    shop.write("e.csv", f"user,item,type,ts,known\nu,i1,view,{now - 90_000},\nu,i1,buy,{now},{now}\nu,i1,view,{now},\n")
    entity = {"item": EntitySection(path="items.csv", valid_from="since")}
    shop.declare(events="e.csv", entity=entity, columns={"available_at": "known"}, assumed_delay=86_400 * S)
    report = shop.ingest()
    assert report.reasons == {
        "since is ahead of the clock": 1,
        "available_at, assumed as ts + 1d, is ahead of the clock": 1,
    }
    assert all("load the row again once it" in text for text in report.examples.values())
    assert report.load.types == {"$item": 1, "view": 1, "buy": 1}
    assert shop.log.high_water()[1] <= SystemClock().now()


def test_a_live_ingest_adds_no_delay(shop):
    shop.write("e.csv", f"user,item,type,ts\nu,i1,view,{SystemClock().now() // S}\n")
    shop.declare(events="e.csv", assumed_delay=86_400 * S)
    assert shop.ingest(history=False).load.types == {"view": 1}

"""Everything from Python: the same stores, features and answers as on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import feedwell
from feedwell.cli import doctor
from feedwell.core.clock import ManualClock
from feedwell.core.errors import DataError, UsageError
from feedwell.core.event import RawEvent
from feedwell.data.exposure import exposures

START = 1_767_571_200_000_000
PROJECT = """\
[project]
name = "notebook"
[data]
events = "events.jsonl"
ts_unit = "us"
[entity.item]
path = "items.jsonl"
columns = { title = "string" }
text = ["title"]
[event.view]
[objective.view]
events = ["view"]
[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]
[source.popular]
k = 10
[filter.seen]
events = ["view"]
[slate]
kind = "top_k"
k = 2
[surface.email.slate]
k = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feedwell.toml").write_text(PROJECT)
    rows = [{"user": f"u{n % 5}", "item": f"i{n % 4}", "type": "view", "ts": START + n * 1_000_000} for n in range(40)]
    rows += [{"user": "new", "item": "i0", "type": "view", "ts": START + 50_000_000}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "items.jsonl").write_text(
        "".join(json.dumps({"item_id": f"i{n}", "title": f"T{n}"}) + "\n" for n in range(4))
    )
    return tmp_path


def test_from_files_to_a_table(folder: Path) -> None:
    with feedwell.open(folder, clock=ManualClock(START + 3_600_000_000)) as opened:
        report = opened.ingest()
        assert (report.load.n_new, report.n_quarantined) == (45, 0)
        feed = opened.recommend("new")
        assert feed.table.column_names[:3] == ["slot", "item", "title"]
        assert "i0" not in feed.item_ids
        assert feed.table["title"].to_pylist() == [i.replace("i", "T") for i in feed.item_ids]
        assert len(opened.recommend("new", surface="email").item_ids) == 1
        assert "i1" not in opened.recommend("new", 3, exclude=["i1"]).item_ids
        ranked = opened.rank("new", ["i2", "?", "i0", "i3"])
        assert set(ranked.item_ids) == {"i2", "i3"}
        assert ranked.unknown == ("?",)
        assert ranked.table["sources"].to_pylist() == ["caller", "caller"]
        assert opened.rank("new", ["i0"], ignore_filters=["seen"]).item_ids == ("i0",)
        with pytest.raises(UsageError, match="a list of ids, not the text"):
            opened.rank("new", "i2")
        explained = opened.explain(feed.request_id)
        assert [slot["item_id"] for slot in explained["slots"]] == list(feed.item_ids)
        with pytest.raises(UsageError, match="request id"):
            opened.explain("nothing")


def test_items_ranked_but_not_shown_are_no_exposures_until_events_say_so(folder: Path) -> None:
    seen = '[filter.seen]\nevents = ["served"]'
    (folder / "feedwell.toml").write_text(PROJECT.replace('[filter.seen]\nevents = ["view"]', seen))
    clock = ManualClock(START + 3_600_000_000)
    with feedwell.open(folder, clock=clock) as opened:
        opened.ingest()
        hidden = opened.rank("new", ["i1", "i2"], shown=False)
        assert set(opened.rank("new", ["i1", "i2"], shown=False).item_ids) == set(hidden.item_ids) == {"i1", "i2"}
        assert opened.training_inputs().slots() is None
        clicked = RawEvent(
            type="view", ts=clock.now(), ids={"user": "new", "item": "i1"}, request_id=hidden.request_id, slot=1
        )
        opened.log.append([clicked])
        clock.advance(1_000_000)
        assert set(opened.rank("new", ["i2", "i3"]).item_ids) == {"i2", "i3"}
        assert opened.rank("new", ["i2", "i3"], shown=False).item_ids == ()
        inputs = opened.training_inputs()
        shown = exposures(inputs.view(), opened.project, slots=inputs.slots())
        shown = shown.filter(pc.greater_equal(shown["t"], START + 3_600_000_000))
        found = zip(opened.ids.names("item", shown["item"].to_pylist()), shown["origin"].to_pylist(), strict=True)
        assert sorted(found) == [("i1", "event"), ("i2", "slate"), ("i3", "slate")]
        assert not opened.explain(hidden.request_id)["shown"]


def test_features_as_of_take_outside_ids_and_times(folder: Path) -> None:
    with feedwell.open(folder, clock=ManualClock(START + 3_600_000_000)) as opened:
        opened.ingest()
        frame = pa.table(
            {
                "item": ["i0", "i0", "nobody"],
                "t": pa.array([START, START + 100_000_000, START], pa.timestamp("us", "UTC")),
            }
        )
        assert opened.features.asof(frame)["item_views"].to_pylist() == [0.0, 11.0, 0.0]
        assert opened.features.columns == ["item_views"]
        with pytest.raises(UsageError, match="column 't'"):
            opened.features.asof(pa.table({"item": ["i0"]}))


def test_a_forgotten_user_is_a_newcomer(folder: Path) -> None:
    with feedwell.open(folder, clock=ManualClock(START + 3_600_000_000)) as opened:
        opened.ingest()
        assert opened.recommend("u1", 4).item_ids == ()
        assert opened.forget("u1") >= 0
        assert opened.forget("u1") == -1
        assert len(opened.recommend("u1", 4).item_ids) == 4


def test_a_release_serves_until_it_is_rolled_back(folder: Path) -> None:
    with feedwell.open(folder, clock=ManualClock(START + 3_600_000_000)) as opened:
        opened.ingest()
        report = opened.train()
        first = opened.publish()
        assert first == report.release_id
        assert opened.recommend("new").record.release_id == first
    text = PROJECT.replace("k = 2", "k = 1")
    (folder / "feedwell.toml").write_text(text)
    with feedwell.open(folder, clock=ManualClock(START + 3_700_000_000)) as opened:
        assert len(opened.recommend("new").item_ids) == 2  # the release has its own configuration
        second = opened.publish_config()
        assert second != first
        assert len(opened.recommend("new").item_ids) == 1
        assert opened.rollback() == first
        assert len(opened.recommend("new").item_ids) == 2


def test_changed_configurations_leave_no_more_releases_than_are_kept(folder: Path) -> None:
    (folder / "feedwell.toml").write_text(PROJECT + "[releases]\nkeep = 2\n")
    clock = ManualClock(START + 3_600_000_000)
    with feedwell.open(folder, clock=clock) as opened:
        opened.ingest()
        opened.train()
        made = [opened.publish()]
        for _ in range(3):
            clock.advance(1_000_000)
            made.append(opened.publish_config())
        candidate = made[0]
        assert opened.releases.release_ids() == [made[3], made[2], candidate]
        assert opened.rollback() == made[2]


@pytest.mark.parametrize(
    ("t", "says"), [(["2026-01-05", "soon"], "soon"), ([START, None], "empty"), ([True, False], "bool")]
)
def test_a_frame_with_times_that_are_none_is_told(folder: Path, t: list[object], says: str) -> None:
    with feedwell.open(folder) as opened, pytest.raises(DataError, match=says):
        opened.features.asof(pa.table({"t": t, "item": ["i0", "i1"]}))


def test_columns_that_a_frame_cannot_know_are_named(folder: Path) -> None:
    with feedwell.open(folder) as opened:
        assert "item_views" in opened.features.unknown_without(["user"])["item"]
        assert opened.features.unknown_without(["user", "item"]) == {}


def test_a_damaged_log_says_what_to_do(folder: Path) -> None:
    hot = folder / ".feedwell" / "log" / "hot.sqlite"
    hot.parent.mkdir(parents=True)
    hot.write_bytes(b"this is no database" * 500)
    with feedwell.open(folder) as opened, pytest.raises(DataError, match="damaged; restore it"):
        opened.ingest()


def test_doctor_tells_a_log_that_is_ahead_of_the_clock(folder: Path) -> None:
    with feedwell.open(folder, clock=ManualClock(START + 3_600_000_000)) as opened:
        opened.ingest()
        assert "events, epoch" in doctor._log(opened)
    said = r"the newest event is 1000\d+ s ahead of the clock"
    with feedwell.open(folder, clock=ManualClock(START - 10**15)) as opened, pytest.raises(DataError, match=said):
        doctor._log(opened)


def test_publishing_removes_what_nothing_needs_any_more(folder: Path) -> None:
    (folder / "feedwell.toml").write_text(PROJECT + "[releases]\nkeep = 2\n")
    clock, made = ManualClock(START + 3_600_000_000), []
    with feedwell.open(folder, clock=clock) as opened:
        opened.ingest()
        for _ in range(3):
            clock.advance(1_000_000)
            made.append(opened.train().release_id)
            assert opened.releases.release_ids()[0] == made[-1]
            opened.publish(force=True)
        assert opened.releases.release_ids() == [made[2], made[1]]
        assert opened.rollback() == made[1]

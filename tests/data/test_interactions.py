"""What sources fit on: events of earlier spans, with what was taken back marked as it was known then."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedwell.core.project import Project, SplitSection
from feedwell.data.interactions import user_events
from feedwell.data.log_view import LogView
from feedwell.data.split import NEVER, spans
from feedwell.engines.local import LocalEngine
from feedwell.stores.log.schema import event_schema

PROJECT = Project.model_validate(
    {
        "project": {"name": "p"},
        "event": {"like": {"undone_by": "unlike"}},
        "objective": {"like": {"events": ["like"], "within": 4, "where": "value >= 2"}},
    }
)


def row(type_, t, user=1, item=1, value=None):
    return {"type": type_, "user": user, "item": item, "ts": t, "available_at": t, "value": value}


@pytest.fixture
def found(log_of):
    rows = [
        row("like", 0, value=2.0),
        row("like", 1, item=2, value=1.0),
        row("like", 2, item=3, value=5.0),
        row("unlike", 3),
        row("view", 5, user=2),
        row("view", 6, user=2),
        row("unlike", 7, item=3),
        row("like", 8, value=3.0),
        row("view", 9, user=2),
        row("$item", 10, user=-1),
    ]
    view = log_of(rows)
    return user_events(view, PROJECT), spans(view, SplitSection())


def test_an_undo_counts_only_once_it_was_known(found):
    events, cut = found
    assert len(events.user_E) == 9
    first = events.before(cut, 1)
    assert first.at_E.tolist() == [0, 1, 2, 3, 5]
    assert first.undone_E.tolist() == [True, False, False, False, False]
    assert first.until == 6
    everything = events.before(cut, 4)
    assert everything.undone_E.tolist() == [True, False, True, False, False, False, False, False, False]


def test_positives_hold_the_condition_and_outlast_their_window(found):
    events, _ = found
    # The like of item 1 was taken back after 3 µs, that of item 3 after 5: beyond its window of 4.
    assert events.at_E[events.positives(PROJECT.objective["like"])].tolist() == [2, 8]


def test_rows_of_a_user_are_in_order(found):
    events, _ = found
    assert events.at_E[events.rows_of(2)].tolist() == [5, 6, 9]
    assert events.at_E[events.rows_of(2, since=6, until=9)].tolist() == [6]
    assert events.at_E[events.rows_of(2, since=7)].tolist() == [9]
    assert events.rows_of(99).tolist() == events.rows_of(2, since=10).tolist() == []
    assert np.array_equal(events.moments()[0], np.sort(events.user_E))


def test_an_undo_takes_back_what_was_done_to_the_same_object(log_of):
    event = {"follow": {"object": "creator", "undone_by": "unfollow"}, "unfollow": {"object": "creator"}}
    project = Project.model_validate({"project": {"name": "p"}, "event": event})
    rows = [
        row("follow", 0, item=-1) | {"creator": 1},
        row("follow", 1, item=-1) | {"creator": 2},
        row("unfollow", 2, item=-1) | {"creator": 2},
    ]
    events = user_events(log_of(rows, ("user", "item", "creator")), project)
    assert (events.undone_at_E[:2] == 2).tolist() == [False, True]


TWO_UNDOS = {"like": {"undone_by": "unlike"}, "save": {"undone_by": "unsave"}, "unlike": {"undone_by": "like"}}


def random_log(n, folder, n_items):
    """n events of one user, on disk."""
    rng, schema = np.random.default_rng(n), event_schema(("user", "item"))
    columns = {
        "user": np.zeros(n, np.int64),
        "item": rng.integers(-1, n_items, n),
        "available_at": np.sort(rng.integers(0, n // 2, n)),
        "offset": np.arange(n),
        "type": rng.choice(["view", "like", "unlike", "save", "unsave"], n),
    }
    columns["ts"] = columns["available_at"]
    path = folder / f"{n}.parquet"
    pq.write_table(
        pa.table({name: columns.get(name, pa.nulls(n, schema.field(name).type)) for name in schema.names}), path
    )
    return LogView(segments=(path,), entities=("user", "item"), engine=LocalEngine(threads=1)), columns


def test_undos_are_found_as_by_looking_at_every_later_event(tmp_path):
    project = Project.model_validate({"project": {"name": "p"}, "event": TWO_UNDOS})
    view, log = random_log(400, tmp_path, 8)
    want = []
    for e in range(400):
        undo = project.undone_by.get(log["type"][e])
        later = [u for u in range(e + 1, 400) if log["type"][u] == undo and log["item"][u] == log["item"][e]]
        want.append(log["available_at"][later[0]] if later else NEVER)
    assert user_events(view, project).undone_at_E.tolist() == want


def test_many_events_of_one_user_are_read_in_one_pass(tmp_path):
    """Eight times the events take about eight times the processor, not sixty-four times."""
    project = Project.model_validate({"project": {"name": "p"}, "event": TWO_UNDOS})
    cpu_s = []
    for n in (20_000, 160_000):
        view, _ = random_log(n, tmp_path, 100)
        began = time.process_time()
        user_events(view, project)
        cpu_s.append(time.process_time() - began)
    assert cpu_s[1] < 16 * cpu_s[0]

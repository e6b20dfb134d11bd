"""What was served comes to the log: once, complete, off the path; and it is nothing that a user did."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from feedwell.core.errors import Unavailable
from feedwell.core.event import SERVED, RawEvent
from feedwell.core.telemetry import Telemetry
from feedwell.pipeline.path import RequestPath, Wish
from feedwell.pipeline.served import ServedEvents

from .conftest import PROJECT, Shop

FATIGUE = (
    PROJECT
    + """
[feature.item_served]
entity = "item"
aggregate = "count"
events = ["served"]
windows = ["1d"]

[feature.pair_served]
entity = ["user", "item"]
aggregate = "count"
events = ["served"]
"""
)


class Blocked:
    """A log whose appends wait for `free`, and then fail if `error` is set."""

    def __init__(self, error: Exception | None = None) -> None:
        self.free = threading.Event()
        self.entered = threading.Event()
        self.error = error
        self.events: list[RawEvent] = []

    def append(self, events: Sequence[RawEvent]) -> None:
        self.entered.set()
        assert self.free.wait(10)
        if self.error is not None:
            raise self.error
        self.events += events

    def forgotten(self) -> set[int]:
        return set()


@pytest.fixture
def logging_shop(shops: Callable[..., Shop]) -> Shop:
    return with_served(shops(FATIGUE))


def with_served(shop: Shop) -> Shop:
    shop.path = RequestPath(
        compiled=shop.compiled,
        log=shop.log,
        open_reader=lambda: shop.online.reader(shop.compiled.features),
        records=shop.records,
        clock=shop.clock,
        secret=b"secret",
        served=ServedEvents(shop.log, Telemetry(), linger_s=0.0),
    )
    return shop


def flush(shop: Shop) -> None:
    assert shop.path._served is not None
    shop.path._served.flush()


def logged(shop: Shop) -> list[dict[str, Any]]:
    return [row for row in shop.log.read(-1, 10_000).to_pylist() if row["type"] == SERVED]


def test_each_slot_of_an_answer_is_one_event(logging_shop: Shop) -> None:
    shop = logging_shop
    first = shop.ask("u1", surface="home")
    second = shop.ask("u1", surface="home", cursor=first.cursor)
    flush(shop)
    rows = logged(shop)
    assert [r["item"] for r in rows] == [*first.record.keys, *second.record.keys]
    assert [r["slot"] for r in rows] == list(range(1, 13))
    assert {r["request_id"] for r in rows} == {first.record.request_id, second.record.request_id}
    assert {(r["user"], r["surface"], r["origin"]) for r in rows} == {(first.record.user, "home", "live")}
    groups = dict(zip(first.answer.scored.keys_N.tolist(), first.answer.scored.group_N.tolist(), strict=True))
    assert [r["creator"] for r in rows[:6]] == [groups[key] for key in first.record.keys]


def test_the_requests_own_tail_and_then_the_state_have_it(logging_shop: Shop) -> None:
    shop = logging_shop
    first = shop.ask("u1")
    flush(shop)
    shop.clock.advance(1)
    before = shop.ask("u1").record
    assert before.tail_offset > before.state_offset
    pair = before.feature_names.index("pair_served")
    told = {key: row[pair] for key, row in zip(before.keys, before.features, strict=True)}
    assert told == {key: float(key in first.record.keys) for key in before.keys}
    flush(shop)
    shop.projector.catch_up()
    shop.clock.advance(3 * 3_600_000_000)
    after = shop.ask("u1").record
    item = after.feature_names.index("item_served_1d")
    n = {key: (key in first.record.keys) + (key in before.keys) for key in after.keys}
    assert {key: row[item] for key, row in zip(after.keys, after.features, strict=True)} == n


def test_an_answer_added_twice_counts_once_and_a_forgotten_user_not_at_all(logging_shop: Shop) -> None:
    shop = logging_shop
    served = shop.ask("u1")
    assert shop.path._served is not None
    shop.path._served.add(served.record, served.item_ids)
    flush(shop)
    assert len(logged(shop)) == 6
    late = shop.path.prepare(Wish(user_id="u2"))
    shop.log.forget("u2")
    shop.path._served.add(late.record, late.item_ids)
    flush(shop)
    assert len(logged(shop)) == 6


def test_it_can_be_turned_off_and_replays_write_none(shops: Callable[..., Shop]) -> None:
    silent = with_served(shops(PROJECT.replace('deadline = "200ms"', 'deadline = "200ms"\nlog_served = false')))
    silent.ask("u1")
    assert silent.path._served is None
    shop = with_served(shops(FATIGUE))
    shop.path.prepare(Wish(user_id="u1"))
    flush(shop)
    assert logged(shop) == logged(silent) == []


def test_a_full_queue_drops_and_counts_and_never_waits(shop: Shop) -> None:
    log, telemetry = Blocked(), Telemetry()
    events = ServedEvents(log, telemetry, size=2, linger_s=0.0)
    answer = shop.ask("u1")
    events.add(answer.record, answer.item_ids)
    assert log.entered.wait(10)
    for _ in range(5):
        events.add(answer.record, answer.item_ids)
    assert telemetry.value("served_events_dropped", why="queue") == 3 * 6
    log.free.set()
    events.close()
    assert len(log.events) == 3 * 6 == telemetry.value("served_events")


def test_a_failed_append_is_counted_and_the_next_one_works(shop: Shop) -> None:
    log, telemetry = Blocked(Unavailable("the disk is full")), Telemetry()
    events = ServedEvents(log, telemetry, linger_s=0.0)
    log.free.set()
    answer = shop.ask("u1")
    events.add(answer.record, answer.item_ids)
    events.flush()
    assert telemetry.value("served_events_dropped", why="append") == 6
    log.error = None
    events.add(answer.record, answer.item_ids)
    events.close()
    assert len(log.events) == 6


def test_items_ranked_but_not_shown_are_no_served_events(logging_shop: Shop) -> None:
    shop = logging_shop
    hidden = shop.ask("u1", among=["i1", "i2", "i3"], shown=False).record
    flush(shop)
    assert logged(shop) == []
    shop.clock.advance(1)
    again = shop.ask("u1", among=["i1", "i2", "i3"]).record
    pair = again.feature_names.index("pair_served")
    assert [row[pair] for row in again.features] == [0.0] * 3
    flush(shop)
    assert {row["request_id"] for row in logged(shop)} == {again.request_id} != {hidden.request_id}

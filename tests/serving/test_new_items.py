"""An item that is put can be retrieved soon after, by sources that follow the catalog, with no training between."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import feedwell.workspace
from feedwell.core.clock import DAY, SECOND, ManualClock
from feedwell.core.event import RawEvent

from .conftest import SHOP_TEXT, Server

FOLLOWING = SHOP_TEXT.replace('deadline = "200ms"', 'deadline = "60s"') + "\n[source.test_newcomers]\nk = 40\n"
POLLS = 200
START = 1_700_000_000 * SECOND
LEARNED = """
[project]
name = "learned"

[data]
events = "events.jsonl"
ts_unit = "us"

[entity.item]
path = "items.jsonl"
columns = { title = "string", available = "bool" }
text = ["title"]
available = "available"

[event.view]

[objective.view]
events = ["view"]

[source.two_tower]
k = 40
embedding_dim = 16
hidden_dim = 16
batch_size = 128
negatives = 64
epochs = 10
id_dropout = 0.3
table_learning_rate = 0.05

[filter.seen]
events = ["view"]

[filter.expired]

[slate]
k = 5
explore = { first = 1, last = 0 }

[serving]
deadline = "60s"                 # a busy machine is no reason to skip the source
"""
WORDS = ("red shoes sport", "blue novel book", "green tea leaf", "old guitar song")


def test_a_put_item_reaches_the_followers_and_the_feed(servers: Callable[..., Server]) -> None:
    server = servers(FOLLOWING)
    assert appears(server, "i29") < POLLS
    assert "novel" not in followed(server)
    assert server.put("/v1/items", json={"item_id": "novel", "creator": "c9"}).json()["accepted"] == 1
    assert appears(server, "novel") < POLLS
    assert "novel" in [row["item_id"] for row in server.feed("u1", n=60)["items"]]


def test_the_catalog_is_followed_after_any_error(servers: Callable[..., Server]) -> None:
    server = servers(FOLLOWING)
    path, telemetry = server.runtime.path, server.runtime.telemetry
    assert appears(server, "i29") < POLLS
    follow, raised = path.follow_catalog, threading.Event()

    def fails_once() -> None:
        path.follow_catalog = follow  # type: ignore[method-assign]
        raised.set()
        raise sqlite3.OperationalError("disk I/O error")

    path.follow_catalog = fails_once  # type: ignore[method-assign]
    assert raised.wait(30)
    assert server.put("/v1/items", json={"item_id": "novel", "creator": "c9"}).json()["accepted"] == 1
    assert appears(server, "novel") < POLLS
    assert telemetry.value("catalog_follow_failed") == 1


def test_a_source_that_fails_on_new_rows_is_seen_in_the_metrics(servers: Callable[..., Server]) -> None:
    server = servers(FOLLOWING)
    assert appears(server, "i29") < POLLS
    part = server.runtime.path.compiled.base.sources["source.test_newcomers"]
    good, failed = part.grown, threading.Event()

    def fails_once(rows, delta):
        part.grown = good
        failed.set()
        raise RuntimeError("no")

    part.grown = fails_once
    assert server.put("/v1/items", json={"item_id": "novel", "creator": "c9"}).json()["accepted"] == 1
    assert appears(server, "novel") < POLLS
    assert failed.is_set()
    assert 'feedwell_catalog_failed_total{part="source.test_newcomers"} 1' in server.get("/metrics").text


def test_two_tower_retrieves_what_was_put_and_drops_what_was_taken_away(learned: Server) -> None:
    def shown() -> list[str]:
        return [row["item_id"] for row in learned.get("/v1/recommend/u1", params={"n": 40}).json()["items"]]

    def polls_until(there: bool) -> int:
        for poll in range(POLLS):
            learned.fold()
            if ("novel" in shown()) == there:
                return poll
            time.sleep(0.01)
        return POLLS

    before = learned.get("/v1/recommend/u1").json()
    assert not before["degraded"]
    assert "novel" not in shown()
    release = learned.runtime.path.compiled.release_id
    novel = {"item_id": "novel", "title": WORDS[1], "available": True}
    assert learned.put("/v1/items", json=novel).json()["accepted"] == 1
    assert polls_until(there=True) < POLLS
    assert learned.put("/v1/items", json=novel | {"available": False}).json()["accepted"] == 1
    assert polls_until(there=False) < POLLS
    assert learned.runtime.path.compiled.release_id == release


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Server]:
    """A server of a release whose only source is a two_tower, trained on users of four tastes."""
    rng, events = np.random.default_rng(1), []
    for user in range(60):
        for step in range(8):
            item = int(rng.integers(0, 15)) * 4 + (user % 4 if rng.random() < 0.8 else int(rng.integers(0, 4)))
            at = START + step * DAY + int(rng.integers(DAY))
            events.append({"type": "view", "user": f"u{user}", "item": f"i{item}", "ts": at})
    events.sort(key=lambda row: row["ts"])
    items = [{"item_id": f"i{i}", "title": WORDS[i % 4], "available": True} for i in range(60)]
    for name, rows in (("events", events), ("items", items)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "feedwell.toml").write_text(LEARNED)
    with feedwell.workspace.open(tmp_path, clock=ManualClock(START + 20 * DAY)) as workspace:
        workspace.ingest(history=True)
        workspace.publish(workspace.train(max_requests=20).release_id, force=True)
        # Python answers as the server does: what was put is retrieved, here by the very next answer.
        row = {"title": WORDS[1], "available": True}
        workspace.log.append([RawEvent(type="$item", ts=workspace.clock.now(), ids={"item": "early"}, payload=row)])
        assert "early" in workspace.recommend("u1", n=40).item_ids
    server = Server(tmp_path)
    yield server
    server.close()


def appears(server: Server, item: str) -> int:
    """After how many polls the source's items have it; POLLS: never."""
    for poll in range(POLLS):
        server.fold()
        if item in followed(server):
            return poll
        time.sleep(0.01)
    return POLLS


def followed(server: Server) -> list[str | None]:
    known = server.runtime.path.live.now.by_part.get("source.test_newcomers", {})
    return server.runtime.log.ids.names("item", sorted(known))

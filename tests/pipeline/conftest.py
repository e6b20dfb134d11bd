"""A small shop on disk: project, log, state, records, ready for requests; and parts that misbehave on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from feedwell.core.clock import SECOND, ManualClock
from feedwell.core.event import RawEvent
from feedwell.pipeline.online import OnlineState
from feedwell.pipeline.overlays import Compiled
from feedwell.pipeline.path import RequestPath, Served, Wish
from feedwell.pipeline.project_file import parse_project
from feedwell.pipeline.projector import Projector
from feedwell.pipeline.record import RETRIEVED
from feedwell.stores.log import EventLog
from feedwell.stores.records import RecordStore

NOW = 1_700_000_000 * SECOND
PROJECT = """
[project]
name = "shop"
seed = 7

[data]
exposure = ["view"]

[event.view]
[event.buy]
[event.hide]

[entity.item]
columns = { price = "float", creator = "string", created_at = "time", expires_at = "time" }
group = "creator"
created_at = "created_at"
expires_at = "expires_at"

[objective.buy]
events = ["buy"]
weight = 2.0

[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]
windows = ["1h", "1d"]

[feature.user_views]
entity = "user"
aggregate = "count"
events = ["view"]
windows = ["1d"]

[source.popular]
k = 40
events = ["view", "buy"]

[source.fresh]
k = 20

[filter.seen]
events = ["buy"]

[filter.expired]

[slate]
k = 6
kind = "top_k"
explore = { first = 2, last = 4, pool = 5, temperature = 0.5, epsilon = 0.1 }

[serving]
deadline = "200ms"
fallback = ["popular"]
trace_share = 0.0
"""


@dataclass
class Shop:
    """Everything that serves one project in one folder."""

    folder: Path
    clock: ManualClock
    log: EventLog
    records: RecordStore
    compiled: Compiled
    projector: Projector
    online: OnlineState
    path: RequestPath

    def ask(self, user_id: str = "u1", **wish: Any) -> Served:
        return self.path.answer(Wish(user_id=user_id, **wish))

    def put(self, *events: RawEvent, fold: bool = True) -> None:
        self.log.append(list(events))
        if fold:
            self.projector.catch_up()

    def close(self) -> None:
        self.projector.close()
        self.online.close()
        self.records.close()
        self.log.close()


def event(kind: str, user: str, item: str, ts: int = NOW, **more: Any) -> RawEvent:
    return RawEvent(type=kind, ts=ts, ids={"user": user, "item": item}, **more)


def item(item_id: str, **row: Any) -> RawEvent:
    return RawEvent(type="$item", ts=NOW, ids={"item": item_id}, payload=row)


def catalog(n: int = 30) -> list[RawEvent]:
    return [item(f"i{i}", price=1.0 + i, creator=f"c{i % 4}", created_at=NOW - i * SECOND) for i in range(n)]


def history(n_users: int = 5, n: int = 60) -> list[RawEvent]:
    return [event("view" if i % 5 else "buy", f"u{i % n_users}", f"i{(i * 7) % 23}") for i in range(n)]


def open_shop(folder: Path, text: str = PROJECT, **parts: Path) -> Shop:
    project = parse_project(text)
    clock = ManualClock(NOW)
    folder = folder / ".feedwell"
    log = EventLog.open(folder, project, clock)
    records = RecordStore.open(folder)
    compiled = Compiled(project, parts, allow_untrained=True, release_id="r1")
    projector = Projector(folder, log, lambda: [compiled.features])
    projector.catch_up()
    online = OnlineState(projector.states, lambda: clock.now() / 1e6)
    path = RequestPath(
        compiled=compiled,
        log=log,
        open_reader=lambda: online.reader(compiled.features),
        records=records,
        clock=clock,
        secret=b"secret",
    )
    return Shop(folder, clock, log, records, compiled, projector, online, path)


@pytest.fixture
def shops(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Opens shops that are closed at the end: `shops(text)`."""
    opened: list[Shop] = []

    def make(text: str = PROJECT, *, stocked: bool = True) -> Shop:
        shop = open_shop(tmp_path / f"shop{len(opened)}", text)
        opened.append(shop)
        if stocked:
            shop.put(*catalog(), *history())
        return shop

    yield make
    for shop in opened:
        shop.close()


@pytest.fixture
def shop(shops: Callable[..., Shop]) -> Shop:
    return shops()


def accounted(counts: dict[str, int]) -> int:
    """What is left of `retrieved` after all that the record accounts for: 0, or the accounting is wrong."""
    gone = sum(n for reason, n in counts.items() if reason != RETRIEVED and ": " not in reason)
    return counts[RETRIEVED] - gone

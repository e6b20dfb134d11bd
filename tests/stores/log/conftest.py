"""A small shop's log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from feedwell.core.clock import ManualClock
from feedwell.core.event import RawEvent
from feedwell.core.project import EntitySection, EventSection, Project, ProjectSection
from feedwell.stores.log import EventLog

PROJECT = Project(
    project=ProjectSection(name="shop"),
    event={"buy": EventSection(value_scale=100), "follow": EventSection(object="creator")},
    entity={
        "item": EntitySection(),
        "category": EntitySection(**{"from": "item.category"}),
        "maker": EntitySection(**{"from": "item.maker"}),
        "country": EntitySection(**{"from": "maker.country"}),
    },
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000)


@pytest.fixture
def open_log(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., EventLog]]:
    """Opens the same folder as often as asked: as another process would."""
    opened: list[EventLog] = []

    def again(folder: str = "feedwell", project: Project = PROJECT) -> EventLog:
        opened.append(EventLog.open(tmp_path / folder, project, clock))
        return opened[-1]

    yield again
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log: Callable[..., EventLog]) -> EventLog:
    return open_log()


def view(user: str = "u1", item: str | None = "i1", event_id: str | None = None, **more: Any) -> RawEvent:
    ids = {"user": user, **({"item": item} if item else {}), **more.pop("ids", {})}
    return RawEvent(type=more.pop("type", "view"), ts=more.pop("ts", 5), ids=ids, event_id=event_id, **more)


def row(entity: str, name: str, **payload: Any) -> RawEvent:
    return RawEvent(type=f"${entity}", ts=0, ids={entity: name}, payload=payload)


def rows_of(log: EventLog) -> list[dict[str, Any]]:
    return log.read(-1, 1_000_000).to_pylist()


@pytest.fixture(name="view")
def _view() -> Callable[..., RawEvent]:
    return view


@pytest.fixture(name="row")
def _row() -> Callable[..., RawEvent]:
    return row


@pytest.fixture(name="rows_of")
def _rows_of() -> Callable[[EventLog], list[dict[str, Any]]]:
    return rows_of

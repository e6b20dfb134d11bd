"""SystemArm: a whole project serves the simulated users, through its real request path, log, state, training and gates.

Time is the world's: the clock stands at each request's time, an event or a new item reaches the log when it happens.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from feedwell.core.clock import MINUTE, ManualClock
from feedwell.core.errors import CheckFailed, DataError
from feedwell.core.event import RawEvent
from feedwell.core.project import Project
from feedwell.data.contracts import EventContract, RowContract
from feedwell.data.world import SessionRequest, World, WorldEvent
from feedwell.jobs.world_project import with_expiry
from feedwell.pipeline.path import RequestPath, Served, Wish
from feedwell.pipeline.projector import Projector
from feedwell.pipeline.served import ServedEvents
from feedwell.stores.log import EventLog
from feedwell.training.report import TrainReport


class System(Protocol):
    """A project's folder, opened: what `feedwell.open` returns."""

    project: Project

    @property
    def log(self) -> EventLog: ...
    @property
    def served(self) -> ServedEvents: ...
    @property
    def projector(self) -> Projector: ...
    def ingest(self) -> Any: ...
    def catch_up(self) -> int: ...
    def path(self) -> RequestPath: ...
    def train(self, *, max_requests: int | None = None) -> TrainReport: ...
    def publish(self, *, force: bool = False) -> str: ...
    def close(self) -> None: ...


OpenSystem = Callable[[Path, ManualClock], System]
"""Opens the project of a folder with that clock."""
Contract = Callable[[Mapping[str, Any], int], RawEvent | str]
"""(row, now µs) → the event, or why the project refuses it."""


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """What came of one retraining: the release that serves from now on, and why a new one was refused ("" if not)."""

    release_id: str
    refused: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(order=True)
class _Due:
    """Something that reaches the log at `ts`; the number keeps the order of what is due at one µs."""

    ts: int
    number: int
    row: Mapping[str, Any] = field(compare=False)
    read: Contract = field(compare=False)


class SystemArm:
    """A System in a World. `close` it; its folder is the caller's."""

    def __init__(self, name: str, world: World, system: System, clock: ManualClock) -> None:
        self.name, self.world = name, world
        self._system, self._clock = system, clock
        self._path = system.path()
        self._due: list[_Due] = []
        self._numbers = count()
        self._open: dict[str, tuple[str, Served]] = {}
        self._read_event = EventContract(system.project)
        self._read_rows = {entity: RowContract(system.project, entity) for entity in ("user", "item")}

    @property
    def release_id(self) -> str:
        return self._path.compiled.release_id

    def expect(self, start_ts: int, end_ts: int) -> None:
        """Who signs up and what is made in [start_ts, end_ts) becomes known at its time, not before."""
        items, users = self.world.catalog_items(end_ts), self.world.catalog_users(end_ts)
        items = with_expiry(items, self.world.config)
        for entity, table, since in (("item", items, "created_at"), ("user", users, "signup_at")):
            read = partial(self._read_rows[entity], dated=False)
            for row in table.to_pylist():
                if row[since] >= start_ts:
                    known = {name: cell for name, cell in row.items() if cell is not None}
                    self._push(row[since], known, read)

    def choose(self, request: SessionRequest) -> Sequence[str]:
        self.advance(request.ts)
        served = self._path.answer(self._wish(request))
        self._open[request.user_id] = request.session, served
        return [item for item in served.item_ids if item is not None]

    def learn(self, request: SessionRequest, events: Sequence[WorldEvent]) -> None:
        for event in events:
            self._push(event["ts"], {k: v for k, v in event.items() if v is not None}, self._read_event)

    def advance(self, ts: int) -> None:
        """Everything that happens up to `ts` is in the log and folded; the clock stands at `ts`."""
        self._system.served.flush()
        while self._due and self._due[0].ts <= ts:
            self._append(self._due_together(ts))
        self._clock.set(ts)
        self._system.catch_up()

    def retrain(self, judge_on: int) -> Retrained:
        """Trains on all that is known and publishes through the gates; a release that they refuse is not served."""
        try:
            warnings = self._system.train(max_requests=judge_on).warnings
            self._system.publish()
        except (CheckFailed, DataError) as error:
            return Retrained(release_id=self.release_id, refused=str(error))
        self._path = self._system.path()
        return Retrained(release_id=self.release_id, warnings=warnings)

    def close(self) -> None:
        self._system.close()

    def _wish(self, request: SessionRequest) -> Wish:
        """A later page continues the scroll of its session, as a client would."""
        session, earlier = self._open.get(request.user_id, ("", None))
        return Wish(
            user_id=request.user_id,
            n=request.n,
            surface=request.surface,
            request_id=request.request_id,
            cursor=earlier.cursor if earlier is not None and session == request.session else None,
        )

    def _push(self, ts: int, row: Mapping[str, Any], read: Contract) -> None:
        heapq.heappush(self._due, _Due(ts, next(self._numbers), row, read))

    def _due_together(self, until_ts: int) -> Iterable[_Due]:
        """What happens in the next minute that has anything, up to `until_ts`: clients send in batches."""
        minute = self._due[0].ts // MINUTE
        while self._due and self._due[0].ts <= until_ts and self._due[0].ts // MINUTE == minute:
            yield heapq.heappop(self._due)

    def _append(self, due: Iterable[_Due]) -> None:
        events: list[RawEvent] = []
        for one in due:
            read = one.read(one.row, one.ts)
            if isinstance(read, str):
                raise DataError(f"the simulated world sent {dict(one.row)}, which the project refuses: {read}")
            events.append(read)
            self._clock.set(max(self._clock.now(), one.ts))
        self._system.log.append(events, origin="simulated")

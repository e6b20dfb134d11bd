"""LiveCatalog: what parts make of catalog rows that are newer than their artifacts, kept beside the request path.

One thread brings rows, any number of requests read `now`: a value that never changes, swapped by one assignment.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from feedwell.core import columns as c
from feedwell.core.catalog import NO_DELTAS, Deltas, FollowsCatalog, follows
from feedwell.core.event import catalog_type
from feedwell.core.project import Project
from feedwell.core.telemetry import Telemetry
from feedwell.data.catalog import catalog_table
from feedwell.pipeline.contained import Contained

ENTITY = "item"
"""What sources retrieve and rankers score."""
_LONGEST_REST = 255
"""How many looks at the catalog a part that keeps failing sits out, at most: about 13 s in a server."""
_log = logging.getLogger("feedwell.catalog")


class Log(Protocol):
    def catalog_events(self, entity: str, after_offset: int, upto_offset: int) -> pa.Table: ...


class LiveCatalog:
    """The deltas of all parts that follow the catalog.

    A part that fails keeps the delta that it had and is given the same rows again, with twice as many looks between
    each time: `catalog_failed` counts, so that nobody takes it for a part without new items.
    """

    def __init__(
        self, parts: Callable[[], Mapping[str, Any]], project: Project, telemetry: Telemetry | None = None
    ) -> None:
        self.now: Deltas = NO_DELTAS
        self._parts, self._project = parts, project
        self._telemetry = telemetry or Telemetry()
        self._upto: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._rest: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def followers(self) -> dict[str, FollowsCatalog]:
        return {name: part for name, part in self._parts().items() if follows(part)}

    def catch_up(self, log: Log, upto_offset: int) -> None:
        """Takes in what the log holds up to that offset: the state's, so that filters know whatever is retrieved."""
        if all(self._upto.get(name, -2) >= upto_offset for name in self.followers):
            return
        with self._lock:
            by_part = dict(self.now.by_part)
            for name, part in self.followers.items():
                after = self._upto.get(name, part.catalog_offset)
                if after >= upto_offset:
                    self._upto[name] = after
                elif self._rested(name):
                    done = self._grow(by_part, name, part, log.catalog_events(ENTITY, after, upto_offset))
                    self._note(name, done)
                    self._upto[name] = upto_offset if done else after
            self.now = Deltas(offset=max(upto_offset, self.now.offset), by_part=by_part)

    def take(self, events: pa.Table) -> None:
        """Takes in events as a replay comes to them, in its order."""
        followers = self.followers
        if not followers or not events.num_rows:
            return
        rows = events.filter(pc.equal(events[c.TYPE], catalog_type(ENTITY)))
        with self._lock:
            by_part = dict(self.now.by_part)
            for name, part in followers.items() if rows.num_rows else ():
                self._grow(by_part, name, part, rows)
            self.now = Deltas(offset=max(self.now.offset, pc.max(events[c.OFFSET]).as_py()), by_part=by_part)

    def _rested(self, name: str) -> bool:
        left = self._rest.get(name, 0)
        self._rest[name] = max(0, left - 1)
        return left == 0

    def _note(self, name: str, done: bool) -> None:
        failures = self._failures[name] = 0 if done else self._failures.get(name, 0) + 1
        self._rest[name] = min(2 ** max(0, min(failures, 16) - 1) - 1, _LONGEST_REST)

    def _grow(self, by_part: dict[str, Any], name: str, part: FollowsCatalog, events: pa.Table) -> bool:
        """Whether the part has taken the rows in."""
        if not events.num_rows:
            return True
        with Contained(partial(self._failed, name, events.num_rows)):
            by_part[name] = part.grown(catalog_table(self._project, ENTITY, events), by_part.get(name))
            return True
        return False

    def _failed(self, name: str, n_rows: int, error: Exception) -> None:
        self._telemetry.count("catalog_failed", part=name)
        _log.error("%s could not take in %d catalog rows: it goes on without them", name, n_rows, exc_info=error)

"""LiveCatalog: what sources make of catalog rows that are newer than their artifacts, kept beside the request path.

One thread brings rows, any number of requests read `now`: a value that never changes, swapped by one assignment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from feedwell.core import columns as c
from feedwell.core.catalog import NO_DELTAS, Deltas, FollowsCatalog
from feedwell.core.event import catalog_type
from feedwell.core.project import Project
from feedwell.core.telemetry import Telemetry
from feedwell.data.catalog import catalog_table

ENTITY = "item"
"""What sources retrieve."""


class Log(Protocol):
    def catalog_events(self, entity: str, after_offset: int, upto_offset: int) -> pa.Table: ...


class LiveCatalog:
    """The deltas of all sources that follow the catalog; a source that fails keeps the delta that it had."""

    def __init__(
        self, sources: Callable[[], Mapping[str, Any]], project: Project, telemetry: Telemetry | None = None
    ) -> None:
        self.now: Deltas = NO_DELTAS
        self._sources, self._project = sources, project
        self._telemetry = telemetry or Telemetry()
        self._upto: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def followers(self) -> dict[str, FollowsCatalog]:
        return {name: part for name, part in self._sources().items() if isinstance(part, FollowsCatalog)}

    def catch_up(self, log: Log, upto_offset: int) -> None:
        """Takes in what the log holds up to that offset: the state's, so that filters know whatever is retrieved."""
        if upto_offset <= self.now.offset and self._upto.keys() == self.followers.keys():
            return
        with self._lock:
            by_part = dict(self.now.by_part)
            for name, part in self.followers.items():
                after = self._upto.get(name, part.catalog_offset)
                if after < upto_offset:
                    self._grow(by_part, name, part, log.catalog_events(ENTITY, after, upto_offset))
                self._upto[name] = max(after, upto_offset)
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

    def _grow(self, by_part: dict[str, Any], name: str, part: FollowsCatalog, events: pa.Table) -> None:
        if not events.num_rows:
            return
        try:
            by_part[name] = part.grown(catalog_table(self._project, ENTITY, events), by_part.get(name))
        except Exception:  # noqa: BLE001 - the runner's broad except: a part may fail, serving may not
            self._telemetry.count("catalog_failed", part=name)

"""What a load of history does with catalog rows.

Dated rows are versions like any other event. An undated row holds from the beginning while its entity has no row yet;
when it differs from what the file said last time, it is a new version, valid from now.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from feedwell.core import columns as c
from feedwell.core.event import NO_KEY, RawEvent, catalog_type
from feedwell.stores.log.catalog import derived_names, row_digest

if TYPE_CHECKING:
    from feedwell.stores.log.log import EventLog
    from feedwell.stores.log.stage import Stage

_BATCH = 2_000


@dataclass
class CatalogLoad:
    """`dropped`: arrival numbers of rows that are not stored as history; `changed`: those to append as new versions."""

    dropped: list[int] = field(default_factory=list)
    changed: list[RawEvent] = field(default_factory=list)
    n_unchanged: int = 0
    _current: list[tuple[Any, ...]] = field(default_factory=list)
    _loaded: list[tuple[Any, ...]] = field(default_factory=list)

    @staticmethod
    def plan(log: EventLog, stage: Stage) -> CatalogLoad:
        """Compare the staged catalog rows with the current ones."""
        load = CatalogLoad()
        for entity in sorted(stage.catalogs):
            load._plan_entity(log, stage, entity)
        return load

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Make the newest loaded versions the current ones, in the load's transaction."""
        if not self._current:
            return
        (version,) = cursor.execute("SELECT catalog_version + 1 FROM head").fetchone()
        cursor.executemany(
            f"INSERT INTO catalog VALUES (?, ?, ?, ?, ?, ?, {version})"
            " ON CONFLICT DO UPDATE SET available_at = excluded.available_at, digest = excluded.digest,"
            " loaded = coalesce(excluded.loaded, loaded), derived = excluded.derived, version = excluded.version"
            " WHERE excluded.available_at >= catalog.available_at",
            self._current,
        )
        cursor.execute("UPDATE head SET catalog_version = ?", (version,))

    def append_changed(self, log: EventLog) -> None:
        """New versions of undated rows, from now on."""
        for start in range(0, len(self.changed), _BATCH):
            log.append(self.changed[start : start + _BATCH], origin="history")
        if self._loaded:
            with log.hot.writing() as cursor:
                cursor.executemany("UPDATE catalog SET loaded = ? WHERE entity = ? AND key = ?", self._loaded)

    def _plan_entity(self, log: EventLog, stage: Stage, entity: str) -> None:
        table = stage.catalog_rows(entity)
        code, names = log.ids.code(entity), derived_names(log.project, entity)
        query = "SELECT key, digest, loaded FROM catalog WHERE entity = ?"
        held = {key: (digest, loaded) for key, digest, loaded in log.hot.connection().execute(query, (code,))}
        keys, ats = table[entity].to_numpy(), table[c.AVAILABLE_AT].to_numpy()
        last = {(int(key), int(at)): row for row, (key, at) in enumerate(zip(keys, ats, strict=True))}
        newest: dict[int, tuple[Any, ...]] = {}
        columns = [table[name].to_pylist() for name in ("_seq", c.PAYLOAD, *names)]
        for row, (seq, payload, *derived) in enumerate(zip(*columns, strict=True)):
            key, at = int(keys[row]), int(ats[row])
            digest, dated = row_digest(payload, names), at > 0
            if not dated and last[key, at] != row:
                self.dropped.append(seq)
                self.n_unchanged += 1
            elif not dated and key in held:
                self.dropped.append(seq)
                self._compare(log, code, entity, key, payload, digest, held[key])
            elif key != NO_KEY:
                text = orjson.dumps(dict(zip(names, derived, strict=True))).decode()
                newest[key] = code, key, at, digest, None if dated else digest, text
        self._current += newest.values()

    def _compare(
        self,
        log: EventLog,
        code: int,
        entity: str,
        key: int,
        payload: str,
        digest: bytes,
        held: tuple[bytes, bytes | None],
    ) -> None:
        if digest != held[1]:
            self._loaded.append((digest, code, key))
        if digest in held:
            self.n_unchanged += 1
            return
        ((name,),) = [log.ids.names(entity, [key])]
        if name is not None:
            event = RawEvent(
                type=catalog_type(entity), ts=log.clock.now(), ids={entity: name}, payload=orjson.loads(payload)
            )
            self.changed.append(event)

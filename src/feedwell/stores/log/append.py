"""Appending: one transaction assigns offsets, keys, derived keys and `available_at`, and refuses what the log has.

Threads of one process share commits: whoever gets the write lock takes all that wait with it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feedwell.core.clock import Clock
from feedwell.core.errors import Unavailable, UsageError
from feedwell.core.event import (
    NO_KEY,
    SCHEMA_VERSION,
    Origin,
    RawEvent,
    catalog_entity,
    hash_event_id,
    scale_value,
)
from feedwell.core.project import Project
from feedwell.stores.ids import IdStore
from feedwell.stores.log.catalog import CatalogCache, derived_ids, payload_text
from feedwell.stores.log.dedupe import SealedIds, fresh_digests
from feedwell.stores.log.hot import HotFile, quoted
from feedwell.stores.log.manifest import ManifestFile
from feedwell.stores.log.scales import keep_scales
from feedwell.stores.log.schema import event_schema

_DUPLICATE = -1
_CHUNK = 500
_Keys = dict[str, dict[str, int]]
"""entity → outside id → key"""


@dataclass(frozen=True, kw_only=True)
class Appended:
    """What an append did: the offset of each event, -1 for one that the log already holds."""

    offsets: list[int]
    n_new: int
    n_duplicate: int


@dataclass(slots=True)
class _Prepared:
    """One event, shaped outside the transaction: everything but offset, time and keys."""

    digest: bytes
    event: RawEvent
    payload: str | None
    scaled: int | None
    origin: Origin
    ids: dict[str, str]
    catalog: str | None = None


@dataclass
class _Waiting:
    rows: list[_Prepared]
    offsets: list[int] | None = None
    error: Unavailable | None = None


@dataclass
class _Plan:
    """What one transaction is going to write."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    catalog: dict[tuple[str, int], tuple[bytes, tuple[int, ...], int]] = field(default_factory=dict)


class Appender:
    """The write side of the log in one process."""

    def __init__(
        self, *, hot: HotFile, ids: IdStore, sealed: SealedIds, manifest: ManifestFile, project: Project, clock: Clock
    ) -> None:
        self._hot, self._ids, self._sealed, self._manifest = hot, ids, sealed, manifest
        self._project, self._clock = project, clock
        self._schema = event_schema(project.entities)
        self._entities = project.entities
        self._place = {name: i for i, name in enumerate(project.entities)}
        self._catalog = CatalogCache(project, hot.codes)
        self._scales = {name: section.value_scale for name, section in project.event.items()}
        self._kept_scales: set[str] = set()
        names = ", ".join(quoted(name) for name in self._schema.names)
        self._insert = f"INSERT INTO event ({names}) VALUES ({', '.join('?' * len(self._schema.names))})"
        self._queue: list[_Waiting] = []
        self._queue_lock, self._write_lock = threading.Lock(), threading.Lock()

    def append(
        self, events: Sequence[RawEvent], *, origin: Origin = "live", digests: Sequence[bytes] | None = None
    ) -> Appended:
        """Durable on return. `digests` replaces the hash of each event's id (rows of files, hashed by content)."""
        waiting = _Waiting(self._prepare(events, origin, digests))
        with self._queue_lock:
            self._queue.append(waiting)
        with self._write_lock:
            if waiting.offsets is None and waiting.error is None:
                self._commit_queue()
        if waiting.error is not None:
            raise waiting.error
        offsets = waiting.offsets or []
        n_new = sum(offset != _DUPLICATE for offset in offsets)
        return Appended(offsets=offsets, n_new=n_new, n_duplicate=len(offsets) - n_new)

    def _commit_queue(self) -> None:
        with self._queue_lock:
            group, self._queue = self._queue, []
        for waiting in group:
            waiting.error = Unavailable("the commit that this append had joined failed: append again")
        offsets = self._commit([row for waiting in group for row in waiting.rows])
        start = 0
        for waiting in group:
            waiting.error = None
            waiting.offsets = offsets[start : start + len(waiting.rows)]
            start += len(waiting.rows)

    def _prepare(self, events: Sequence[RawEvent], origin: Origin, digests: Sequence[bytes] | None) -> list[_Prepared]:
        fresh = iter(fresh_digests(sum(e.event_id is None for e in events)) if digests is None else digests)
        prepared = []
        for event in events:
            if digests is not None or event.event_id is None:
                digest = next(fresh)
            else:
                digest = hash_event_id(event.event_id)
            payload = payload_text(event.payload) if event.payload else None
            scaled = scale_value(event.value, self._scales.get(event.type, 1))
            row = _Prepared(digest, event, payload, scaled, origin, dict(event.ids))
            if event.type[0] == "$":
                self._prepare_catalog(row)
            prepared.append(row)
        unknown = {name for row in prepared for name in row.ids} - self._place.keys()
        if unknown:
            raise UsageError(f"events name {sorted(unknown)}, the project declares {list(self._entities)}")
        return prepared

    def _prepare_catalog(self, row: _Prepared) -> None:
        row.catalog = catalog_entity(row.event.type)
        if row.catalog not in self._place or row.catalog not in row.ids:
            raise UsageError(f"a '{row.event.type}' event must name its own declared entity, it names {row.ids}")
        row.payload = row.payload or "{}"
        row.ids |= derived_ids(self._project, row.catalog, row.event.payload)

    def _commit(self, rows: list[_Prepared]) -> list[int]:
        if not rows:
            return []
        with self._hot.writing() as cursor:
            last_offset, last_at, catalog_version, forget_version = cursor.execute(
                "SELECT last_offset, last_at, catalog_version, forget_version FROM head"
            ).fetchone()
            self._ids.refresh(forget_version)
            self._catalog.refresh(cursor, catalog_version)
            known = self._known(cursor, rows)
            keys, met = self._assign_keys(cursor, [r for r in rows if r.digest not in known] if known else rows)
            at = max(last_at, self._manifest.current().max_at)
            plan = self._plan(cursor, rows, known, keys, last_offset + 1, max(at + 1, self._clock.now()))
            valued = {row.event.type for row in rows if row.scaled is not None} - self._kept_scales
            keep_scales(cursor, self._project, valued)
            self._write(cursor, plan, catalog_version)
        self._kept_scales |= valued
        for entity, pairs in met.items():
            self._ids.remember(entity, pairs, forget_version)
        if plan.catalog:
            self._catalog.apply(plan.catalog, catalog_version + 1)
        return plan.offsets

    def _known(self, cursor: sqlite3.Cursor, rows: list[_Prepared]) -> set[bytes]:
        """The digests that the log already holds, hot or sealed. Exact: the write lock is held."""
        digests = [row.digest for row in rows]
        found = set[bytes]()
        for start in range(0, len(digests), _CHUNK):
            part = digests[start : start + _CHUNK]
            query = f"SELECT event_id FROM event WHERE event_id IN ({','.join('?' * len(part))})"
            found.update(digest for (digest,) in cursor.execute(query, part))
        return found | self._known_sealed(digests)

    def _known_sealed(self, digests: list[bytes]) -> set[bytes]:
        words = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
        while runs := self._manifest.current().runs:
            try:
                hits = np.flatnonzero(self._sealed.contains(runs, words))
                return {digests[row] for row in hits}
            except FileNotFoundError:
                continue  # a seal merged runs between our reading the list and the file: read the list again
        return set()

    def _assign_keys(self, cursor: sqlite3.Cursor, rows: list[_Prepared]) -> tuple[_Keys, _Keys]:
        """(the key of every id that these rows name, those of them that this process had not cached)."""
        keys: _Keys = {name: {} for name in self._entities}
        missing: dict[str, dict[str, None]] = {}
        caches = {name: self._ids.cached(name) for name in self._entities}
        for row in rows:
            for entity, name in row.ids.items():
                if name not in keys[entity]:
                    key = caches[entity].get(name)
                    if key is None:
                        missing.setdefault(entity, {})[name] = None
                    else:
                        keys[entity][name] = key
        found = {entity: self._ids.assign(cursor, entity, names) for entity, names in missing.items()}
        for entity, pairs in found.items():
            keys[entity].update(pairs)
        return keys, found

    def _plan(
        self,
        cursor: sqlite3.Cursor,
        rows: list[_Prepared],
        known: set[bytes],
        all_keys: _Keys,
        offset: int,
        at: int,
    ) -> _Plan:
        plan, seen = _Plan(), set(known)
        for row in rows:
            if row.digest in seen:
                plan.offsets.append(_DUPLICATE)
                continue
            keys = [NO_KEY] * len(self._entities)
            for entity, name in row.ids.items():
                keys[self._place[entity]] = all_keys[entity][name]
            if row.catalog is not None and not self._changes(cursor, plan, row, keys, at):
                plan.offsets.append(_DUPLICATE)
                continue
            if self._catalog.order:
                self._catalog.fill(cursor, keys, row.catalog, plan.catalog)
            seen.add(row.digest)
            plan.offsets.append(offset)
            plan.rows.append(_hot_row(row, offset, at, keys))
            offset, at = offset + 1, at + 1
        return plan

    def _changes(self, cursor: sqlite3.Cursor, plan: _Plan, row: _Prepared, keys: list[int], at: int) -> bool:
        """Whether a catalog row differs from the entity's current one; if so the plan makes it the current one."""
        assert row.catalog is not None  # both are set in _prepare_catalog
        assert row.payload is not None
        key = keys[self._place[row.catalog]]
        digest = self._catalog.digest(row.catalog, row.payload)
        current = plan.catalog.get((row.catalog, key)) or self._catalog.get(cursor, row.catalog, key)
        if current is not None and current[0] == digest:
            return False
        plan.catalog[row.catalog, key] = digest, self._catalog.derived_of(row.catalog, keys), at
        return True

    def _write(self, cursor: sqlite3.Cursor, plan: _Plan, catalog_version: int) -> None:
        if not plan.rows:
            return
        cursor.executemany(self._insert, plan.rows)
        cursor.execute("UPDATE head SET last_offset = ?, last_at = ?", (plan.rows[-1][0], plan.rows[-1][3]))
        if plan.catalog:
            self._catalog.write(cursor, plan.catalog, catalog_version + 1)


def _hot_row(row: _Prepared, offset: int, at: int, keys: list[int]) -> tuple[Any, ...]:
    e = row.event
    return (
        offset,
        row.digest,
        e.ts,
        at,
        e.type,
        *keys,
        e.session,
        e.device,
        e.request_id,
        e.slot,
        e.value,
        row.scaled,
        e.unit,
        e.surface,
        row.payload,
        row.origin,
        SCHEMA_VERSION,
    )

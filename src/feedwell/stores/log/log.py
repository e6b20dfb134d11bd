"""EventLog: the append-only log of one project, safe for many threads and processes.

Newest events are hot (SQLite); `seal` moves them to Parquet segments; a load of history goes straight to segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from feedwell.core import columns as c
from feedwell.core.clock import Clock
from feedwell.core.event import Origin, RawEvent, catalog_type, plain_id
from feedwell.core.project import Project
from feedwell.stores.durable import file_lock
from feedwell.stores.ids import IdStore
from feedwell.stores.log.append import Appended, Appender
from feedwell.stores.log.dedupe import SealedIds
from feedwell.stores.log.history import LoadReport, Progress, load_history, load_live
from feedwell.stores.log.hot import HotFile, quoted
from feedwell.stores.log.in_order import live_run, merged, runs_of, stored_run
from feedwell.stores.log.manifest import Manifest, ManifestFile
from feedwell.stores.log.scales import kept_scales, require_scales
from feedwell.stores.log.schema import event_schema, rows_to_table, without_users
from feedwell.stores.log.seal import recover, renew_epoch, seal_hot
from feedwell.stores.log.segments import read_after
from feedwell.stores.log.stage import clear_abandoned
from feedwell.stores.log.tombstones import Tombstones

_T = TypeVar("_T")


class EventLog:
    """Append, read, seal, load, forget. Open one per process and project; a fork may use its parent's."""

    def __init__(self, folder: Path, project: Project, clock: Clock) -> None:
        self.folder, self.project, self.clock = folder, project, clock
        self.entities = project.entities
        self.schema = event_schema(project.entities)
        self.log_folder = folder / "log"
        self.segments_folder = self.log_folder / "segments"
        self.segments_folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.log_folder / "open.lock"):
            self.hot = HotFile(self.log_folder / "hot.sqlite", project.entities)
            self.tombstones = Tombstones(self.log_folder / "tombstones.json", self.hot)
        require_scales(kept_scales(self.hot.connection()), project)
        self.manifest_file = ManifestFile(self.log_folder / "segments.json")
        self.sealed_ids = SealedIds(self.segments_folder)
        self.ids = IdStore(self.hot.connection, self.hot.codes, self.tombstones.version)
        self._appender = Appender(
            hot=self.hot,
            ids=self.ids,
            sealed=self.sealed_ids,
            manifest=self.manifest_file,
            project=project,
            clock=clock,
        )
        columns = ", ".join(quoted(name) for name in self.schema.names)
        self._select = f"SELECT {columns} FROM event"
        self._empty = self.schema.empty_table()
        recover(self)
        clear_abandoned(folder / "tmp")

    @staticmethod
    def open(folder: Path, project: Project, clock: Clock) -> EventLog:
        """The log under `folder` (`<project>/.feedwell`): created when absent, mended after a crash.
        ProjectError: the project reads stored values at another scale than they were stored."""
        return EventLog(folder, project, clock)

    def close(self) -> None:
        """This thread's connection is closed."""
        self.hot.close()

    @property
    def epoch(self) -> int:
        """Grows with each load of history and each user forgotten: online state of an older one is hydrated anew."""
        return self.manifest_file.current().epoch

    def append(
        self, events: Sequence[RawEvent], *, origin: Origin = "live", digests: Sequence[bytes] | None = None
    ) -> Appended:
        """Offsets of these events, durable on return; all or none are stored. An event whose id the log holds and a
        catalog event (`$item`) whose row is the current one are duplicates. `digests`: 16 bytes each, for ids."""
        return self._appender.append(events, origin=origin, digests=digests)

    def high_water(self) -> tuple[int, int]:
        """(offset, available_at) of the newest event that can be read; (-1, 0) when there is none."""

        def newest(manifest: Manifest) -> tuple[int, int]:
            query = "SELECT max(offset), (SELECT last_at FROM head) FROM event"
            offset, at = self.hot.connection().execute(query).fetchone()
            return max(-1 if offset is None else offset, manifest.last_offset), max(at, manifest.max_at)

        return self._consistent(newest)

    def read(self, after_offset: int, limit: int) -> pa.Table:
        """Up to `limit` events with larger offsets, in offset order, hot or sealed, forgotten users' left out: an empty
        answer alone does not mean the end (`high_water` does)."""
        return without_users(self.read_all(after_offset, limit), self.tombstones.users())

    def read_all(self, after_offset: int, limit: int) -> pa.Table:
        """`read` with forgotten users: for moving and compacting, never for answering."""

        return self._read_all(after_offset, limit, frozenset())

    def in_order(self, *, upto_offset: int | None = None, size: int = 50_000) -> Iterator[pa.Table]:
        """The whole log by (available_at, offset), as whoever folds it from nothing must read it, forgotten users left
        out: tables of at most `size` rows. `upto_offset` (default: the newest now) leaves out what has a larger one."""
        end, manifest = self._consistent(lambda m: (self.high_water()[0], m))
        end = end if upto_offset is None else upto_offset
        there = frozenset(segment.file for segment in manifest.segments)
        stored = [s for s in manifest.segments if s.first_offset <= end]
        runs = [stored_run(self.segments_folder, run, self.schema) for run in runs_of(stored)]
        runs.append(live_run(lambda after, n: self._read_all(after, n, there), manifest.sealed_upto, end))
        for table in merged(runs):
            if pc.max(table[c.OFFSET]).as_py() > end:
                table = table.filter(pc.less_equal(table[c.OFFSET], end))
            table = without_users(table, self.tombstones.users())
            yield from (table.slice(begin, size) for begin in range(0, table.num_rows, size))

    def _read_all(self, after_offset: int, limit: int, without: frozenset[str]) -> pa.Table:
        def rows(manifest: Manifest) -> pa.Table:
            query = f"{self._select} WHERE offset > ? ORDER BY offset LIMIT ?"
            after = max(after_offset, manifest.sealed_upto)
            hot = rows_to_table(self.hot.connection().execute(query, (after, limit)).fetchall(), self.schema)
            sealed = self._read_sealed(manifest, after_offset, limit, without)
            if not sealed.num_rows:
                return hot
            both = pa.concat_tables([sealed, hot])
            if hot.num_rows and hot[c.OFFSET][0].as_py() < sealed[c.OFFSET][-1].as_py():
                both = both.sort_by(c.OFFSET)
            return both.slice(0, limit)

        return self._consistent(rows)

    def user_tail(self, user: int, after_offset: int) -> pa.Table:
        """That user's events after an offset, in order; about 15 µs when there are none. History is not part of a tail:
        its epoch is hydrated."""
        if user in self.tombstones.users():
            return self._empty

        def rows(manifest: Manifest) -> pa.Table:
            query = f'{self._select} WHERE "user" = ? AND offset > ? ORDER BY offset'
            after = max(after_offset, manifest.sealed_upto)
            found = self.hot.connection().execute(query, (user, after)).fetchall()
            hot = rows_to_table(found, self.schema) if found else self._empty
            sealed = [
                _of_user(read_after(self._path(s.file), after_offset, self.schema, s.rows), user)
                for s in manifest.segments
                if s.last_offset > after_offset and not s.history
            ]
            return pa.concat_tables([*sealed, hot]) if sealed else hot

        return self._consistent(rows)

    def catalog_events(self, entity: str, after_offset: int, upto_offset: int) -> pa.Table:
        """The entity's catalog events with offsets in (after, upto], hot or sealed."""
        wanted = catalog_type(entity)

        def rows(manifest: Manifest) -> pa.Table:
            query = f"{self._select} WHERE offset > ? AND offset <= ? AND type = ?"
            after = max(after_offset, manifest.sealed_upto)
            parts = [
                rows_to_table(
                    self.hot.connection().execute(query, (after, upto_offset, wanted)).fetchall(), self.schema
                )
            ]
            for s in manifest.segments:
                if s.last_offset > after_offset and s.first_offset <= upto_offset and entity in s.catalogs:
                    table = read_after(self._path(s.file), after_offset, self.schema, s.rows)
                    within = pc.less_equal(table[c.OFFSET], upto_offset)
                    parts.append(table.filter(pc.and_(pc.equal(table[c.TYPE], wanted), within)))
            return pa.concat_tables(parts)

        return self._consistent(rows)

    def segment_paths(self) -> list[Path]:
        """All sealed files of the current epoch, in offset order."""
        return [self._path(s.file) for s in self.manifest_file.current().segments]

    def sealed_upto(self) -> int:
        """Appended events up to this offset are in segments."""
        return self.manifest_file.current().sealed_upto

    def segments_upto(self) -> int:
        """Every event up to this offset, appended or loaded, is in a segment."""

        def rows(manifest: Manifest) -> int:
            query = "SELECT min(offset) FROM event WHERE offset > ?"
            (first,) = self.hot.connection().execute(query, (manifest.sealed_upto,)).fetchone()
            return max(manifest.sealed_upto, manifest.last_offset) if first is None else first - 1

        return self._consistent(rows)

    def seal(self, upto_offset: int) -> int:
        """How many hot events up to that offset moved to segments; crash-safe at every point, readers go on meanwhile.
        The caller sees to it that the projector has folded them."""
        return seal_hot(self, upto_offset)

    def load_history(
        self,
        rows: Iterable[pa.Table],
        *,
        assumed_delay: int | None = None,
        memory_mb: int = 2048,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> LoadReport:
        """What was loaded: raw tables (`raw_schema`; absent columns are null) become sealed segments of a new epoch.

        Larger than memory; all or nothing, also through a crash, and when `rows` raises. `available_at` is `ts` +
        `assumed_delay` (µs; default: the project's) where null. Loading the same rows again changes nothing.
        DataError: a row would be available more than `[data] max_future` ahead of the clock.
        """
        delay = self.project.data.assumed_delay if assumed_delay is None else assumed_delay
        return load_history(self, rows, assumed_delay=delay, memory_mb=memory_mb, threads=threads, progress=progress)

    def load_live(self, rows: Iterable[pa.Table], *, progress: Progress | None = None) -> LoadReport:
        """What was appended: the same raw tables as live events, available from now on."""
        return load_live(self, rows, progress=progress)

    def forget(self, user_id: str) -> int:
        """The user's key, from now on invisible to every reader, its dictionary row destroyed; -1 when unknown.

        A new epoch begins: batch readings leave the user's events out at once, also those about items, and the online
        state is built anew without them, as after a load of history (which this waits for, when one is running).
        """
        key = self.tombstones.add(plain_id(user_id), self.clock.now())
        renew_epoch(self)
        return key

    def forgotten(self) -> frozenset[int]:
        """Keys of forgotten users: whoever reads segments by itself leaves them out."""
        return self.tombstones.users()

    def _consistent(self, read: Callable[[Manifest], _T]) -> _T:
        # A seal lists the segment first and deletes the hot rows after: a manifest that stood still missed nothing.
        while True:
            before = self.manifest_file.current()
            found = read(before)
            if self.manifest_file.current() is before:
                return found

    def _read_sealed(self, manifest: Manifest, after_offset: int, limit: int, without: frozenset[str]) -> pa.Table:
        parts: list[pa.Table] = []
        rows = 0
        for segment in manifest.segments:
            if segment.last_offset > after_offset and rows < limit and segment.file not in without:
                parts.append(read_after(self._path(segment.file), after_offset, self.schema, limit - rows))
                rows += parts[-1].num_rows
        return pa.concat_tables(parts) if parts else self._empty

    def _path(self, file: str) -> Path:
        return self.segments_folder / file


def _of_user(table: pa.Table, user: int) -> pa.Table:
    return table.filter(pc.equal(table[c.USER], user))

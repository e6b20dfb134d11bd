"""Loading history: any number of raw rows straight into sealed segments, as one new epoch, all or nothing.

Rows are staged on disk, sorted by (available_at, arrival), keyed, given the derived keys as of their time, and written;
then one SQLite transaction and one file swap make them visible. Until then the log is as it was.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core import columns as c
from feedwell.core.clock import SECOND
from feedwell.core.errors import DataError
from feedwell.core.event import CATALOG_PREFIX, NO_KEY, SCHEMA_VERSION, RawEvent, catalog_type
from feedwell.stores.durable import file_lock, sync_folder
from feedwell.stores.log.asof_keys import Versions, existing_versions, staged_versions
from feedwell.stores.log.catalog import derived_order
from feedwell.stores.log.catalog_load import CatalogLoad
from feedwell.stores.log.manifest import Manifest
from feedwell.stores.log.scales import keep_scales
from feedwell.stores.log.schema import words_to_ids
from feedwell.stores.log.seal import finish_pending, lock_path
from feedwell.stores.log.segments import SegmentWriter
from feedwell.stores.log.stage import HIGH, LOW, OCCURRENCE, SEQ, Stage, Staged, clear_abandoned, occurrence_words

if TYPE_CHECKING:
    from feedwell.stores.log.log import EventLog

Progress = Callable[[str, int], None]
_KEYS_A_COMMIT = 100_000
_LIVE_BATCH = 2_000
_RUN_IDS = 8_000_000


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a load did: `n_rows` came, `n_new` were stored; the rest by cause. Times in µs, `seconds` by phase."""

    n_rows: int = 0
    n_new: int = 0
    n_known: int = 0
    """The log held them already: the same file again, or the same client id."""
    n_repeated: int = 0
    """A client's event id that came before in this load."""
    n_twins_across_files: int = 0
    """Equal rows in different files count as one."""
    n_catalog_unchanged: int = 0
    n_catalog_changed: int = 0
    """Undated catalog rows that differ from the current ones: new versions, valid from now."""
    types: dict[str, int] = field(default_factory=dict)
    """Stored events by type."""
    first_at: int = 0
    last_at: int = 0
    epoch: int = 0
    n_segments: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def load_history(
    log: EventLog,
    rows: Iterable[pa.Table],
    *,
    assumed_delay: int = 0,
    memory_mb: int = 2048,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LoadReport:
    """What `EventLog.load_history` says. An error raised by `rows` ends the load with nothing stored."""
    clear_abandoned(log.folder / "tmp")
    with Stage(
        log.folder / "tmp" / f"load-{uuid.uuid4().hex}", log.project, memory_mb=memory_mb, threads=threads
    ) as stage:
        seconds = {"stage": time.perf_counter()}
        for table in rows:
            stage.add(table, delay=assumed_delay)
            if progress:
                progress("read", table.num_rows)
        staged = stage.finish()
        seconds["stage"] = time.perf_counter() - seconds["stage"]
        with file_lock(lock_path(log)):
            finish_pending(log)
            return _Load(log, stage, staged, seconds, progress).run()


def load_live(
    log: EventLog, rows: Iterable[pa.Table], *, memory_mb: int = 2048, progress: Progress | None = None
) -> LoadReport:
    """Rows of files appended as live events, available from now; the same twins and ids as a load of history."""
    types: Counter[str] = Counter()
    known = 0
    clear_abandoned(log.folder / "tmp")
    with Stage(log.folder / "tmp" / f"load-{uuid.uuid4().hex}", log.project, memory_mb=memory_mb) as stage:
        for table in rows:
            stage.add(table)
        staged = stage.finish()
        for batch in stage.rows():
            for start in range(0, batch.num_rows, _LIVE_BATCH):
                events, digests = _raw_events(log, batch.slice(start, _LIVE_BATCH))
                done = log.append(events, digests=digests)
                known += done.n_duplicate
                types.update(e.type for e, offset in zip(events, done.offsets, strict=True) if offset >= 0)
            if progress:
                progress("write", batch.num_rows)
    return LoadReport(
        n_rows=staged.n_rows,
        n_new=sum(types.values()),
        n_known=known,
        n_repeated=staged.n_repeated,
        n_twins_across_files=staged.n_twins,
        types=dict(types),
        epoch=log.epoch,
    )


class _Load:
    """One load of history, after staging; the seal lock is held."""

    def __init__(
        self, log: EventLog, stage: Stage, staged: Staged, seconds: dict[str, float], progress: Progress | None
    ) -> None:
        self._log, self._stage, self._staged, self._seconds = log, stage, staged, seconds
        self._progress = progress
        self._manifest: Manifest = log.manifest_file.current()
        self._types: Counter[str] = Counter()
        self._n_known = 0
        self._known: list[NDArray[np.int64]] = []
        self._words: list[NDArray[np.uint64]] = []
        self._valued = set[str]()

    def run(self) -> LoadReport:
        started = time.perf_counter()
        self._drop_known()
        self._require_past()
        self._assign_keys()
        catalog = CatalogLoad.plan(self._log, self._stage)
        self._stage.drop(catalog.dropped)
        base, hot_words = self._reserve(self._stage.count())
        self._lap("keys", started)
        started = time.perf_counter()
        segments = self._write(base, hot_words)
        epoch = self._manifest.epoch
        if segments.segments:
            epoch = self._commit(segments, catalog, base)
        catalog.append_changed(self._log)
        self._lap("write", started)
        return LoadReport(
            n_rows=self._staged.n_rows,
            n_new=sum(self._types.values()),
            n_known=self._n_known,
            n_repeated=self._staged.n_repeated,
            n_twins_across_files=self._staged.n_twins,
            n_catalog_unchanged=catalog.n_unchanged,
            n_catalog_changed=len(catalog.changed),
            types=dict(self._types),
            first_at=min((s.min_at for s in segments.segments), default=0),
            last_at=max((s.max_at for s in segments.segments), default=0),
            epoch=epoch,
            n_segments=len(segments.segments),
            seconds=self._seconds,
        )

    def _drop_known(self) -> None:
        """Rows that the log holds go before ids get keys: an old file does not bring a forgotten user's id back.

        Catalog rows stay, to be compared with the current ones; but for those of users whom nobody knows any more.
        """
        log = self._log
        hot = b"".join(digest for (digest,) in log.hot.connection().execute("SELECT event_id FROM event"))
        hot_words = np.frombuffer(hot, "<u8").reshape(-1, 2)
        if not self._manifest.runs and not len(hot_words):
            return
        for batch in self._stage.places():
            words = _event_words(batch)
            known = log.sealed_ids.contains(self._manifest.runs, words) | among(words, hot_words)
            types = np.array(batch[c.TYPE].to_pylist(), np.str_)
            of_catalog = np.char.startswith(types, CATALOG_PREFIX)
            if len(users := np.flatnonzero(known & (types == catalog_type(c.USER)))):
                keys = log.ids.lookup(c.USER, batch[c.USER].take(pa.array(users)).to_pylist())
                of_catalog[users[keys == NO_KEY]] = False
            gone = known & ~of_catalog
            self._n_known += int(gone.sum())
            self._known.append(batch[SEQ].to_numpy()[gone])
        self._stage.drop(np.concatenate([np.empty(0, np.int64), *self._known]))

    def _require_past(self) -> None:
        """DataError when a row is available too far ahead of the clock: every later event and request would come after
        it, and nothing takes that back."""
        newest, now = self._stage.newest_at(), self._log.clock.now()
        if newest > now + self._log.project.data.max_future:
            raise DataError(
                f"loading history: a row is available at {newest} µs, {(newest - now) // SECOND} s ahead of the clock;"
                " leave out what is not known yet, lower [data] assumed_delay, or set this machine's clock;"
                " nothing was stored"
            )

    def _assign_keys(self) -> None:
        """Every id of the load has a key; keys of a load that then fails stay unused."""
        log = self._log
        for entity in log.entities:
            self._stage.set_keys(entity, pa.array([], pa.string()), pa.array([], pa.int64()))
            for names in self._stage.distinct(entity):
                for start in range(0, len(names), _KEYS_A_COMMIT):
                    with log.hot.writing() as cursor:
                        found = log.ids.assign(cursor, entity, names[start : start + _KEYS_A_COMMIT])
                    self._stage.set_keys(
                        entity, pa.array(found.keys(), pa.string()), pa.array(found.values(), pa.int64())
                    )

    def _reserve(self, n: int) -> tuple[int, NDArray[np.uint64]]:
        """(the first of n offsets that nothing else will get, the ids of all events that are hot now)."""
        with self._log.hot.writing() as cursor:
            (last,) = cursor.execute("SELECT last_offset FROM head").fetchone()
            base = max(last, self._manifest.last_offset) + 1
            cursor.execute("UPDATE head SET last_offset = ?", (base + n - 1,))
            ids = b"".join(digest for (digest,) in cursor.execute("SELECT event_id FROM event"))
        return base, np.frombuffer(ids, "<u8").reshape(-1, 2)

    def _write(self, base: int, hot_words: NDArray[np.uint64]) -> SegmentWriter:
        log, offset = self._log, base
        versions = {
            owner: existing_versions(log, self._manifest, owner) + staged_versions(log, self._stage, owner)
            for owner in dict.fromkeys(owner for _, owner, _ in derived_order(log.project))
        }
        tag = f"e{self._manifest.epoch + 1}-{uuid.uuid4().hex[:6]}"
        writer = SegmentWriter(log.segments_folder, log.schema, history=True, tag=tag)
        for batch in self._stage.events():
            words = _event_words(batch)
            known = log.sealed_ids.contains(self._manifest.runs, words) | among(words, hot_words)
            if known.any():
                self._n_known += int(known.sum())
                batch, words = batch.filter(pa.array(~known)), words[~known]
            if batch.num_rows:
                writer.add(self._table(batch, words, offset, versions))
                self._words.append(words)
                offset += batch.num_rows
            if self._progress:
                self._progress("write", len(known))
        writer.cut()
        return writer

    def _table(
        self, batch: pa.RecordBatch, words: NDArray[np.uint64], offset: int, versions: dict[str, Versions]
    ) -> pa.Table:
        """Rows of the log from staged ones."""
        log, n = self._log, batch.num_rows
        kind = batch[c.TYPE].dictionary_encode()
        names = kind.dictionary.to_pylist()
        type_E = kind.indices.to_numpy()
        self._types.update({names[i]: int(k) for i, k in enumerate(np.bincount(type_E, minlength=len(names)))})
        at = batch[c.AVAILABLE_AT].to_numpy()
        keys = {name: batch[name].to_numpy() for name in log.entities}
        for name, owner, _ in derived_order(log.project):
            own = np.isin(type_E, [i for i, text in enumerate(names) if text == CATALOG_PREFIX + owner])
            open_E = (keys[name] == NO_KEY) & (keys[owner] != NO_KEY) & ~own
            if open_E.any():
                filled = versions[owner].at(name, keys[owner], at)
                keys[name] = np.where(open_E, filled, keys[name])
        has_value = batch[c.VALUE].is_valid().to_numpy(zero_copy_only=False)
        self._valued.update(names[i] for i in np.unique(type_E[has_value]))
        scale_E = np.array([log.project.event_section(text).value_scale for text in names], np.float64)[type_E]
        columns = {
            **{name: batch[name] for name in batch.schema.names},
            **{name: pa.array(values) for name, values in keys.items()},
            c.OFFSET: pa.array(np.arange(offset, offset + n)),
            c.EVENT_ID: words_to_ids(words),
            c.VALUE_SCALED: _scaled(batch[c.VALUE], scale_E),
            c.ORIGIN: pa.repeat(pa.scalar("history"), n),
            c.SCHEMA_VERSION: pa.repeat(pa.scalar(SCHEMA_VERSION, pa.int16()), n),
        }
        return pa.table([columns[f.name] for f in log.schema], schema=log.schema)

    def _commit(self, writer: SegmentWriter, catalog: CatalogLoad, base: int) -> int:
        log, words = self._log, np.concatenate(self._words)
        runs, replaced = list(self._manifest.runs), list[str]()
        tag = uuid.uuid4().hex[:6]
        for i, start in enumerate(range(0, len(words), _RUN_IDS)):
            name = f"ids-{base:016d}-{tag}-{i}.u128"
            runs, gone = log.sealed_ids.merge(runs, words[start : start + _RUN_IDS], name)
            replaced += gone
        sync_folder(log.segments_folder)
        manifest = replace(self._manifest.adding(writer.segments, runs), epoch=self._manifest.epoch + 1)
        with log.hot.writing() as cursor:
            keep_scales(cursor, log.project, self._valued)
            _delete_repeated(cursor, words)
            cursor.execute("UPDATE head SET last_at = max(last_at, ?)", (manifest.max_at,))
            catalog.write(cursor)
            cursor.execute("INSERT OR REPLACE INTO pending VALUES (0, ?)", (manifest.dump(),))
        finish_pending(log)
        log.sealed_ids.drop(replaced)
        return manifest.epoch

    def _lap(self, name: str, started: float) -> None:
        self._seconds[name] = time.perf_counter() - started


def among(words_Q2: NDArray[np.uint64], words_N2: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which ids are in a set held in memory."""
    hit_Q = np.isin(words_Q2[:, 0], words_N2[:, 0])
    if hit_Q.any():
        held = set(map(tuple, words_N2[np.isin(words_N2[:, 0], words_Q2[hit_Q, 0])].tolist()))
        hit_Q[hit_Q] = [tuple(pair) in held for pair in words_Q2[hit_Q].tolist()]
    return hit_Q


def _event_words(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    words = np.stack([batch[LOW].to_numpy(), batch[HIGH].to_numpy()], axis=1)
    for row in np.flatnonzero(batch[OCCURRENCE].is_valid().to_numpy(zero_copy_only=False)):
        words[row] = occurrence_words(int(words[row, 0]), int(words[row, 1]), batch[OCCURRENCE][int(row)].as_py())
    return words


def _scaled(values: pa.Array, scale_E: NDArray[np.float64]) -> pa.Array:
    # The arithmetic of core.event.scale_value, on whole columns: the same IEEE operations, so the same integers.
    if values.null_count == len(values):
        return pa.nulls(len(values), pa.int64())
    scaled = np.floor(values.fill_null(0.0).to_numpy() * scale_E + 0.5).astype(np.int64)
    return pa.array(scaled, mask=values.is_null().to_numpy(zero_copy_only=False))


def _delete_repeated(cursor: sqlite3.Cursor, words: NDArray[np.uint64]) -> None:
    """Live events that came during the load with ids that the load holds: the history's copy stays."""
    rows = cursor.execute("SELECT event_id FROM event").fetchall()
    if rows:
        hot = np.frombuffer(b"".join(digest for (digest,) in rows), "<u8").reshape(-1, 2)
        gone = [(rows[i][0],) for i in np.flatnonzero(among(hot, words))]
        cursor.executemany("DELETE FROM event WHERE event_id = ?", gone)


def _raw_events(log: EventLog, batch: pa.RecordBatch) -> tuple[list[RawEvent], list[bytes]]:
    words = _event_words(batch)
    events = [
        RawEvent(
            type=row[c.TYPE],
            ts=row[c.TS],
            ids={name: row[name] for name in log.entities if row[name] is not None},
            value=row[c.VALUE],
            unit=row[c.UNIT],
            session=row[c.SESSION],
            device=row[c.DEVICE],
            request_id=row[c.REQUEST_ID],
            slot=row[c.SLOT],
            surface=row[c.SURFACE],
            payload=orjson.loads(row[c.PAYLOAD]) if row[c.PAYLOAD] else {},
        )
        for row in batch.to_pylist()
    ]
    return events, [words[i].tobytes() for i in range(len(words))]

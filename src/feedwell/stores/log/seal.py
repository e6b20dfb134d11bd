"""Sealing: hot rows become Parquet segments, then the manifest lists them, then the hot copies go.

Every step may be the last one before a crash. Files that no manifest lists are rubbish that the next seal removes; hot
rows that the manifest already covers are ignored by readers and removed by the next seal. A load of history commits its
manifest in SQLite first (`pending`), so that its dictionary, its catalog rows and its segments appear together.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feedwell.core import columns as c
from feedwell.core.errors import Unavailable
from feedwell.stores.durable import file_lock, sync_folder
from feedwell.stores.log.hot import quoted
from feedwell.stores.log.manifest import Manifest
from feedwell.stores.log.schema import id_words, rows_to_table
from feedwell.stores.log.segments import SegmentWriter

if TYPE_CHECKING:
    from feedwell.stores.log.log import EventLog

_BATCH = 100_000
_DELETE_BATCH = 20_000


def lock_path(log: EventLog) -> Path:
    """The lock of whoever changes the manifest."""
    return log.log_folder / "seal.lock"


def recover(log: EventLog) -> None:
    """Finish what a crash left; someone else's seal in progress is not a crash."""
    pending = log.hot.connection().execute("SELECT count(*) FROM pending").fetchone()[0]
    if pending or log.tombstones.version() > log.manifest_file.current().forgets:
        try:
            renew_epoch(log, wait=False)
        except Unavailable:
            return


def renew_epoch(log: EventLog, *, wait: bool = True) -> None:
    """A new epoch when somebody was forgotten in this one: aggregates over items hold their events too."""
    with file_lock(lock_path(log), wait=wait):
        finish_pending(log)
        manifest, forgets = log.manifest_file.current(), log.tombstones.version()
        if forgets > manifest.forgets:
            log.manifest_file.swap(replace(manifest, epoch=manifest.epoch + 1, forgets=forgets))


def finish_pending(log: EventLog) -> None:
    """A manifest that was committed in SQLite becomes the file. The caller holds the lock."""
    row = log.hot.connection().execute("SELECT manifest FROM pending").fetchone()
    if row is not None:
        log.manifest_file.swap(Manifest.load(row[0], log.log_folder / "hot.sqlite"))
        with log.hot.writing() as cursor:
            cursor.execute("DELETE FROM pending")


def seal_hot(log: EventLog, upto_offset: int) -> int:
    """How many hot rows moved to segments."""
    with file_lock(lock_path(log)):
        finish_pending(log)
        manifest = log.manifest_file.current()
        _delete_covered(log, manifest)
        _drop_unlisted(log, manifest)
        writer, words = _write_segments(log, manifest, upto_offset)
        if not writer.segments:
            return 0
        last = max(s.last_offset for s in writer.segments)
        new_run = f"ids-{last:016d}-e{manifest.epoch}.u128"
        runs, replaced = log.sealed_ids.merge(manifest.runs, words, new_run)
        sync_folder(log.segments_folder)
        sealed = replace(manifest.adding(writer.segments, runs), sealed_upto=last)
        log.manifest_file.swap(sealed)
        _delete_covered(log, sealed)
        log.sealed_ids.drop(replaced)
        return len(words)


def _write_segments(log: EventLog, manifest: Manifest, upto_offset: int) -> tuple[SegmentWriter, NDArray[np.uint64]]:
    writer = SegmentWriter(log.segments_folder, log.schema, history=False, tag=f"e{manifest.epoch}")
    words = [np.empty((0, 2), np.uint64)]
    names = ", ".join(quoted(name) for name in log.schema.names)
    query = f"SELECT {names} FROM event WHERE offset > ? AND offset <= ? ORDER BY offset LIMIT {_BATCH}"
    # A load of history took a block of offsets between hot rows: no segment may reach over it.
    ends = [s.first_offset for s in manifest.segments if manifest.sealed_upto < s.first_offset <= upto_offset]
    after = manifest.sealed_upto
    for end in [*ends, upto_offset]:
        while rows := log.hot.connection().execute(query, (after, end)).fetchall():
            table = rows_to_table(rows, log.schema)
            writer.add(table)
            words.append(id_words(table[c.EVENT_ID]))
            after = rows[-1][0]
        writer.cut()
    return writer, np.concatenate(words)


def _delete_covered(log: EventLog, manifest: Manifest) -> None:
    # In small transactions, so that an append never waits long for the lock.
    while True:
        with log.hot.writing() as cursor:
            query = "DELETE FROM event WHERE offset IN (SELECT offset FROM event WHERE offset <= ? LIMIT ?)"
            if cursor.execute(query, (manifest.sealed_upto, _DELETE_BATCH)).rowcount < _DELETE_BATCH:
                return


def _drop_unlisted(log: EventLog, manifest: Manifest) -> None:
    listed = {s.file for s in manifest.segments} | set(manifest.runs)
    for path in log.segments_folder.iterdir():
        if path.name not in listed:
            path.unlink(missing_ok=True)

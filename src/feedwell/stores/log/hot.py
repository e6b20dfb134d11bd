"""The SQLite file of the log: hot events, high-water marks, dictionary, current catalog rows, tombstones.

WAL with synchronous=FULL: what a commit acknowledged survives a power cut. One writer at a time (BEGIN IMMEDIATE), any
number of readers in any process. One connection per thread, opened after a fork.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from feedwell.core.errors import DataError, Unavailable
from feedwell.core.event import NO_KEY

BUSY_S = 30.0
# 32 MB of WAL between checkpoints: the random ids touch a page each, so that a page is written once for many batches.
_CHECKPOINT_PAGES = 8192
_CACHE_KIB = 32 * 1024

_TABLES = """
CREATE TABLE IF NOT EXISTS head (
    id INTEGER PRIMARY KEY CHECK (id = 0), last_offset INTEGER, last_at INTEGER, catalog_version INTEGER,
    forget_version INTEGER);
INSERT OR IGNORE INTO head VALUES (0, -1, 0, 0, 0);
CREATE TABLE IF NOT EXISTS event (
    "offset" INTEGER PRIMARY KEY, event_id BLOB NOT NULL, ts INTEGER, available_at INTEGER, type TEXT,
    session TEXT, device TEXT, request_id TEXT, slot INTEGER, value REAL, value_scaled INTEGER, unit TEXT, surface TEXT,
    payload TEXT, origin TEXT, schema_version INTEGER, "user" INTEGER DEFAULT -1, "item" INTEGER DEFAULT -1);
CREATE UNIQUE INDEX IF NOT EXISTS event_by_id ON event (event_id);
CREATE INDEX IF NOT EXISTS event_by_user ON event ("user");
CREATE TABLE IF NOT EXISTS entity (code INTEGER PRIMARY KEY, name TEXT UNIQUE, next_key INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS id (entity INTEGER, name BLOB, key INTEGER, PRIMARY KEY (entity, name)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS id_by_key ON id (entity, key);
CREATE TABLE IF NOT EXISTS catalog (
    entity INTEGER, key INTEGER, available_at INTEGER, digest BLOB, loaded BLOB, derived TEXT, version INTEGER,
    PRIMARY KEY (entity, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS catalog_by_version ON catalog (version);
CREATE TABLE IF NOT EXISTS tombstone (key INTEGER PRIMARY KEY, forgotten_at INTEGER);
CREATE TABLE IF NOT EXISTS scale (type TEXT PRIMARY KEY, value_scale INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending (id INTEGER PRIMARY KEY CHECK (id = 0), manifest BLOB);
"""


class HotFile:
    """Connections to one SQLite file, and its tables for these entities."""

    def __init__(self, path: Path, entities: Sequence[str]) -> None:
        self.path = path
        self.entities = tuple(entities)
        self._local = threading.local()
        try:
            self.connection().execute("PRAGMA journal_mode = WAL")
            with self.writing() as cursor:
                for statement in _TABLES.split(";\n"):
                    cursor.execute(statement)
                self.codes = _declare(cursor, self.entities)
        except sqlite3.OperationalError as error:
            raise Unavailable(f"opening the log {path}: {error}; try again, and see `feedwell doctor`") from error
        except sqlite3.DatabaseError as error:
            advice = "restore it from a backup, or move the folder .feedwell away and ingest again"
            raise DataError(f"opening the log {path}: {error}: the file is damaged; {advice}") from error

    def connection(self) -> sqlite3.Connection:
        """This thread's connection in this process."""
        held: tuple[int, sqlite3.Connection] | None = getattr(self._local, "held", None)
        if held is None or held[0] != os.getpid():
            held = os.getpid(), _connect(self.path)
            self._local.held = held
        return held[1]

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Cursor]:
        """A cursor in a write transaction, committed durably at the end; Unavailable when the lock is held too long."""
        cursor = self.connection().cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise Unavailable(f"{self.path} is locked by another writer for {BUSY_S:.0f} s: {error}") from error
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise
        finally:
            cursor.close()

    def close(self) -> None:
        """This thread's connection is closed."""
        held: tuple[int, sqlite3.Connection] | None = getattr(self._local, "held", None)
        if held is not None and held[0] == os.getpid():
            held[1].close()
        self._local.held = None


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _declare(cursor: sqlite3.Cursor, entities: Sequence[str]) -> dict[str, int]:
    cursor.executemany("INSERT OR IGNORE INTO entity (name) VALUES (?)", [(name,) for name in entities])
    present = {row[1] for row in cursor.execute("PRAGMA table_info(event)")}
    for name in entities:
        if name not in present:
            cursor.execute(f"ALTER TABLE event ADD COLUMN {quoted(name)} INTEGER DEFAULT {NO_KEY}")
    return dict(cursor.execute("SELECT name, code FROM entity"))

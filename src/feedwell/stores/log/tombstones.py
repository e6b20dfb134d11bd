"""Forgotten users, as every reader in every process sees them: an SQLite table, announced by a small file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import orjson

from feedwell.core.event import NO_KEY
from feedwell.stores.durable import fingerprint, write_atomic
from feedwell.stores.log.hot import HotFile

_USER = "user"


class Tombstones:
    """The set of forgotten user keys; reading it costs a stat (about 1 µs) while nothing changes."""

    def __init__(self, path: Path, hot: HotFile) -> None:
        self._path, self._hot = path, hot
        self._seen: tuple[int, int, int] | None = None
        self._users: frozenset[int] = frozenset()
        self._version = 0
        self._announce()

    def users(self) -> frozenset[int]:
        """All forgotten user keys."""
        self._read()
        return self._users

    def version(self) -> int:
        """Grows by one with each user forgotten."""
        self._read()
        return self._version

    def add(self, user_id: str, now: int) -> int:
        """The key that is forgotten from now on, its dictionary row destroyed; -1 when the log does not know the id."""
        with self._hot.writing() as cursor:
            code = self._hot.codes[_USER]
            name = user_id.encode("utf-8", "surrogatepass")
            row = cursor.execute("SELECT key FROM id WHERE entity = ? AND name = ?", (code, name)).fetchone()
            if row is not None:
                cursor.execute("PRAGMA secure_delete = ON")
                cursor.execute("INSERT OR IGNORE INTO tombstone VALUES (?, ?)", (row[0], now))
                cursor.execute("DELETE FROM id WHERE entity = ? AND name = ?", (code, name))
                cursor.execute("DELETE FROM catalog WHERE entity = ? AND key = ?", (code, row[0]))
                cursor.execute("UPDATE head SET forget_version = forget_version + 1")
        self._announce()
        return NO_KEY if row is None else int(row[0])

    def _read(self) -> None:
        found = fingerprint(self._path)
        if found != self._seen and found is not None:
            content = orjson.loads(self._path.read_bytes())
            self._users, self._version, self._seen = frozenset(content["users"]), content["version"], found

    def _announce(self) -> None:
        """Write the file from the table: after a change, and at opening, lest a crash came between the two."""
        connection = self._hot.connection()
        version = forget_version(connection.cursor())
        self._read()
        if self._seen is None or self._version != version:
            # The lock keeps an older list from replacing a newer one.
            with self._hot.writing() as cursor:
                users = [key for (key,) in cursor.execute("SELECT key FROM tombstone ORDER BY key")]
                content = {"version": forget_version(cursor), "users": users}
                write_atomic(self._path, orjson.dumps(content))
        self._read()


def forget_version(cursor: sqlite3.Cursor) -> int:
    return int(cursor.execute("SELECT forget_version FROM head").fetchone()[0])

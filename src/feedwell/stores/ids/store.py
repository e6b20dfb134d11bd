"""IdStore: outside id ↔ key, per entity, over tables of the log's SQLite file, with a cache in each process.

Only found ids are cached, so a key that another process has just made is seen at the next miss. Forgetting a user
changes a version; a cache of an older version is emptied before it answers.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.errors import UsageError
from feedwell.core.event import NO_KEY, plain_id

_MAX_CACHED = 500_000
_CHUNK = 500


class IdStore:
    """`lookup` and `names` may be called from any thread; `assign` runs inside the caller's write transaction."""

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], codes: Mapping[str, int], version: Callable[[], int]
    ) -> None:
        self._connect, self._codes, self._version = connect, codes, version
        self._seen = version()
        self._lock = threading.Lock()
        self._keys: dict[str, dict[str, int]] = {name: {} for name in codes}
        self._names: dict[str, dict[int, str]] = {name: {} for name in codes}

    def lookup(self, entity: str, ids: Sequence[str]) -> NDArray[np.int64]:
        """The key of each id, -1 where the log has never seen it; about 1 µs an id that this process has met."""
        version = self.refresh(self._version())
        cache, ids = self.cached(entity), [plain_id(name) for name in ids]
        found = {name: key for name in ids if (key := cache.get(name)) is not None}
        if len(found) < len(ids) and (missing := set(ids) - found.keys()):
            new = self._select_keys(self._connect().cursor(), entity, list(missing))
            self.remember(entity, new, version)
            found.update(new)
        return np.fromiter((found.get(name, NO_KEY) for name in ids), np.int64, len(ids))

    def names(self, entity: str, keys: Sequence[int] | NDArray[np.int64]) -> list[str | None]:
        """The outside id of each key; None for an unknown one and for a forgotten user."""
        version = self.refresh(self._version())
        self.code(entity)
        cache, wanted = self._names[entity], [int(key) for key in keys]
        found = {key: name for key in wanted if (name := cache.get(key)) is not None}
        if missing := set(wanted) - found.keys():
            new = self._select_names(entity, list(missing))
            self._keep(cache, new, version)
            found.update(new)
        return [found.get(key) for key in wanted]

    def size(self, entity: str) -> int:
        """One more than the largest key ever given: the length of an array indexed by key."""
        row = self._connect().execute("SELECT next_key FROM entity WHERE code = ?", (self.code(entity),)).fetchone()
        return int(row[0])

    def code(self, entity: str) -> int:
        """The entity's number in the tables; UsageError when the project does not declare it."""
        if entity not in self._codes:
            raise UsageError(f"no entity '{entity}' in this project (there are {', '.join(self._codes)})")
        return self._codes[entity]

    def refresh(self, version: int) -> int:
        """The version, after emptying the caches when users were forgotten since they were filled."""
        if version != self._seen:
            with self._lock:
                for entity in self._codes:
                    self._keys[entity].clear()
                    self._names[entity].clear()
                self._seen = version
        return version

    def cached(self, entity: str) -> Mapping[str, int]:
        """The id → key pairs that this process has met (a view, for the append path)."""
        self.code(entity)
        return self._keys[entity]

    def assign(self, cursor: sqlite3.Cursor, entity: str, ids: Iterable[str]) -> dict[str, int]:
        """The key of each distinct id, new ones made in the order given. Remember them only after the commit."""
        wanted = list(dict.fromkeys(ids))
        found = self._select_keys(cursor, entity, wanted)
        code = self.code(entity)
        new = [name for name in wanted if name not in found]
        if new:
            (start,) = cursor.execute("SELECT next_key FROM entity WHERE code = ?", (code,)).fetchone()
            rows = [(code, _encode(name), start + i) for i, name in enumerate(new)]
            cursor.executemany("INSERT INTO id VALUES (?, ?, ?)", rows)
            cursor.execute("UPDATE entity SET next_key = ? WHERE code = ?", (start + len(new), code))
            found.update((name, start + i) for i, name in enumerate(new))
        return found

    def remember(self, entity: str, keys: Mapping[str, int], version: int) -> None:
        """Cache pairs that are committed, as read when `version` held."""
        self._keep(self._keys[entity], keys, version)

    def _keep(self, cache: dict[Any, Any], new: Mapping[Any, Any], version: int) -> None:
        with self._lock:
            if version != self._seen:
                return
            if len(cache) + len(new) > _MAX_CACHED:
                cache.clear()
            cache.update(islice(new.items(), _MAX_CACHED))

    def _select_keys(self, cursor: sqlite3.Cursor, entity: str, ids: Sequence[str]) -> dict[str, int]:
        code, found = self.code(entity), dict[str, int]()
        for start in range(0, len(ids), _CHUNK):
            part = [_encode(name) for name in ids[start : start + _CHUNK]]
            query = f"SELECT name, key FROM id WHERE entity = ? AND name IN ({','.join('?' * len(part))})"
            found.update((_decode(name), key) for name, key in cursor.execute(query, (code, *part)))
        return found

    def _select_names(self, entity: str, keys: Sequence[int]) -> dict[int, str]:
        code, found = self.code(entity), dict[int, str]()
        for start in range(0, len(keys), _CHUNK):
            part = keys[start : start + _CHUNK]
            query = f"SELECT key, name FROM id WHERE entity = ? AND key IN ({','.join('?' * len(part))})"
            found.update((key, _decode(name)) for key, name in self._connect().execute(query, (code, *part)))
        return found


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")

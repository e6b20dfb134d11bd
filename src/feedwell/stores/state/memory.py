"""MemoryState: the state in a dict, for replay, simulation and tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from feedwell.stores.state.port import ReadTxn, WriteTxn

T = TypeVar("T")


class MemoryState:
    """Readers keep the dict they opened; a write copies it first only while someone reads."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._readers = 0
        self._lock = threading.RLock()

    @contextmanager
    def read(self) -> Iterator[ReadTxn]:
        with self._lock:
            rows = self._rows
            self._readers += 1
        try:
            yield _MemoryTxn(rows)
        finally:
            with self._lock:
                self._readers -= 1

    def update(self, apply: Callable[[WriteTxn], T]) -> T:
        with self._lock:
            txn = _MemoryTxn(self._rows)
            result = apply(txn)
            if self._readers:
                self._rows = dict(self._rows)
            for key, row in txn.changed.items():
                if row is None:
                    self._rows.pop(key, None)
                else:
                    self._rows[key] = row
            return result

    def close(self) -> None:
        self._rows = {}


class _MemoryTxn:
    """Reads through to `base`; what it writes stays in `changed` (None: deleted) until the store takes it over."""

    def __init__(self, base: dict[bytes, bytes]) -> None:
        self._base = base
        self.changed: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.changed[key] if key in self.changed else self._base.get(key)

    def get_many(self, keys: Sequence[bytes], default: bytes) -> list[bytes]:
        if not self.changed:
            get = self._base.get
            return [get(key, default) for key in keys]
        found = (self.get(key) for key in keys)
        return [default if row is None else row for row in found]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(k for k in {*self._base, *self.changed} if k.startswith(prefix)):
            row = self.get(key)
            if row is not None:
                yield key, row

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        self.changed.update((key, bytes(row)) for key, row in items)

    def put_sorted(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        self.put_many(items)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        self.changed.update((key, None) for key in keys)

    def delete_prefix(self, prefix: bytes) -> int:
        keys = [key for key, _ in self.scan(prefix)]
        self.delete_many(keys)
        return len(keys)

"""LmdbState: the online state in one LMDB file. One process writes, any number read; open it after fork.

Reader and writer map the same size. When the writer grows the file, each reader adopts the new size at its next read.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from feedwell.core.errors import Unavailable
from feedwell.stores.durable import write_atomic
from feedwell.stores.state.port import ReadTxn, WriteTxn

T = TypeVar("T")
# Address space, not disk: the file grows with what is written.
MAP_SIZE = 4 << 30
_open: dict[tuple[int, str], LmdbState] = {}
_open_lock = threading.Lock()


class LmdbState:
    """Made by `open`: a process maps one file once, so that opening it again gives the same object."""

    def __init__(self, path: Path, map_size: int) -> None:
        self.path = path
        self._uses = 0
        self._readers = 0
        self._gate = threading.Condition()
        self._marked = False
        # No fsync: the state is derived from the log. A killed process loses nothing (the page cache survives it);
        # after a power cut `_is_torn` sees that the machine started again since, and the state is built anew. Measured
        # with 500 events a transaction (2026-11): 31k events/s without fsync, 16k with. writemap would give 50k, but
        # then a full disk kills the process with a bus error.
        self._env = lmdb.open(
            str(path), map_size=map_size, subdir=False, sync=False, max_readers=1022, lock=True, max_spare_txns=8
        )

    @staticmethod
    def open(path: Path, *, map_size: int = MAP_SIZE, create: bool = True) -> LmdbState:
        """The state in the file `path`, empty where there was none or where a power cut may have torn it.

        With `create` False both are Unavailable.
        """
        name = str(path.resolve())
        with _open_lock:
            found = _open.get((os.getpid(), name))
            if found is None:
                if not create and not path.exists():
                    raise Unavailable(
                        f"there is no online state at {path}: run `feedwell ingest` or start the projector"
                    )
                if _is_torn(path):
                    if not create:
                        raise Unavailable(f"the state at {path} was being written when the machine stopped: hydrate it")
                    path.unlink(missing_ok=True)
                    _marker(path).unlink()
                path.parent.mkdir(parents=True, exist_ok=True)
                size = max(map_size, path.stat().st_size if path.exists() else 0)
                found = _open[os.getpid(), name] = LmdbState(path, size)
            found._uses += 1
            return found

    @contextmanager
    def read(self) -> Iterator[ReadTxn]:
        with self._gate:
            self._readers += 1
        try:
            with self._begin() as txn:
                yield _LmdbTxn(txn)
        finally:
            with self._gate:
                self._readers -= 1
                self._gate.notify_all()

    def update(self, apply: Callable[[WriteTxn], T]) -> T:
        if not self._marked:
            # Whole and on the disk before the first row: half a marker would read as another boot's.
            write_atomic(_marker(self.path), _boot_id().encode())
            self._marked = True
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    return apply(_LmdbTxn(txn))
            except lmdb.MapFullError:
                self._resize(self._env.info()["map_size"] * 2)
            except lmdb.MapResizedError:
                self._resize(0)

    def close(self) -> None:
        with _open_lock:
            self._uses -= 1
            if self._uses <= 0:
                _open.pop((os.getpid(), str(self.path.resolve())), None)
                if self._marked:
                    self._env.sync(True)
                    _marker(self.path).unlink(missing_ok=True)
                self._env.close()

    def _begin(self) -> lmdb.Transaction:
        try:
            return self._env.begin(buffers=False)
        except lmdb.MapResizedError:
            with self._gate:
                self._readers -= 1
            self._resize(0)
            with self._gate:
                self._readers += 1
            return self._env.begin(buffers=False)

    def _resize(self, size: int) -> None:
        # LMDB forbids a resize while this process reads; 0 adopts what another process has set.
        with self._gate:
            self._gate.wait_for(lambda: self._readers == 0)
            self._env.set_mapsize(size)


def _marker(path: Path) -> Path:
    """A file that stands beside the state while someone may write it; it names the boot of the machine."""
    return path.with_name(path.name + ".writing")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Elsewhere than on Linux every start counts as a new one, so that an unclean state is always built anew.
        return f"unknown-{time.time_ns()}"


def _is_torn(path: Path) -> bool:
    marker = _marker(path)
    return marker.exists() and marker.read_text() != _boot_id()


class _LmdbTxn:
    """Rows come as bytes (`buffers=False`); py-lmdb's annotations allow for views as well, hence Any."""

    def __init__(self, txn: lmdb.Transaction) -> None:
        self._txn: Any = txn

    def get(self, key: bytes) -> bytes | None:
        row: bytes | None = self._txn.get(key)
        return row

    def get_many(self, keys: Sequence[bytes], default: bytes) -> list[bytes]:
        get = self._txn.get
        return [get(key, default) for key in keys]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._txn.cursor() as cursor:
            if not cursor.set_range(prefix):
                return
            for key, row in cursor:
                if not key.startswith(prefix):
                    return
                yield key, row

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        with self._txn.cursor() as cursor:
            cursor.putmulti(list(items))

    def put_sorted(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        if not items:
            return
        with self._txn.cursor() as cursor:
            append = not cursor.last() or cursor.key() < items[0][0]
            cursor.putmulti(items, append=append)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._txn.delete(key)

    def delete_prefix(self, prefix: bytes) -> int:
        n = 0
        with self._txn.cursor() as cursor:
            while cursor.set_range(prefix) and cursor.key().startswith(prefix):
                cursor.delete()
                n += 1
        return n

"""RecordStore: slate records as rows of one SQLite file per project, traces in another, both found by request id.

Every process writes and reads the same files (WAL, synchronous=FULL). Threads of one process that write at once share
one transaction, and so one fsync.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from feedwell.core.slate import SlateRecord
from feedwell.stores.records.slots import slots_table

_RECORDS = """
CREATE TABLE IF NOT EXISTS records (
  id INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, user INTEGER NOT NULL, t INTEGER NOT NULL, row BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS records_by_user ON records (user, t);
CREATE INDEX IF NOT EXISTS records_by_t ON records (t);
"""
_TRACES = "CREATE TABLE IF NOT EXISTS traces (request_id TEXT PRIMARY KEY, user INTEGER NOT NULL, row BLOB NOT NULL)"
_BATCH = 1_000


@dataclass
class _Group:
    """Rows that will be committed together; the first thread to get the write lock does it for all."""

    records: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    traces: list[tuple[str, int, bytes]] = field(default_factory=list)
    done: bool = False
    error: sqlite3.Error | None = None


class RecordStore:
    """Made by `open`; safe to use from several threads, and one per process after a fork."""

    def __init__(self, records: Path, traces: Path) -> None:
        self._write_records, self._write_traces = _connect(records, _RECORDS), _connect(traces, _TRACES)
        self._records, self._traces = _connect(records, ""), _connect(traces, "")
        # Readers have connections of their own, so that nobody waits for another's fsync.
        self._reading, self._writing, self._joining = threading.Lock(), threading.Lock(), threading.Lock()
        self._group = _Group()

    @staticmethod
    def open(folder: Path) -> RecordStore:
        """The store under a project's `.feedwell`, made at first use."""
        return RecordStore(folder / "records" / "records.sqlite", folder / "traces" / "traces.sqlite")

    def write(self, record: SlateRecord, trace: Mapping[str, Any] | None = None) -> None:
        """Returns once the record (and the trace) would survive a crash. A request id written again replaces."""
        row = (record.request_id, record.user, record.t, orjson.dumps(_lean(record), option=orjson.OPT_SERIALIZE_NUMPY))
        traced = None if trace is None else (record.request_id, record.user, _packed(trace))
        with self._joining:
            group = self._group
            group.records.append(row)
            if traced is not None:
                group.traces.append(traced)
        with self._writing:
            if not group.done:
                with self._joining:
                    self._group = _Group()
                self._commit(group)
        if group.error is not None:
            raise group.error

    def get(self, request_id: str) -> SlateRecord | None:
        with self._reading:
            found = self._records.execute("SELECT row FROM records WHERE request_id = ?", (request_id,)).fetchone()
        return None if found is None else _record(found[0])

    def trace(self, request_id: str) -> dict[str, Any] | None:
        """The full trace, where one was kept."""
        with self._reading:
            found = self._traces.execute("SELECT row FROM traces WHERE request_id = ?", (request_id,)).fetchone()
        return None if found is None else orjson.loads(zlib.decompress(found[0]))

    def of_user(self, user: int, *, since: int = 0, limit: int = 100) -> list[SlateRecord]:
        """The user's records from `since` (µs) on, newest first."""
        query = "SELECT row FROM records WHERE user = ? AND t >= ? ORDER BY t DESC, id DESC LIMIT ?"
        with self._reading:
            found = self._records.execute(query, (user, since, limit)).fetchall()
        return [_record(row) for (row,) in found]

    def records(self, *, since: int = 0, until: int | None = None) -> Iterator[SlateRecord]:
        """Records with `since` <= t < `until`, in the order written, a batch at a time."""
        last, bound = 0, 2**62 if until is None else until
        query = "SELECT id, row FROM records WHERE id > ? AND t >= ? AND t < ? ORDER BY id LIMIT ?"
        while True:
            with self._reading:
                batch = self._records.execute(query, (last, since, bound, _BATCH)).fetchall()
            if not batch:
                return
            last = batch[-1][0]
            yield from (_record(row) for _, row in batch)

    def scan(self, *, since: int = 0, until: int | None = None) -> pa.Table:
        """Every slot served in that time as one row: who, what, where, with which propensity; see `slots_table`."""
        return slots_table(self.records(since=since, until=until))

    def count(self) -> int:
        with self._reading:
            return int(self._records.execute("SELECT count(*) FROM records").fetchone()[0])

    def forget(self, users: Sequence[int]) -> int:
        """Removes all records and traces of those users; how many records went."""
        marks = [(user,) for user in users]
        with self._writing, self._write_records as records, self._write_traces as traces:
            traces.executemany("DELETE FROM traces WHERE user = ?", marks)
            return records.executemany("DELETE FROM records WHERE user = ?", marks).rowcount

    def close(self) -> None:
        with self._writing, self._reading:
            for connection in (self._write_records, self._write_traces, self._records, self._traces):
                connection.close()

    def _commit(self, group: _Group) -> None:
        # Traces first: a trace without its record is never found, a record that says `traced` must find its trace.
        try:
            if group.traces:
                with self._write_traces as traces:
                    traces.executemany("INSERT OR REPLACE INTO traces VALUES (?, ?, ?)", group.traces)
            with self._write_records as records:
                records.executemany(
                    "INSERT OR REPLACE INTO records (request_id, user, t, row) VALUES (?, ?, ?, ?)", group.records
                )
        except sqlite3.Error as error:
            group.error = error
        group.done = True


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(schema)
    return connection


def _lean(record: SlateRecord) -> dict[str, Any]:
    """Features as float32, which is what they are: their shortest text is half as long and as exact."""
    row = {name: getattr(record, name) for name in SlateRecord.__dataclass_fields__}
    row["features"] = np.asarray(record.features, np.float32).reshape(len(record.keys), len(record.feature_names))
    return row


def _record(row: bytes) -> SlateRecord:
    """JSON has no NaN: null stands for it in every list of numbers."""
    data = orjson.loads(row)
    for name in ("utility", "propensity"):
        data[name] = _numbers(data[name])
    data["predictions"] = {name: _numbers(p) for name, p in data["predictions"].items()}
    data["user_features"] = {k: float("nan") if v is None else v for k, v in data["user_features"].items()}
    rows = [[float("nan") if v is None else v for v in slot] for slot in data["features"]]
    data["features"] = np.asarray(rows, np.float32).reshape(len(rows), len(data["feature_names"])).tolist()
    return SlateRecord.from_dict(data)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if v is None else float(v) for v in values]


def _packed(trace: Mapping[str, Any]) -> bytes:
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return zlib.compress(orjson.dumps(trace, option=option, default=_plain), 1)


def _plain(value: Any) -> Any:
    """What orjson does not know: numpy arrays of odd layout and scalars."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a trace cannot hold {type(value).__name__}")

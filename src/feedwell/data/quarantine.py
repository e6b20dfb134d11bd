"""Quarantine: every refused row, with the reason, the file and the row, as JSON lines under `.feedwell/quarantine/`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import orjson

from feedwell.core.event import id_text
from feedwell.stores.durable import write_atomic

FORGOTTEN = "(forgotten)"
_BUFFER = 1 << 20


class Quarantine:
    """One load's file, made with its first row; `reasons` counts rows by their kind of reason."""

    def __init__(self, folder: Path, load_id: str) -> None:
        self.load_id = load_id
        self.path = folder / f"{load_id}.jsonl"
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def n(self) -> int:
        return self.reasons.total()

    def add(self, reason: str, *, file: str = "", row: int | None = None, data: object = None) -> None:
        """Keep one row; `row` counts data rows from 1."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Appending whole lines without a buffer of Python's: several processes may write one live file.
            self._file = self.path.open("ab", buffering=_BUFFER)
        kind = reason_kind(reason)
        self.reasons[kind] += 1
        place = f"{file} row {row}: {reason}" if file else reason
        self.examples.setdefault(kind, place)
        entry = {"load": self.load_id, "reason": _plain(reason), "file": file, "row": row}
        try:
            line = orjson.dumps(entry | {"data": _plain(data)}, default=repr)
        except (TypeError, RecursionError):
            line = orjson.dumps(entry | {"data": "not kept: it is nested too deeply to be written as JSON"})
        self._file.write(line + b"\n")

    def add_file(
        self, file: str, rows: list[tuple[int, str, object]], lines: Sequence[tuple[int, str, object]]
    ) -> None:
        """Keep a text file's bad rows, as (number among readable rows, reason, data), and its unreadable lines.
        Rows are then numbered among all."""
        shift, ahead = 0, sorted(lines, key=lambda line: line[0])
        for row, reason, data in rows:
            while shift < len(ahead) and ahead[shift][0] <= row + shift:
                shift += 1
            self.add(reason, file=file, row=row + shift, data=data)
        for row, reason, data in ahead:
            self.add(reason, file=file, row=row, data=data)

    def close(self) -> None:
        """The file is on the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def reason_kind(reason: str) -> str:
    """A reason without the cell that caused it: what a summary counts by."""
    head, _, _ = reason.partition(": ")
    if head.startswith("column "):
        return f"{head}: cannot be read as {reason.rsplit(' ', 1)[-1]}"
    return "ts is ahead of the clock" if head.startswith("ts is ") and "ahead" in head else head


def _plain(data: Any) -> Any:
    """What JSON can hold: bytes and broken Unicode as escaped text."""
    if isinstance(data, bytes):
        return data.decode("utf-8", "backslashreplace")
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {str(_plain(key)): _plain(cell) for key, cell in data.items()}
    return [_plain(cell) for cell in data] if isinstance(data, list | tuple) else data


def scrub(folder: Path, user_id: str) -> int:
    """Takes the data and the reason out of every row that names the user; how many rows. The count of rows stays.

    A row in columns names the user when a cell is the id; a line that was no row, when the id stands in it as a word.
    """
    word = re.compile(rf"(?<!\w){re.escape(_plain(user_id))}(?!\w)")
    n = 0
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_bytes().splitlines()
        kept = [_scrubbed(line, user_id, word) for line in lines]
        changed = sum(new is not old for new, old in zip(kept, lines, strict=True))
        if changed:
            write_atomic(path, b"".join(line + b"\n" for line in kept))
            n += changed
    return n


def _scrubbed(line: bytes, user_id: str, word: re.Pattern[str]) -> bytes:
    entry = orjson.loads(line)
    data = entry["data"]
    cells = [*data.values()] if isinstance(data, dict) else data if isinstance(data, list) else []
    named = any(id_text(cell) == user_id for cell in cells) or (isinstance(data, str) and word.search(data))
    if not named and not word.search(entry["reason"]):
        return line
    return orjson.dumps(entry | {"data": FORGOTTEN, "reason": reason_kind(entry["reason"])})

"""Which files of a folder are read as one table, and why others are not read at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feedwell.core.errors import DataError
from feedwell.data.gzipped import open_bytes
from feedwell.data.ingest_files import FORMATS, SourceFile, look_at, suffix_of

_MOST_COLUMNS = 500
_MOST_OF_ONE = 50
"""A file with more keys in its one and only object holds them as ids of something, in place of rows, unless another
file has the same."""
_MOST_FILES = 10_000
_DELIMITERS = ("\t", ",", "|", ";")


def group_files(wanted: Path) -> tuple[dict[tuple[Any, tuple[str, ...]], list[SourceFile]], list[str]]:
    """((form, header to be declared) → its files, what could not be read and why), of a folder or of a file's folder.

    DataError where a file that is named cannot be read.
    """
    folder = wanted if wanted.is_dir() else wanted.parent
    groups: dict[tuple[Any, tuple[str, ...]], list[SourceFile]] = {}
    told = list[str]()

    def leave_out(path: Path, error: Exception) -> None:
        if path == wanted:
            raise DataError(f"looking at {wanted}: {error}") from error
        told.append(f"{path.name}: {str(error).partition(';')[0]}")

    for one in _paths(wanted, folder):
        try:
            file, header = _look(one, folder)
        except (DataError, UnicodeDecodeError) as error:
            leave_out(one, error)
            continue
        form = (file.format, file.delimiter, file.columns, suffix_of(one), one.parent)
        groups.setdefault((form, header), []).append(file)
    for key, files in list(groups.items()):
        try:
            _require_table(files)
        except DataError as error:
            for file in groups.pop(key):
                leave_out(file.path, error)
    return groups, told


def _require_table(files: Sequence[SourceFile]) -> None:
    """DataError where files of one form have no columns, or so many that the names are data: an object of ids, a
    matrix."""
    file, n = files[0], len(files[0].columns)
    if not n and not file.path.stat().st_size:
        raise DataError("it is empty")
    if not n and file.format == "jsonl":
        raise DataError("its first lines are no JSON objects: expected one object a line, and no array around them")
    if not n:
        raise DataError("it has no columns")
    if n > _MOST_OF_ONE and len(files) == 1 and file.format == "jsonl" and len(_first_lines(file.path)) == 1:
        raise DataError(f"one JSON object of {n:,} keys, not rows; write one object a line, its key as its id")
    if n > _MOST_COLUMNS:
        raise DataError(
            f"{n:,} columns, more than the {_MOST_COLUMNS} that are looked at; leave out what says nothing of users and"
            " items, or write the project with `feedwell init` and name the columns under [data] columns"
        )


def _paths(wanted: Path, folder: Path) -> list[Path]:
    """What lies in a folder, at any depth, or beside a file; nothing hidden."""
    if not wanted.exists():
        raise DataError(f"looking at {wanted}: it is not there; --from expects a file of events, or a folder with one")
    found = sorted(p for p in (wanted.rglob("*") if wanted.is_dir() else folder.iterdir()) if p.is_file())
    paths = [p for p in found if p == wanted or not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    if len(paths) > _MOST_FILES:
        raise DataError(
            f"looking at {wanted}: {len(paths):,} files; expected at most {_MOST_FILES:,}: name a folder below"
        )
    return paths


def _look(path: Path, folder: Path) -> tuple[SourceFile, tuple[str, ...]]:
    """The file, and the column names to be declared where it has no header line."""
    if suffix_of(path) in FORMATS and FORMATS[suffix_of(path)] != "csv":
        return look_at(path, folder), ()
    lines = _first_lines(path)
    if not lines:
        raise DataError("it is empty")
    mark = _delimiter(lines)
    if mark is None:
        raise DataError("no text table with the same delimiter on each line, and no other format that we know")
    cells = next(csv.reader([lines[0]], delimiter=mark))
    header = tuple(f"column{i}" for i in range(1, len(cells) + 1)) if all(map(_is_datum, cells)) else ()
    return look_at(path, folder, delimiter=mark, header=header), header


def _first_lines(path: Path) -> list[str]:
    with open_bytes(path) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8-sig")
        lines = [line.rstrip("\r\n") for _, line in zip(range(50), file, strict=False)]
    return [line for line in lines if line]


def _delimiter(lines: Sequence[str]) -> str | None:
    """The mark that divides every line into the same number of cells, two or more."""
    for mark in _DELIMITERS:
        widths = {len(row) for row in csv.reader(lines, delimiter=mark)}
        if len(widths) == 1 and widths.pop() > 1:
            return mark
    return None


def _is_datum(cell: str) -> bool:
    """Whether the cell of a first line is no name: a number, a time, or nothing."""
    text = cell.strip()
    return not text or text[0].isdigit() or (text[0] in "+-." and text[1:2].isdigit())

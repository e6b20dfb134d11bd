"""What data files look like: which of them belong together, and for every column its kind, size and examples.

Whole files are read once, by DuckDB; nothing is loaded. `roles`, `behaviour` and `catalogs` judge what is told here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from feedwell.core.errors import DataError
from feedwell.data.contracts import ISO_TIME
from feedwell.data.gzipped import open_bytes
from feedwell.data.ingest_files import FORMATS, SourceFile, look_at, suffix_of, why_unreadable

Kind = Literal["int", "float", "bool", "time", "list", "text"]
FEW = 60
"""Columns with so many distinct values or fewer have all of them listed, with their counts."""
_DELIMITERS = ("\t", ",", "|", ";")
_MOST_FILES = 10_000
_AGREE = 0.98


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table. `n` cells are filled, with about `n_distinct` values; numbers have `low` and `high`.

    A kind is told by 98 % of the cells; `n_misfits` are not of it.

    `values` are all values with their counts, most frequent first, where there are few; `words` the mean number of
    words of a text, `decimals` the most that a number has; `n_times` and `n_numbers` cells can be read as such.
    """

    name: str
    kind: Kind
    n: int
    n_distinct: int
    n_misfits: int = 0
    low: float | None = None
    high: float | None = None
    decimals: int = 0
    words: float = 1.0
    n_times: int = 0
    n_numbers: int = 0
    values: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """Files of one form, read as one relation of SQL; `native` columns have a type of their own, others are text.

    `n_left_out` more files of the form lie beside the one that was named alone.
    """

    files: tuple[SourceFile, ...]
    header: tuple[str, ...]
    n_rows: int
    columns: Mapping[str, Column]
    relation: str
    native: bool
    n_left_out: int = 0

    @property
    def name(self) -> str:
        """The first file's name, and how many are like it."""
        more = len(self.files) - 1
        return self.files[0].path.name + (f" and {more} more" if more else "")

    @property
    def delimiter(self) -> str | None:
        """What has to be declared for the file to be read alike; None where its ending or first line says it."""
        first = self.files[0]
        return first.delimiter if first.format == "csv" else None

    def text(self, column: str) -> str:
        """The column as SQL text, blanks at its ends removed, NULL where empty."""
        cell = quoted_name(column)
        return f"nullif(trim(CAST({cell} AS VARCHAR)), '')"


def profile_folder(path: Path) -> tuple[list[Table], list[str]]:
    """(the tables of a file's folder or of a folder, what could not be read and why); DataError where none can.

    A file means that file alone: others of its form are counted and left out, the rest may be its catalogs.
    """
    if not path.exists():
        raise DataError(f"looking at {path}: it is not there; --from expects a file of events, or a folder with one")
    folder = path if path.is_dir() else path.parent
    found = sorted(p for p in (path.rglob("*") if path.is_dir() else folder.iterdir()) if p.is_file())
    paths = [p for p in found if p == path or not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    if len(paths) > _MOST_FILES:
        raise DataError(
            f"looking at {path}: {len(paths):,} files; expected at most {_MOST_FILES:,}: name a folder below"
        )
    groups, told = _groups(paths, path, folder)
    tables = []
    for (_, header), files in groups.items():
        named = [file for file in files if file.path == path]
        try:
            table = _profile(named or files, header)
        except duckdb.Error as error:
            why = why_unreadable(error)
            if named:
                raise DataError(f"looking at {path}: {why}") from error
            told.append(f"{files[0].name}: {why}")
            continue
        tables.append(replace(table, n_left_out=len(files) - len(table.files)))
    if not tables:
        raise DataError(f"looking at {path}: no file that can be read; expected {' '.join(FORMATS)}. {'; '.join(told)}")
    return tables, told


def _groups(
    paths: Sequence[Path], wanted: Path, folder: Path
) -> tuple[dict[tuple[Any, tuple[str, ...]], list[SourceFile]], list[str]]:
    """((form, header to be declared) → its files, what could not be read and why); `wanted` must be readable."""
    groups: dict[tuple[Any, tuple[str, ...]], list[SourceFile]] = {}
    told = []
    for one in paths:
        try:
            file, header = _look(one, folder)
            if not file.columns:
                raise DataError(_without_columns(file))
        except (DataError, UnicodeDecodeError) as error:
            if one == wanted:
                raise DataError(f"looking at {wanted}: {error}") from error
            told.append(f"{one.name}: {str(error).partition(';')[0]}")
            continue
        form = (file.format, file.delimiter, file.columns, suffix_of(one), one.parent)
        groups.setdefault((form, header), []).append(file)
    return groups, told


def _without_columns(file: SourceFile) -> str:
    if not file.path.stat().st_size:
        return "it is empty"
    if file.format == "jsonl":
        return "its first lines are no JSON objects: expected one object a line, and no array around them"
    return "it has no columns"


def quoted_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quoted_text(text: str | Path) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def number(cell: str) -> str:
    """A text as SQL number; NULL where it is none or not finite."""
    return f"CASE WHEN isfinite(TRY_CAST({cell} AS DOUBLE)) THEN TRY_CAST({cell} AS DOUBLE) END"


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


def _profile(files: list[SourceFile], header: tuple[str, ...]) -> Table:
    first = files[0]
    table = Table(
        files=tuple(files),
        header=header,
        n_rows=0,
        columns={},
        relation=_relation(files),
        native=first.format == "parquet",
    )
    types = _native_kinds(first.path) if table.native else {}
    with duckdb.connect() as db:
        cells = ", ".join(_statistics(table.text(name)) for name in first.columns)
        row = db.execute(f"SELECT count(*), {cells} FROM {table.relation}").fetchone()
        assert row is not None
        told = {name: row[1 + 10 * i : 11 + 10 * i] for i, name in enumerate(first.columns)}
        columns = {name: _column(name, types.get(name), told[name]) for name in first.columns}
        for name, column in columns.items():
            if column.n_distinct <= FEW and column.kind != "list":
                values = _values(db, table, name)
                columns[name] = replace(column, values=values, n_distinct=len(values))
    return replace(table, n_rows=int(row[0]), columns=columns)


def _statistics(cell: str) -> str:
    """Ten aggregates of a column; their order is `_column`'s."""
    value = number(cell)
    return ", ".join(
        [
            f"count({cell})",
            f"approx_count_distinct({cell})",
            f"count({value})",
            f"min({value})",
            f"max({value})",
            f"max(length(regexp_extract({cell}, '^-?[0-9]+[.]([0-9]*[1-9])0*$', 1)))",
            f"count(*) FILTER (regexp_matches({cell}, {quoted_text(ISO_TIME)}))",
            f"count(*) FILTER (lower({cell}) IN ('true', 'false', 'yes', 'no', 't', 'f'))",
            f"count(*) FILTER (starts_with({cell}, '['))",
            f"avg(len(string_split_regex({cell}, '[\\s]+')))",
        ]
    )


def _column(name: str, native: Kind | None, told: Sequence[Any]) -> Column:
    n, distinct, numbers, low, high, decimals, times, booleans, lists, words = told
    kind: Kind = native or "text"
    misfits = 0
    if native is None and n:
        fits: dict[Kind, int] = {"time": times, "bool": booleans, "list": lists, "int": numbers}
        kind = next((one for one, n_fit in fits.items() if n_fit / n >= _AGREE), "text")
        misfits = n - fits.get(kind, n)
        if kind == "int" and decimals:
            kind = "float"
    is_number = kind in ("int", "float")
    return Column(
        name=name,
        kind=kind,
        n=n,
        n_distinct=min(distinct, n),
        n_misfits=misfits,
        low=low if is_number else None,
        high=high if is_number else None,
        decimals=decimals or 0,
        words=words or 0.0,
        n_times=times,
        n_numbers=numbers,
    )


def _values(db: duckdb.DuckDBPyConnection, table: Table, name: str) -> tuple[tuple[str, int], ...]:
    cell = table.text(name)
    query = f"SELECT {cell}, count(*) FROM {table.relation} WHERE {cell} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    return tuple(db.execute(query).fetchall())


def _relation(files: Sequence[SourceFile]) -> str:
    """The files as a table of SQL; csv and jsonl cells are text, as `ingest` reads them."""
    first = files[0]
    paths = ", ".join(quoted_text(file.path) for file in files)
    if first.format == "parquet":
        return f"read_parquet([{paths}])"
    columns = ", ".join(f"{quoted_text(name)}: 'VARCHAR'" for name in first.columns)
    if first.format == "jsonl":
        return f"read_json([{paths}], format = 'newline_delimited', ignore_errors = true, columns = {{{columns}}})"
    return (
        f"read_csv([{paths}], auto_detect = false, header = false, skip = {first.skip}, quote = '\"', escape = '\"',"
        f" delim = {quoted_text(first.delimiter)}, nullstr = '', columns = {{{columns}}}, ignore_errors = true,"
        " null_padding = false, max_line_size = 8388608)"
    )


def _native_kinds(path: Path) -> dict[str, Kind]:
    with pq.ParquetFile(path) as file:
        return dict(_kinds(file.schema_arrow))


def _kinds(schema: pa.Schema) -> Iterator[tuple[str, Kind]]:
    tests: list[tuple[Kind, Any]] = [
        ("bool", pa.types.is_boolean),
        ("time", pa.types.is_temporal),
        ("list", pa.types.is_nested),
        ("int", pa.types.is_integer),
        ("float", lambda t: pa.types.is_floating(t) or pa.types.is_decimal(t)),
    ]
    for field in schema:
        kind: Kind | None = next((kind for kind, test in tests if test(field.type)), None)
        if kind is not None:
            yield field.name, kind

"""What data files look like: which of them belong together, and for every column its kind, size and examples.

Whole files are read by DuckDB; nothing is loaded. `roles`, `behaviour` and `catalogs` judge what is told here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from feedwell.core.errors import DataError
from feedwell.data.contracts import ISO_TIME
from feedwell.data.file_groups import group_files
from feedwell.data.ingest_files import FORMATS, SourceFile, why_unreadable

Kind = Literal["int", "float", "bool", "time", "list", "text"]
FEW = 60
"""Columns with so many distinct values or fewer have all of them listed, with their counts."""
_SLICE = 24
"""Columns that one query is asked of: planning it takes more than the square of their number, 0.3 s for 96 in slices
and 3 s at once (2026-11); each query reads the files once."""
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
    groups, told = group_files(path)
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


def quoted_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quoted_text(text: str | Path) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def number(cell: str) -> str:
    """A text as SQL number; NULL where it is none or not finite."""
    return f"CASE WHEN isfinite(TRY_CAST({cell} AS DOUBLE)) THEN TRY_CAST({cell} AS DOUBLE) END"


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
    columns: dict[str, Column] = {}
    with duckdb.connect() as db:
        for i in range(0, len(first.columns), _SLICE):
            some = first.columns[i : i + _SLICE]
            n_rows, told = _statistics(db, table, some)
            read = {name: _column(name, types.get(name), told[name]) for name in some}
            few = [name for name, c in read.items() if c.n_distinct <= FEW and c.kind != "list"]
            for name, values in _values(db, table, few).items():
                read[name] = replace(read[name], values=values, n_distinct=len(values))
            columns |= read
    return replace(table, n_rows=n_rows, columns=columns)


def _statistics(
    db: duckdb.DuckDBPyConnection, table: Table, names: Sequence[str]
) -> tuple[int, dict[str, tuple[Any, ...]]]:
    """(rows, column → its aggregates in `_aggregates`' order), read in one pass."""
    cells = ", ".join(f"{table.text(name)} AS c{i}" for i, name in enumerate(names))
    numbers = ", ".join(f"c{i}, {number(f'c{i}')} AS n{i}" for i in range(len(names)))
    asked = [_aggregates(f"c{i}", f"n{i}") for i in range(len(names))]
    width, told = len(asked[0]), ", ".join(itertools.chain.from_iterable(asked))
    row = db.execute(f"SELECT count(*), {told} FROM (SELECT {numbers} FROM (SELECT {cells} FROM {table.relation}))")
    n_rows, *found = row.fetchone() or ()
    return int(n_rows), {name: tuple(found[width * i : width * (i + 1)]) for i, name in enumerate(names)}


def _aggregates(cell: str, value: str) -> list[str]:
    """What is asked of a column, its cells as text and as numbers; their order is `_column`'s."""
    return [
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


def _values(
    db: duckdb.DuckDBPyConnection, table: Table, names: Sequence[str]
) -> dict[str, tuple[tuple[str, int], ...]]:
    """Column → its values with their counts, most frequent first, read in one pass."""
    if not names:
        return {}
    asked = ", ".join(f"histogram({table.text(name)})" for name in names)
    found = db.execute(f"SELECT {asked} FROM {table.relation}").fetchone() or ()
    ranked = (tuple(sorted((n or {}).items(), key=lambda pair: (-pair[1], pair[0]))) for n in found)
    return dict(zip(names, ranked, strict=True))


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

"""Event and catalog files as raw Arrow batches in file order: csv, tsv, jsonl, parquet; folders and globs.

A file that cannot be read at all is a DataError before anything is loaded; a line that cannot be read is told apart.
"""

from __future__ import annotations

import codecs
import csv
import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import duckdb
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedwell.core.errors import DataError
from feedwell.data.contracts import read_id
from feedwell.data.gzipped import open_bytes, require_whole

Format = Literal["csv", "jsonl", "parquet"]
ROWS = 250_000
_BLOCK = 16 << 20
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".inter": "csv",
    ".data": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_TABBED = frozenset({".tsv", ".inter"})
_SNIFFED_LINES = 1000
_ODD_ID = r"^(true|false|-?[0-9]{14,}\.0|[0-9]{20,}|-[0-9]{19,}|-?[0-9.]+e\+?[0-9]+)$"
"""The texts that a boolean, or a number too large to be exact, leaves of a JSON cell; strings may look like them."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file, looked at but not yet read. `columns` are theirs; `skip` header lines come first."""

    path: Path
    name: str
    format: Format
    columns: tuple[str, ...]
    delimiter: str = ","
    skip: int = 0


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line that is not even a row."""

    row: int
    reason: str
    data: str | bytes


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of a file; `rows` their numbers, counted from 1, when they are not consecutive from `first_row`."""

    table: pa.Table
    first_row: int
    bad: tuple[BadLine, ...] = ()
    rows: Sequence[int] | None = None

    def row(self, index: int) -> int:
        return self.first_row + index if self.rows is None else self.rows[index]


def match_files(folder: Path, patterns: str | Sequence[str], what: str) -> tuple[list[Path], list[str]]:
    """(the files that paths, folders and globs name, in order, each once; what to say of each that names none).

    What is there under a pattern's own name is taken as a path: `ev [1].csv` is that file, not `ev 1.csv`.
    """
    found, missing = dict[Path, None](), list[str]()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        place = folder / pattern
        if place.is_dir():
            paths = sorted(p for p in place.rglob("*") if p.is_file() and suffix_of(p) in FORMATS)
        elif place.is_file():
            paths = [place]
        else:
            where = Path(glob.escape(str(folder))) / pattern
            paths = sorted(Path(p) for p in glob.glob(str(where), recursive=True) if Path(p).is_file())
        if not paths:
            missing.append(f"{what} names '{pattern}', and no file is at {place}: correct the path in feedwell.toml")
        found.update(dict.fromkeys(paths))
    return list(found), missing


def look_at(path: Path, folder: Path, *, delimiter: str | None = None, header: Sequence[str] = ()) -> SourceFile:
    """What a file is and which columns it has; DataError when it cannot be read."""
    suffix = suffix_of(path)
    kind = FORMATS.get(suffix, "csv" if delimiter else None)
    name = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    if kind is None:
        raise DataError(f"{path}: '{suffix}' is no format we know ({' '.join(FORMATS)}); for text set [data] delimiter")
    try:
        if kind == "parquet":
            return SourceFile(path=path, name=name, format=kind, columns=_parquet_columns(path))
        if path.suffix == ".gz":
            require_whole(path)
        if kind == "jsonl":
            return SourceFile(path=path, name=name, format=kind, columns=_json_columns(path))
        mark = delimiter or ("\t" if suffix in _TABBED else _sniff(path))
        columns = tuple(header) or _header_line(path, mark)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return SourceFile(path=path, name=name, format="csv", columns=columns, delimiter=mark, skip=0 if header else 1)


def read_batches(
    file: SourceFile, columns: Sequence[str] | None = None, ids: Mapping[str, str] | None = None
) -> Iterator[Batch]:
    """The file's rows in order, the named columns only (default: all); csv and jsonl cells are text.

    `ids`: our name → theirs of columns whose JSON cells must be ids: what cannot be one is a bad line.
    """
    wanted = list(dict.fromkeys(file.columns if columns is None else columns))
    if file.format == "parquet":
        return _read_parquet(file, wanted)
    return _read_json(file, wanted, ids or {}) if file.format == "jsonl" else _read_csv(file, wanted)


def read_objects(file: SourceFile) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    """(row number, the row as an object or why it is none), for catalogs."""
    if file.format == "jsonl":
        yield from _json_objects(file)
        return
    for batch in read_batches(file):
        for line in batch.bad:
            yield line.row, line
        for i, row in enumerate(batch.table.to_pylist()):
            yield batch.row(i), row


def _parquet_columns(path: Path) -> tuple[str, ...]:
    try:
        with pq.ParquetFile(path) as file:
            return tuple(file.schema_arrow.names)
    except pa.ArrowInvalid as error:
        size = path.stat().st_size
        raise DataError(
            f"{path} ({size} bytes) is not a whole Parquet file, probably cut off: {error}; copy it again"
        ) from error


def _read_parquet(file: SourceFile, columns: list[str]) -> Iterator[Batch]:
    done = 0
    try:
        with pq.ParquetFile(file.path) as parquet:
            for batch in parquet.iter_batches(ROWS, columns=columns):
                yield Batch(table=_plain(pa.Table.from_batches([batch])), first_row=done + 1)
                done += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file.path} is damaged after row {done}: {error}; copy it again") from error


def _plain(table: pa.Table) -> pa.Table:
    """With plain strings for string views, which few kernels take, and whole µs for ns, which no Python time has."""
    return table.cast(pa.schema([f.with_type(_plain_type(f.type)) for f in table.schema]), safe=False)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(_plain_type(f.type)) for f in kind])
    return kind


def why_unreadable(error: Exception) -> str:
    """DuckDB's reason in a line; where it names its parser's state, what brought it there and what to do."""
    if "state machine" in str(error):
        return "it is no csv, as where some lines end in \\r\\n and others in \\n; write it with one ending of lines"
    return str(error).partition("\n")[0]


def _read_csv(file: SourceFile, columns: list[str]) -> Iterator[Batch]:
    try:
        yield from _csv_batches(file, columns)
    except (duckdb.Error, pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file.path} cannot be read: {why_unreadable(error)}") from error


def _csv_batches(file: SourceFile, columns: list[str]) -> Iterator[Batch]:
    if not file.columns:
        return
    types = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in file.columns)
    with duckdb.connect() as db:
        reader = db.execute(
            f"SELECT {', '.join(_quoted(name) for name in columns)} FROM read_csv({_text(str(file.path))},"
            f" auto_detect = false, header = false, skip = {file.skip}, delim = {_text(file.delimiter)}, quote = '\"',"
            f" escape = '\"', nullstr = '', columns = {{{types}}}, ignore_errors = true, store_rejects = true,"
            " rejects_limit = 0, max_line_size = 8388608)"
        ).to_arrow_reader(ROWS)
        held = 0
        for batch in reader:
            yield Batch(table=pa.Table.from_batches([batch]), first_row=held + 1)
            held += batch.num_rows
        errors = db.execute(
            "SELECT line, min(error_message), min(csv_line::BLOB) FROM reject_errors GROUP BY line ORDER BY line"
        ).fetchall()
    bad = [
        BadLine(row=line - file.skip, reason=f"not a row of {len(file.columns)} columns: {told}", data=content)
        for line, told, content in ((line, text.partition("\n")[0], content) for line, text, content in errors)
    ]
    if bad:
        empty = pa.table({name: pa.array([], pa.string()) for name in columns})
        yield Batch(table=empty, first_row=held + 1, bad=tuple(bad))


def _read_json(file: SourceFile, columns: list[str], ids: Mapping[str, str]) -> Iterator[Batch]:
    paths = ", ".join(_text(f'$."{name}"') for name in columns)
    with duckdb.connect() as db:
        for first, lines in _line_blocks(file.path):
            texts, bad = _decode(first, lines)
            db.register("lines", pa.table({"row": list(texts), "line": pa.array(texts.values(), pa.string())}))
            found = db.execute(
                "WITH told AS (SELECT row, line, json_valid(line) AND"
                " json_type(CASE WHEN json_valid(line) THEN line END) = 'OBJECT' AS good FROM lines)"
                " SELECT row, good, line, CASE WHEN good THEN"
                f" json_extract_string(line, [{paths}]) END AS cells FROM told ORDER BY row"
            ).to_arrow_table()
            db.unregister("lines")
            good = found["good"]
            wrong = found.filter(pc.invert(good))
            bad += [
                BadLine(row=row, reason="not a JSON object", data=line)
                for row, line in zip(wrong["row"].to_pylist(), wrong["line"].to_pylist(), strict=True)
            ]
            kept = found.filter(good)
            cells = kept["cells"].combine_chunks()
            arrays = [pc.list_element(cells, i) for i in range(len(columns))] if len(cells) else []
            written = dict(zip(columns, arrays, strict=True))
            arrays = [_whole_numbers(db, kept["line"], *pair) for pair in zip(columns, arrays, strict=True)]
            arrays = arrays or [pa.array([], pa.string()) for _ in columns]
            table = pa.table(dict(zip(columns, arrays, strict=True)))
            if odd := _odd_ids(kept, written, ids):
                bad += odd.values()
                good = pa.array([i not in odd for i in range(len(kept))])
                kept, table = kept.filter(good), table.filter(good)
            rows = kept["row"].to_pylist() if len(bad) or len(kept) != len(lines) else None
            yield Batch(table=table, first_row=first, bad=tuple(bad), rows=rows)


def _odd_ids(kept: pa.Table, cells: Mapping[str, pa.Array], ids: Mapping[str, str]) -> dict[int, BadLine]:
    """Place → why that line is bad. Only what looks odd as text is read once more, as JSON bodies are by HTTP."""
    found: dict[int, BadLine] = {}
    for ours, theirs in ids.items():
        if theirs not in cells:
            continue
        odd = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(cells[theirs], _ODD_ID), False))
        for i in odd.to_pylist():
            line = kept["line"][i].as_py()
            try:
                read_id(ours, orjson.loads(line).get(theirs))
            except ValueError as error:
                found.setdefault(i, BadLine(row=kept["row"][i].as_py(), reason=str(error), data=line))
    return found


def _whole_numbers(db: duckdb.DuckDBPyConnection, lines: pa.ChunkedArray, column: str, cells: pa.Array) -> pa.Array:
    """The cells with numbers like 12.0 as 12, as JSON bodies have them by HTTP; texts stay as they are."""
    if not pc.any(pc.ends_with(cells, ".0")).as_py():
        return cells
    db.register("cells", pa.table({"line": lines, "cell": cells, "place": pa.array(range(len(cells)))}))
    path = _text(f'$."{column}"')
    found = db.execute(
        f"SELECT CASE WHEN ends_with(cell, '.0') AND json_type(line, {path}) = 'DOUBLE'"
        " THEN CASE cell WHEN '-0.0' THEN '0' ELSE left(cell, -2) END ELSE cell END AS cell FROM cells ORDER BY place"
    ).to_arrow_table()
    db.unregister("cells")
    return found["cell"].combine_chunks()


def _json_objects(file: SourceFile) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    for first, lines in _line_blocks(file.path):
        for row, line in enumerate(lines, first):
            if not line.strip():
                continue
            try:
                found = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield row, BadLine(row=row, reason=f"not a JSON object: {error}", data=line)
                continue
            if isinstance(found, dict):
                yield row, found
            else:
                yield row, BadLine(row=row, reason="not a JSON object", data=line)


def _decode(first: int, lines: list[bytes]) -> tuple[dict[int, str], list[BadLine]]:
    texts, bad = dict[int, str](), []
    for row, line in enumerate(lines, first):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            bad.append(BadLine(row=row, reason=f"not UTF-8: {error.reason}", data=line))
            continue
        if text and not text.isspace():
            texts[row] = text
    return texts, bad


def _line_blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first line, lines), a block at a time."""
    first = 1
    with open_bytes(path) as file:
        while lines := file.readlines(_BLOCK):
            if first == 1:
                lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
            yield first, lines
            first += len(lines)


def _json_columns(path: Path) -> tuple[str, ...]:
    names: dict[str, None] = {}
    with open_bytes(path) as file:
        for _, line in zip(range(_SNIFFED_LINES), file, strict=False):
            try:
                found = orjson.loads(line.removeprefix(codecs.BOM_UTF8))
            except orjson.JSONDecodeError:
                continue
            if isinstance(found, dict):
                names.update(dict.fromkeys(found))
    return tuple(names)


def _header_line(path: Path, delimiter: str) -> tuple[str, ...]:
    with open_bytes(path) as file:
        lines = [file.readline().decode("utf-8-sig", "replace").rstrip("\r\n") for _ in range(2)]
    reader = csv.reader(lines, delimiter=delimiter)
    names = next(reader, [])
    if reader.line_num > 1:
        raise DataError(
            f"{path}: a name in the header has a line break in its quotes ({lines[0]!r:.60} goes on in the next line);"
            " write the header on one line"
        )
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(f"{path}: the header names {doubled} more than once; give the columns distinct names")
    return tuple(name or f"column{i}" for i, name in enumerate(names))


def _sniff(path: Path) -> str:
    """The likeliest delimiter of the first line; a comma when nothing speaks for another."""
    with open_bytes(path) as file:
        line = file.readline().decode("utf-8", "replace")
    return max([",", "\t", ";", "|"], key=line.count)


def suffix_of(path: PurePath) -> str:
    """The ending that tells the format: of `a.csv.gz` it is `.csv`."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"

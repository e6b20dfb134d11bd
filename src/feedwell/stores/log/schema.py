"""The columns of the log, in Arrow and in SQLite, and of the raw tables that come in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedwell.core import columns as c
from feedwell.core.event import NO_KEY

FILE = "_file"
"""In raw tables: the number of the file that the row came from; twins in one file both stay."""

_HEAD = (
    (c.OFFSET, pa.int64(), False),
    (c.EVENT_ID, pa.binary(16), False),
    (c.TS, pa.int64(), False),
    (c.AVAILABLE_AT, pa.int64(), False),
    (c.TYPE, pa.string(), False),
)
_TAIL = (
    (c.SESSION, pa.string(), True),
    (c.DEVICE, pa.string(), True),
    (c.REQUEST_ID, pa.string(), True),
    (c.SLOT, pa.int32(), True),
    (c.VALUE, pa.float64(), True),
    (c.VALUE_SCALED, pa.int64(), True),
    (c.UNIT, pa.string(), True),
    (c.SURFACE, pa.string(), True),
    (c.PAYLOAD, pa.string(), True),
    (c.ORIGIN, pa.string(), False),
    (c.SCHEMA_VERSION, pa.int16(), False),
)
RESERVED = frozenset(name for name, _, _ in (*_HEAD, *_TAIL))
RAW_TEXT = (c.SESSION, c.DEVICE, c.REQUEST_ID, c.UNIT, c.SURFACE, c.PAYLOAD)


def event_schema(entities: Sequence[str]) -> pa.Schema:
    """The log's columns: one int64 key column per entity (-1: the event names none), nowhere a null key."""
    keys = [(name, pa.int64(), False) for name in entities]
    return pa.schema([pa.field(n, t, nullable=null) for n, t, null in (*_HEAD, *keys, *_TAIL)])


def raw_schema(entities: Sequence[str]) -> pa.Schema:
    """The columns of a raw table for `load_history`: outside ids as text (null: none), times in µs."""
    text = [(name, pa.string()) for name in (*entities, *RAW_TEXT)]
    return pa.schema(
        [
            (c.TYPE, pa.string()),
            (c.TS, pa.int64()),
            (c.AVAILABLE_AT, pa.int64()),
            (c.EVENT_ID, pa.string()),
            (c.SLOT, pa.int32()),
            (c.VALUE, pa.float64()),
            *text,
            (FILE, pa.int32()),
        ]
    )


def rows_to_table(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """Rows of SQLite, in the schema's column order, as an Arrow table."""
    if not rows:
        return schema.empty_table()
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(col, field.type) for col, field in zip(columns, schema, strict=True)], schema=schema)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the schema's columns; an entity declared after the file was written is -1 throughout."""
    if table.schema.equals(schema):
        return table
    missing = pa.array(np.full(table.num_rows, NO_KEY, np.int64))
    present = set(table.column_names)
    return pa.table([table[f.name].cast(f.type) if f.name in present else missing for f in schema], schema=schema)


def without_users(table: pa.Table, forgotten: Iterable[int]) -> pa.Table:
    """The rows of users that are not forgotten."""
    users = np.fromiter(forgotten, np.int64)
    if not len(users) or not table.num_rows:
        return table
    gone = np.isin(table[c.USER].to_numpy(), users)
    return table.filter(pc.invert(pa.array(gone))) if gone.any() else table


def id_words(ids: pa.ChunkedArray | pa.Array) -> NDArray[np.uint64]:
    """`words_N2` of binary(16) event ids: two little-endian halves, the form of the de-duplication files."""
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    parts = [np.frombuffer(a.buffers()[1], "<u8")[2 * a.offset : 2 * (a.offset + len(a))] for a in chunks if len(a)]
    return np.concatenate(parts).reshape(-1, 2) if parts else np.empty((0, 2), np.uint64)


def words_to_ids(words_N2: NDArray[np.uint64]) -> pa.Array:
    """binary(16) event ids of their two halves."""
    buffer = pa.py_buffer(np.ascontiguousarray(words_N2, "<u8"))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(words_N2), [None, buffer])

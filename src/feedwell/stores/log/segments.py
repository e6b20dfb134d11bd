"""Sealed segments: immutable Parquet files in offset order, cut at UTC days of `available_at` once large enough."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedwell.core import columns as c
from feedwell.core.clock import DAY
from feedwell.core.event import CATALOG_PREFIX
from feedwell.stores.durable import sync_file
from feedwell.stores.log.manifest import ManifestFile, Segment
from feedwell.stores.log.schema import conform

MIN_ROWS = 250_000
"""A day with fewer events shares its file with the next: a year of a small log is a few files."""
MAX_ROWS = 1_000_000
_ROW_GROUP = 131_072
_PLAIN = frozenset({c.OFFSET, c.EVENT_ID, c.TS, c.AVAILABLE_AT})


class SegmentWriter:
    """Takes rows in offset order, writes files, tells their entries; nothing is visible until a manifest lists them."""

    def __init__(self, folder: Path, schema: pa.Schema, *, history: bool, tag: str) -> None:
        self._folder, self._schema, self._history, self._tag = folder, schema, history, tag
        self._dictionary = [name for name in schema.names if name not in _PLAIN]
        self._held: list[pa.Table] = []
        self._rows = 0
        self.segments: list[Segment] = []

    def add(self, table: pa.Table) -> None:
        """Rows that follow all earlier ones; `available_at` must not fall within a call."""
        day_E = table[c.AVAILABLE_AT].to_numpy() // DAY
        edges = [0, *(np.flatnonzero(day_E[1:] != day_E[:-1]) + 1), len(day_E)]
        for start, end in pairwise(edges):
            self._add_day(table.slice(start, end - start), closed=end < len(day_E))

    def cut(self) -> None:
        """What follows goes into another file."""
        if self._rows:
            self.segments.append(self._write(pa.concat_tables(self._held)))
        self._held, self._rows = [], 0

    def _add_day(self, part: pa.Table, *, closed: bool) -> None:
        while self._rows + part.num_rows > MAX_ROWS:
            room = MAX_ROWS - self._rows
            self._hold(part.slice(0, room))
            self.cut()
            part = part.slice(room)
        self._hold(part)
        if closed and self._rows >= MIN_ROWS:
            self.cut()

    def _hold(self, part: pa.Table) -> None:
        if part.num_rows:
            self._held.append(part)
            self._rows += part.num_rows

    def _write(self, table: pa.Table) -> Segment:
        first, last = table[c.OFFSET][0].as_py(), table[c.OFFSET][-1].as_py()
        name = f"{first:016d}-{last:016d}-{self._tag}.parquet"
        beside = self._folder / f".{name}.tmp"
        pq.write_table(
            table,
            beside,
            row_group_size=_ROW_GROUP,
            compression="zstd",
            compression_level=1,
            use_dictionary=self._dictionary,
            write_statistics=[c.OFFSET, c.AVAILABLE_AT, c.TS, c.TYPE],
        )
        sync_file(beside)
        os.replace(beside, self._folder / name)
        low_high = pc.min_max(table[c.AVAILABLE_AT]).as_py()
        return Segment(
            file=name,
            rows=table.num_rows,
            first_offset=first,
            last_offset=last,
            min_at=low_high["min"],
            max_at=low_high["max"],
            history=self._history,
            catalogs=_catalogs(table),
        )


def read_after(path: Path, after_offset: int, schema: pa.Schema, limit: int) -> pa.Table:
    """The first `limit` rows of a segment with larger offsets, reading only the row groups that hold them."""
    parts, rows = [], 0
    with pq.ParquetFile(path) as file:
        place = file.schema_arrow.names.index(c.OFFSET)
        for group in range(file.num_row_groups):
            if file.metadata.row_group(group).column(place).statistics.max <= after_offset:
                continue
            table = conform(file.read_row_group(group), schema)
            if table[c.OFFSET][0].as_py() <= after_offset:
                table = table.filter(pc.greater(table[c.OFFSET], after_offset))
            parts.append(table)
            rows += table.num_rows
            if rows >= limit:
                break
    return pa.concat_tables(parts).slice(0, limit) if parts else schema.empty_table()


def iterate(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """A segment's row groups in turn."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield conform(file.read_row_group(group), schema)


def rows_without(folder: Path, entities: Sequence[str]) -> dict[str, int]:
    """entity → rows of segments that were written before it was declared, under a project's `.feedwell`; only what is
    absent somewhere is named. Reads each segment's footer."""
    log = folder / "log"
    found: dict[str, int] = {}
    for segment in ManifestFile(log / "segments.json").current().segments:
        present = set(pq.read_schema(log / "segments" / segment.file).names)
        for entity in entities:
            if entity not in present:
                found[entity] = found.get(entity, 0) + segment.rows
    return found


def _catalogs(table: pa.Table) -> tuple[str, ...]:
    types = pc.unique(table[c.TYPE]).to_pylist()
    return tuple(sorted(t[len(CATALOG_PREFIX) :] for t in types if t.startswith(CATALOG_PREFIX)))

"""The whole log in the order of everything, `(available_at, offset)`: runs that are in order, merged as they stream.

What is loaded later has larger offsets, and may well have been available earlier: a new item of an undated catalog,
yesterday's file. The live tail needs no merge, since its times grow with its offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feedwell.core import columns as c
from feedwell.stores.log.manifest import Segment
from feedwell.stores.log.schema import conform

_ROWS = 16_384
Read = Callable[[int, int], pa.Table]


def runs_of(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The segments as few lists as a first fit finds, each in order from its beginning to its end."""
    runs: list[list[Segment]] = []
    for segment in segments:
        fitting = (run for run in runs if run[-1].max_at <= segment.min_at)
        if (run := next(fitting, None)) is None:
            runs.append([segment])
        else:
            run.append(segment)
    return runs


def stored_run(folder: Path, run: Sequence[Segment], schema: pa.Schema) -> Iterator[pa.Table]:
    """A run's rows, a few at a time; one file is open at once."""
    for segment in run:
        with pq.ParquetFile(folder / segment.file) as file:
            for batch in file.iter_batches(_ROWS):
                yield conform(pa.Table.from_batches([batch]), schema)


def live_run(read: Read, after: int, end: int) -> Iterator[pa.Table]:
    """Rows with offsets above `after` up to and with `end`, as `read(after, limit)` gives them."""
    while after < end and (table := read(after, _ROWS)).num_rows:
        after = table[c.OFFSET][-1].as_py()
        yield table


def merged(runs: Sequence[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """All rows of runs that are in order, in order. It holds one table of each run."""
    held = [run for run in map(_Run, runs) if run.more()]
    while held:
        # Up to here all rows are at hand: the run whose table ends first has none between.
        end = min(run.last for run in held)
        parts = [run.take(end) for run in held]
        table = pa.concat_tables(parts)
        yield table.sort_by([(c.AVAILABLE_AT, "ascending"), (c.OFFSET, "ascending")]) if len(parts) > 1 else table
        held = [run for run in held if run.more()]


class _Run:
    """What is left of one run."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._table: pa.Table | None = None
        self.last = (-1, -1)

    def more(self) -> bool:
        """Whether rows are left: the next table is read when the one at hand is used up."""
        while self._table is None or not self._table.num_rows:
            self._table = next(self._tables, None)
            if self._table is None:
                return False
            if self._table.num_rows:
                self.last = self._table[c.AVAILABLE_AT][-1].as_py(), self._table[c.OFFSET][-1].as_py()
        return True

    def take(self, end: tuple[int, int]) -> pa.Table:
        """The rows up to and with that place, which are then gone."""
        assert self._table is not None
        at, offset = self._table[c.AVAILABLE_AT].to_numpy(), self._table[c.OFFSET].to_numpy()
        same, beyond = np.searchsorted(at, end[0], "left"), np.searchsorted(at, end[0], "right")
        n = int(same + np.searchsorted(offset[same:beyond], end[1], "right"))
        taken, self._table = self._table.slice(0, n), self._table.slice(n)
        return taken

"""Columns: training data as memory-mapped arrays, and batches gathered from them without Python per row.

    N rows, B rows of a batch, R lists, L positions of a list

Whole columns gathered per batch gave 7M rows/s here, a loader that asks row by row .11M.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feedwell.core.errors import CorruptArtifact, DataError

Batch = Mapping[str, Tensor]
PADDING = -1
MAPPED_ROWS = 1_000_000
"""From so many rows on training data lies in files: below, they fit beside all else that a fit holds in memory."""
_INDEX = "columns.json"


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Ragged lists as CSR: list r is `values[indptr_R[r] : indptr_R[r + 1]]`; row n reads list `of_N[n]` (None: n).

    A batch has the last `length` values of each as they came, oldest first, then `padding` up to `length`.
    """

    indptr_R: Tensor
    values: Tensor
    length: int
    of_N: Tensor | None = None
    padding: float = PADDING

    def __len__(self) -> int:
        return len(self.indptr_R) - 1 if self.of_N is None else len(self.of_N)

    def take(self, rows_B: Tensor) -> Tensor:
        """[B, length] of those rows."""
        list_B = rows_B if self.of_N is None else self.of_N[rows_B]
        stop_B = self.indptr_R[list_B + 1]
        start_B = torch.maximum(self.indptr_R[list_B], stop_B - self.length)
        place_BL = start_B[:, None] + torch.arange(self.length)
        inside_BL = place_BL < stop_B[:, None]
        if not len(self.values):
            return torch.full(place_BL.shape, self.padding, dtype=self.values.dtype)
        return self.values[torch.where(inside_BL, place_BL, 0)].masked_fill_(~inside_BL, self.padding)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A column of which several rows read one entry: row n reads `values_R[of_N[n]]`, such as a request's features."""

    values_R: Tensor
    of_N: Tensor

    def __len__(self) -> int:
        return len(self.of_N)

    def take(self, rows_B: Tensor) -> Tensor:
        return self.values_R[self.of_N[rows_B]]


Column = Tensor | Lists | Shared


class Columns(Mapping[str, Column]):
    """Named columns of equal length N. `take(rows_B)` is a batch: name → tensor [B, ...]."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) != 1:
            raise DataError(f"training columns: expected one or more of equal length, got {sizes or 'none'}")
        self._columns = dict(columns)
        self.n_rows = next(iter(sizes.values()))

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Any:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def take(self, rows_B: Tensor) -> dict[str, Tensor]:
        return {
            name: column[rows_B] if isinstance(column, Tensor) else column.take(rows_B)
            for name, column in self._columns.items()
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that the columns hold."""
        return {
            f"{name}.{key}": value.numpy()
            for name, column in self._columns.items()
            for key, value in _parts(column).items()
            if isinstance(value, Tensor)
        }

    def rows(self, rows_M: NDArray[Any]) -> Columns:
        """Only those rows, in that order; nothing is copied, so what is mapped stays mapped."""
        rows = torch.from_numpy(np.ascontiguousarray(rows_M))
        rows = torch.nonzero(rows).squeeze(1) if rows.dtype == torch.bool else rows
        return Columns({name: _rows(column, rows) for name, column in self._columns.items()})

    @staticmethod
    def open(folder: Path) -> Columns:
        """The columns that `write` left, mapped: what no batch touches is never read."""
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            return Columns({name: _opened(folder, entry) for name, entry in index.items()})
        except (OSError, ValueError, KeyError) as error:
            raise CorruptArtifact(f"opening training columns in {folder}: {error}; write them again") from error


def gathered(columns: Iterable[tuple[str, Column]], n_rows: int, folder: Path | None) -> Columns:
    """The columns in memory; of `MAPPED_ROWS` rows and more, mapped from files, where there is a folder for them.

    One column is made and written after the other, so memory holds one at a time. The files have no name any more when
    this returns: whatever becomes of the process, nothing stays behind.
    """
    if folder is None or n_rows < MAPPED_ROWS:
        return Columns(dict(columns))
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix="columns-") as made:
        write(columns, Path(made))
        return Columns.open(Path(made))


def write(columns: Iterable[tuple[str, Column]], folder: Path) -> None:
    """One `.npy` per array and an index, so that `Columns.open` maps them."""
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {}
    for i, (name, column) in enumerate(columns):
        index[name] = {"kind": type(column).__name__, "options": {}, "arrays": {}}
        for key, value in _parts(column).items():
            if isinstance(value, Tensor):
                index[name]["arrays"][key] = f"{i}{key}.npy"
                np.save(folder / f"{i}{key}.npy", value.numpy(), allow_pickle=False)
            else:
                index[name]["options"][key] = value
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def _parts(column: Column) -> dict[str, Any]:
    return {"": column} if isinstance(column, Tensor) else dict(vars(column))


def _opened(folder: Path, entry: Mapping[str, Any]) -> Column:
    arrays: dict[str, Any] = {}
    for key, file in entry["arrays"].items():
        # Copy on write: torch wants writable memory, and the file stays as it is.
        arrays[key] = torch.from_numpy(np.load(folder / file, mmap_mode="c", allow_pickle=False))
    if entry["kind"] == "Lists":
        return Lists(**arrays, **entry["options"])
    return Shared(**arrays) if entry["kind"] == "Shared" else cast(Tensor, arrays[""])


def _rows(column: Column, rows_M: Tensor) -> Column:
    if isinstance(column, Tensor):
        return Shared(values_R=column, of_N=rows_M)
    of_M = rows_M if column.of_N is None else column.of_N[rows_M]
    if isinstance(column, Shared):
        return Shared(values_R=column.values_R, of_N=of_M)
    return Lists(
        indptr_R=column.indptr_R, values=column.values, length=column.length, of_N=of_M, padding=column.padding
    )

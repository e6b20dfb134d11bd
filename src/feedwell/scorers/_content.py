"""What items say, as vectors beside a ranker's other inputs: those of its artifact, and of rows that came after it.

M items, N candidates, S dimensions of the embedder
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from feedwell.core.catalog import CatalogAsOf, CatalogTable
from feedwell.core.embedding import Embedder
from feedwell.core.keys import rows_of
from feedwell.core.request import NO_KEYS, Keys
from feedwell.scorers._rows import Matrix


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """`keys_M` ascending with the vectors of what they say, float16: half the memory, and training sees the same.

    `at_M`: when each one's row became available.
    """

    keys_M: Keys = field(default_factory=lambda: NO_KEYS)
    at_M: Keys = field(default_factory=lambda: NO_KEYS)
    vectors_MS: NDArray[np.float16] = field(default_factory=lambda: np.empty((0, 0), np.float16))

    @staticmethod
    def of(rows: CatalogTable, embedder: Embedder) -> Vectors:
        return Vectors(keys_M=rows.keys_M, at_M=rows.at_M, vectors_MS=embedder(rows.text_M).astype(np.float16))

    def since(self, keys_N: Keys) -> Keys:
        """`at_M` of these keys; -1 where one is not here."""
        return np.append(self.at_M, -1)[rows_of(self.keys_M, keys_N)]

    def grown(self, newer: Vectors) -> Vectors:
        """With the newer ones, which take the place of those with the same keys."""
        keep = ~np.isin(self.keys_M, newer.keys_M)
        keys_M, at_M = (
            np.concatenate([old[keep], new]) for old, new in ((self.keys_M, newer.keys_M), (self.at_M, newer.at_M))
        )
        order = np.argsort(keys_M)
        old_MS = self.vectors_MS[keep].reshape(-1, newer.vectors_MS.shape[1])
        vectors_MS = np.concatenate([old_MS, newer.vectors_MS])[order]
        return Vectors(keys_M=keys_M[order], at_M=at_M[order], vectors_MS=vectors_MS)


@dataclass(frozen=True, kw_only=True)
class Content:
    """The vectors of an artifact, with the catalog's rows up to `offset` of the log; -1: all of an earlier time."""

    dim: int
    vectors: Vectors = field(default_factory=Vectors)
    offset: int = -1

    @staticmethod
    def fit(items: CatalogAsOf, embedder: Embedder) -> Content:
        return Content(dim=embedder.dim, vectors=Vectors.of(items.table, embedder), offset=items.offset)

    @property
    def width(self) -> int:
        """Inputs of the network: the vector, and whether there is none."""
        return self.dim + 1

    def grown(self, rows: CatalogTable, delta: Vectors | None, embedder: Embedder) -> Vectors | None:
        """See core.catalog.FollowsCatalog. Of each item the row that became available last counts."""
        # Of rows of one time the later one in the log counts; an artifact of an earlier time has the last of each.
        rows = rows.take(rows.at_M >= self.vectors.since(rows.keys_M) + (self.offset < 0))
        if delta is not None:
            rows = rows.take(rows.at_M >= delta.since(rows.keys_M))
        if not len(rows):
            return delta
        newer = Vectors.of(rows, embedder)
        return newer if delta is None else delta.grown(newer)

    def read(self, keys_N: Keys, delta: Vectors | None = None) -> Matrix:
        """float32 [N, S + 1]: each item's vector by its newest row; zeros and a 1 for one that says nothing."""
        out_NS = np.zeros((len(keys_N), self.width), np.float32)
        known: Sequence[Vectors] = (self.vectors,) if delta is None else (self.vectors, delta)
        for vectors in known:
            row_N = rows_of(vectors.keys_M, keys_N)
            there = np.flatnonzero(row_N >= 0)
            out_NS[there, : self.dim] = vectors.vectors_MS[row_N[there]]
        out_NS[:, self.dim] = ~out_NS.any(axis=1)
        return out_NS

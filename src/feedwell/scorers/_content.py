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
    """`keys_M` ascending with the vectors of what they say, float16: half the memory, and training sees the same."""

    keys_M: Keys = field(default_factory=lambda: NO_KEYS)
    vectors_MS: NDArray[np.float16] = field(default_factory=lambda: np.empty((0, 0), np.float16))

    @staticmethod
    def of(rows: CatalogTable, embedder: Embedder) -> Vectors:
        return Vectors(keys_M=rows.keys_M, vectors_MS=embedder(rows.text_M).astype(np.float16))

    def grown(self, newer: Vectors) -> Vectors:
        """With the newer ones, which take the place of those with the same keys."""
        keep = ~np.isin(self.keys_M, newer.keys_M)
        keys_M = np.concatenate([self.keys_M[keep], newer.keys_M])
        order = np.argsort(keys_M)
        old_MS = self.vectors_MS[keep].reshape(-1, newer.vectors_MS.shape[1])
        return Vectors(keys_M=keys_M[order], vectors_MS=np.concatenate([old_MS, newer.vectors_MS])[order])


@dataclass(frozen=True, kw_only=True)
class Content:
    """The vectors of an artifact, which has the catalog's rows that were available before `until`."""

    dim: int
    vectors: Vectors = field(default_factory=Vectors)
    until: int = 0
    offset: int = -1

    @staticmethod
    def fit(items: CatalogAsOf, embedder: Embedder) -> Content:
        return Content(
            dim=embedder.dim, vectors=Vectors.of(items.table, embedder), until=items.until, offset=items.offset
        )

    @property
    def width(self) -> int:
        """Inputs of the network: the vector, and whether there is none."""
        return self.dim + 1

    def news(self, rows: CatalogTable) -> CatalogTable:
        """Those rows that the artifact does not have."""
        return rows.take((rows_of(self.vectors.keys_M, rows.keys_M) < 0) | (rows.at_M >= self.until))

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

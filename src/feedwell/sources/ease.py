"""What a linear model predicts from everything the user has: EASEᴿ, a closed form over all pairs of items.

    U users, I items

Steck (2019), "Embarrassingly Shallow Autoencoders for Sparse Data": B minimises ‖X - XB‖² + λ‖B‖² with a diagonal of 0.
With P = (XᵀX + λI)⁻¹: B_ij = -P_ij / P_jj (its equation 8).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from feedwell.core.errors import DataError
from feedwell.core.protocols import Examples, Interactions, fit
from feedwell.core.registry import source
from feedwell.sources._item_item import Incidence, ItemItemConfig, ItemItemSource, ItemWeights, strongest

Matrix = NDArray[np.float32]
_ROWS = 256
"""Rows of the I × I matrix that are unpacked at a time: 37 MB each way at 36,000 items."""


@source("ease")
class Ease(ItemItemSource):
    """At most `k` items, those with the greatest Σ B_ij over the items i of the user's history, of sums above 0 only.

    Fitting holds one I × I matrix of 4-byte numbers, overwritten at each step: 4 I² bytes (5.1 GB at 35,648 items) and
    I³ multiplications. Of each row the `neighbours` weights of greatest magnitude are kept.
    """

    examples: ClassVar[Examples] = (
        {"regularization": 10.0},
        {"neighbours": 3, "history": 2, "max_items": 20, "threads": 2},
    )

    class Config(ItemItemConfig):
        regularization: float = fit(200.0, gt=0)
        """λ: more where users have more items."""
        neighbours: int = fit(200, ge=1)
        """At most so many weights are kept of an item, the greatest in magnitude: the whole matrix fits no artifact."""
        max_items: int = fit(40_000, ge=1, le=46_000)
        """Only so many items, those with the most users, are modelled: memory and time grow with square and cube."""
        threads: int = fit(1, ge=1, le=1024)

    config: Config
    file = "ease.safetensors"

    def fit(self, data: Interactions) -> None:
        found = Incidence.of(data.of(self._events), self.config.user_items, self.config.max_items)
        with threadpool_limits(limits=self.config.threads, user_api="blas"):
            inverse_II = self._inverse(found.has_UI)
        self._weights = ItemWeights.of(found.keys_I, list(pruned(inverse_II, self.config.neighbours)))

    def _inverse(self, has_UI: csr_array) -> Matrix:
        """P in its lower triangle, in the one matrix that is ever made; the upper one holds left-overs."""
        matrix_II = _gram(has_UI)
        if not len(matrix_II):
            return matrix_II
        np.einsum("ii->i", matrix_II)[:] += self.config.regularization
        matrix_II, failed = lapack.spotrf(matrix_II, lower=1, clean=0, overwrite_a=1)
        if not failed:
            matrix_II, failed = lapack.spotri(matrix_II, lower=1, overwrite_c=1)
        if failed:
            raise DataError(
                f"fitting source '{self._setting.name}': the matrix of {len(matrix_II)} items cannot be inverted in"
                f" single precision with regularization = {self.config.regularization}: raise it"
            )
        return np.asarray(matrix_II, np.float32)


def pruned(inverse_II: Matrix, neighbours: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """(columns, weights) of each row of B, from P in a lower triangle: the `neighbours` of greatest magnitude."""
    diagonal_I = np.diag(inverse_II)
    for start in range(0, len(inverse_II), _ROWS):
        end = min(start + _ROWS, len(inverse_II))
        square = np.tril(inverse_II[start:end, start:end])
        square = square + np.tril(square, -1).T
        block = np.concatenate([inverse_II[start:end, :start], square, inverse_II[end:, start:end].T], axis=1)
        block /= -diagonal_I
        block[np.arange(end - start), np.arange(start, end)] = 0.0
        for row in block:
            kept = strongest(np.abs(row), neighbours)
            yield kept.astype(np.int32), row[kept]


def _gram(has_UI: csr_array) -> Matrix:
    """XᵀX as a matrix of LAPACK's own order, so that it is overwritten and never copied."""
    n_items = has_UI.shape[1]
    gram_II: Matrix = np.empty((n_items, n_items), np.float32, order="F")
    has_IU = has_UI.T.tocsr()
    for start in range(0, n_items, _ROWS):
        # A block of rows of a symmetric matrix, written as columns: those lie together.
        gram_II[:, start : start + _ROWS] = (has_IU[start : start + _ROWS] @ has_UI).toarray().T
    return gram_II

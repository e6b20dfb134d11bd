"""What goes with what the user has: item-item neighbours by the users that two items share.

    U users, I items

w_ij = c_ij / (n_i^α n_j^β + shrinkage), with c_ij = Σ_u x_ui x_uj |u|^-γ over the users of both and n_i the users of i.
α = β = ½, γ = 0 is the cosine (Sarwar, Karypis, Konstan and Riedl 2001; the shrinkage of Bell and Koren 2007); α = 1
the probability of j given i, discounted by j's popularity with β (Deshpande and Karypis 2004); with γ = 1 as well the
random walk of RP3β (Paudel, Christoffel, Newell and Bernstein 2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from feedwell.core.protocols import Examples, Interactions, fit
from feedwell.core.registry import source
from feedwell.sources._item_item import Incidence, ItemItemConfig, ItemItemSource, ItemWeights, strongest

_BLOCK_ENTRIES = 4_000_000
"""Pairs counted at a time: about 100 MB, whatever the number of items."""


@source("item_knn")
class ItemKnn(ItemItemSource):
    """At most `k` items, those with the greatest Σ w_ij over the items i of the user's history, of sums above 0 only.

    Fitting costs the sum over users of the square of their items, in blocks of rows; it keeps I × `neighbours` weights.
    """

    examples: ClassVar[Examples] = (
        {},
        {"neighbours": 3, "history": 2, "shrinkage": 0.0, "history_exponent": 1.0, "user_exponent": 1.0},
    )

    class Config(ItemItemConfig):
        neighbours: int = fit(200, ge=1)
        """At most so many items are kept beside each, the nearest: the memory is bounded by items × this."""
        shrinkage: float = fit(10.0, ge=0)
        """Added to the denominator: pairs with few users in common weigh less."""
        history_exponent: float = fit(0.5, ge=0, le=2)
        """α: how much the popularity of the item in the history is divided out."""
        popularity_exponent: float = fit(0.5, ge=0, le=2)
        """β: how much the popularity of the recommended item is; 0 favours the popular, 1 the rare."""
        user_exponent: float = fit(0.5, ge=0, le=2)
        """γ: how much less those count who have many items."""

    config: Config
    file = "item_knn.safetensors"

    def fit(self, data: Interactions) -> None:
        found = Incidence.of(data.of(self._events), self.config.user_items)
        parts: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
        for counted in _shared_users(found.has_UI, self.config.user_exponent):
            parts += self._nearest(counted, len(parts), found.has_UI)
        self._weights = ItemWeights.of(found.keys_I, parts)

    def _nearest(
        self, counted: csr_array, first: int, has_UI: csr_array
    ) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """(neighbours, weights) of each row of a block of c_ij that begins at row `first`."""
        c = self.config
        n_I = np.bincount(has_UI.indices, minlength=has_UI.shape[1]).astype(np.float64)
        from_i, to_j = n_I**c.history_exponent, n_I**c.popularity_exponent
        rows = []
        for i in range(counted.shape[0]):
            at = slice(counted.indptr[i], counted.indptr[i + 1])
            item_M = counted.indices[at]
            weight_M = (counted.data[at] / (from_i[first + i] * to_j[item_M] + c.shrinkage)).astype(np.float32)
            weight_M[item_M == first + i] = 0.0
            kept = strongest(weight_M, c.neighbours)
            rows.append((item_M[kept], weight_M[kept]))
        return rows


def _shared_users(has_UI: csr_array, user_exponent: float) -> Iterator[csr_array]:
    """Successive blocks of rows of C = XᵀDX, D = |u|^-γ, with sorted columns; each holds about `_BLOCK_ENTRIES`."""
    size_U = np.diff(has_UI.indptr)
    weighted_IU = (diags_array(np.maximum(size_U, 1) ** -user_exponent) @ has_UI).T.tocsr()
    n_items = has_UI.shape[1]
    # A row holds at most as many entries as its users have items together, and never more than there are items.
    pairs_I = np.minimum(has_UI.T @ size_U.astype(np.float64), n_items)
    block_I = (np.cumsum(pairs_I) // _BLOCK_ENTRIES).astype(np.int64)
    edges_K = np.flatnonzero(np.diff(block_I, prepend=-1, append=-1)) if n_items else np.empty(0, np.intp)
    for start, end in pairwise(edges_K):
        counted = (weighted_IU[start:end] @ has_UI).tocsr()
        counted.sort_indices()
        yield counted

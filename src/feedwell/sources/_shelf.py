"""What two_tower serves: vectors of the items of its artifact, and of those that came or changed since.

I items, M new ones, D embedding
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedwell.core.keys import rows_of
from feedwell.core.request import Keys
from feedwell.sources._towers import Ints, Matrix, Towers

_CHUNK = 65_536


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Items with what the towers say of them: `vectors_MD` to be found by, `history_MD` and `importance_M` in a
    history. `keys_M` ascending; `at_M` when each one's catalog row became available, -1: it has none."""

    keys_M: Keys
    at_M: Keys
    vectors_MD: Matrix
    history_MD: Matrix
    importance_M: Matrix

    def since(self, keys_N: Keys) -> Keys:
        """`at_M` of these keys; -1 where one is not here."""
        return np.append(self.at_M, -1)[rows_of(self.keys_M, keys_N)]

    def without(self, keys: Keys) -> Shelf:
        keep = ~np.isin(self.keys_M, keys)
        return Shelf(
            keys_M=self.keys_M[keep],
            at_M=self.at_M[keep],
            vectors_MD=self.vectors_MD[keep],
            history_MD=self.history_MD[keep],
            importance_M=self.importance_M[keep],
        )

    def with_rows(self, other: Shelf) -> Shelf:
        keys_M = np.concatenate([self.keys_M, other.keys_M])
        order = np.argsort(keys_M)
        return Shelf(
            keys_M=keys_M[order],
            at_M=np.concatenate([self.at_M, other.at_M])[order],
            vectors_MD=np.concatenate([self.vectors_MD, other.vectors_MD])[order],
            history_MD=np.concatenate([self.history_MD, other.history_MD])[order],
            importance_M=np.concatenate([self.importance_M, other.importance_M])[order],
        )


@dataclass(frozen=True, kw_only=True)
class Delta:
    """Items that are new, or whose rows changed, since the artifact; `replaced` are the latter's rows in it."""

    shelf: Shelf
    replaced: NDArray[np.intp]


def shelf_of(towers: Towers, keys_M: Keys, at_M: Keys, id_M: Ints, static_MS: Matrix, category_MC: Ints) -> Shelf:
    """What the towers say of these items, a chunk at a time."""
    dim = towers.weights["id.weight"].shape[1]
    vectors_MD, history_MD = np.empty((len(keys_M), dim), np.float32), np.empty((len(keys_M), dim), np.float32)
    for at in range(0, len(keys_M), _CHUNK):
        to = slice(at, at + _CHUNK)
        vectors_MD[to], history_MD[to] = towers.item(id_M[to], static_MS[to], category_MC[to])
    importance_M = towers.importance(id_M)
    return Shelf(keys_M=keys_M, at_M=at_M, vectors_MD=vectors_MD, history_MD=history_MD, importance_M=importance_M)

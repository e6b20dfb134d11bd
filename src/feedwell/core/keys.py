"""Keys as sorted columns: membership, row numbers and unions without an object per key."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feedwell.core.request import NO_KEYS, Keys, Request


def contains(sorted_M: Keys, keys_N: Keys) -> NDArray[np.bool_]:
    """Whether each of `keys_N` is in `sorted_M`.

    >>> contains(np.array([2, 5]), np.array([5, 7, 2])).tolist()
    [True, False, True]
    """
    return rows_of(sorted_M, keys_N) >= 0


def rows_of(sorted_M: Keys, keys_N: Keys) -> NDArray[np.intp]:
    """The row of each key in `sorted_M` (distinct, ascending); -1 = unknown."""
    if not len(sorted_M) or not len(keys_N):
        return np.full(len(keys_N), -1, np.intp)
    row_N = np.minimum(np.searchsorted(sorted_M, keys_N), len(sorted_M) - 1)
    return np.where(sorted_M[row_N] == keys_N, row_N, -1)


def union(*parts: Keys) -> Keys:
    """All keys of the parts: distinct, ascending."""
    filled = [part for part in parts if len(part)]
    return np.unique(np.concatenate(filled)) if filled else NO_KEYS


def avoided(request: Request) -> Keys:
    """What no source need spend its k on, sorted: the caller's exclusions, what filters will drop, what was shown."""
    return union(request.exclude, request.skip, request.prefix)

"""Coverage: for each feature, how much of it there is, of the training rows and of what serving read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Of `n` rows, how many values are there at all and how many are not 0; adds up over batches and machines."""

    n: int = 0
    n_known: int = 0
    n_nonzero: int = 0

    @property
    def known(self) -> float:
        """Share of rows that are not NaN; NaN of no rows."""
        return self.n_known / self.n if self.n else float("nan")

    @property
    def nonzero(self) -> float:
        """Share of rows that are neither NaN nor 0; NaN of no rows."""
        return self.n_nonzero / self.n if self.n else float("nan")

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(
            n=self.n + other.n,
            n_known=self.n_known + other.n_known,
            n_nonzero=self.n_nonzero + other.n_nonzero,
        )


def coverage(names: Sequence[str], values_NF: NDArray[np.floating[Any]]) -> dict[str, Coverage]:
    """Each feature's coverage over N rows.

    >>> coverage(["a"], np.array([[1.0], [0.0], [np.nan], [2.0]]))["a"].nonzero
    0.5
    """
    known_F = np.count_nonzero(~np.isnan(values_NF), axis=0)
    nonzero_F = np.count_nonzero(np.nan_to_num(values_NF) != 0, axis=0)
    return {
        name: Coverage(n=len(values_NF), n_known=int(known_F[i]), n_nonzero=int(nonzero_F[i]))
        for i, name in enumerate(names)
    }


def sparse(found: dict[str, Coverage], least: float, allowed: Sequence[str] = ()) -> list[str]:
    """The features whose share of non-null or of non-zero values is below `least`, but for those that may be."""
    short = [name for name, share in found.items() if share.n and min(share.known, share.nonzero) < least]
    return [name for name in short if name not in allowed]

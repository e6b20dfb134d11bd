"""What metrics of predictions share: some are means over rows, some over groups of rows, and one interval is by user.

N rows, G groups, M metrics
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.request import Keys
from feedwell.metrics._ratios import Ratios


@dataclass(frozen=True, kw_only=True)
class Known:
    """The rows whose label and prediction are both known; `weight_N`: how many rows a sampled one stands for."""

    unit_N: Keys
    group_N: Keys
    y_N: Float
    predicted_N: Float
    weight_N: Float

    @staticmethod
    def of(unit_N: Keys, group_N: Keys, y_N: Float, predicted_N: Float, weight_N: Float | None) -> Known:
        known_N = ~np.isnan(y_N) & ~np.isnan(predicted_N)
        weight_N = np.ones(len(y_N)) if weight_N is None else weight_N
        return Known(
            unit_N=unit_N[known_N],
            group_N=group_N[known_N],
            y_N=y_N[known_N],
            predicted_N=predicted_N[known_N],
            weight_N=weight_N[known_N],
        )

    def ratios(
        self,
        names: Sequence[str],
        by_row: Sequence[Float],
        by_group: tuple[Keys, Float, Float],
        *,
        bootstrap: int,
        seed: int,
    ) -> Ratios:
        """One column per metric over rows, then the one over groups: (a row of each group, its value, its weight)."""
        first_G, value_G, weight_G = by_group
        n, g, m = len(self.y_N), len(value_G), len(by_row)
        value_RM, weight_RM = np.full((n + g, m + 1), np.nan), np.ones((n + g, m + 1))
        value_RM[:n, :m], weight_RM[:n, :m] = np.stack(by_row, axis=1), self.weight_N[:, None]
        value_RM[n:, m], weight_RM[n:, m] = value_G, weight_G
        unit_R = np.concatenate([self.unit_N, self.unit_N[first_G]])
        return Ratios.of(names, unit_R, value_RM, weight_RM=weight_RM, bootstrap=bootstrap, seed=seed)


def numbered(group_N: Keys) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """(a row of each group, every row's group counted from 0)."""
    _, first_G, at_N = np.unique(group_N, return_index=True, return_inverse=True)
    return first_G.astype(np.int64), at_N.reshape(-1)


def ranks_within(group_N: NDArray[np.intp], x_N: Float) -> Float:
    """Each row's rank within its group by x, from 0, ties averaged; groups counted from 0 without a gap."""
    if not len(x_N):
        return np.empty(0)
    order = np.lexsort((x_N, group_N))
    g, x = group_N[order], x_N[order]
    new_group = np.concatenate([[True], g[1:] != g[:-1]])
    tie = np.cumsum(new_group | np.concatenate([[True], x[1:] != x[:-1]])) - 1
    place = np.arange(len(g)) - np.flatnonzero(new_group)[np.cumsum(new_group) - 1]
    rank_N: Float = np.empty(len(g))
    rank_N[order] = (np.bincount(tie, weights=place) / np.bincount(tie))[tie]
    return rank_N

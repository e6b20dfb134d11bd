"""How good predicted amounts are: counts, durations, sums of money; what log loss and AUC are for outcomes yes or no.

All are means over rows or users, so they merge as Ratios; the root of the mean squared error is taken at the end.

N rows, G groups
"""

from __future__ import annotations

import numpy as np

from feedwell.core.candidates import Float
from feedwell.core.protocols import PartConfig
from feedwell.core.registry import metric
from feedwell.core.request import Keys
from feedwell.metrics._grouped import Known, numbered, ranks_within
from feedwell.metrics._ratios import Interval, Ratios

NAMES = ("poisson_deviance", "squared_error", "absolute_error", "rank_correlation")
_LEAST = 1e-9


@metric("quantity")
class Quantity:
    """(user, group, y, predicted) → Ratios named poisson_deviance (NaN below 0), squared_error, absolute_error (means
    over rows) and rank_correlation (Spearman's within groups whose y varies, each weighing its rows)."""

    class Config(PartConfig):
        pass

    names = NAMES

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(
        self,
        unit_N: Keys,
        group_N: Keys,
        y_N: Float,
        predicted_N: Float,
        *,
        weight_N: Float | None = None,
        bootstrap: int = 1000,
        seed: int = 0,
    ) -> Ratios:
        """`weight_N` weighs rows in the means over rows: how many rows a sampled one stands for."""
        rows = Known.of(unit_N, group_N, y_N, predicted_N, weight_N)
        y_N, m_N = rows.y_N, rows.predicted_N
        by_row = (deviances(y_N, m_N), (y_N - m_N) ** 2, np.abs(y_N - m_N))
        by_group = rank_correlations(rows.group_N, y_N, m_N)
        return rows.ratios(NAMES, by_row, by_group, bootstrap=bootstrap, seed=seed)


def root(mean: Interval) -> Interval:
    """The square root of a mean and of its bounds: RMSE from squared_error."""
    value, low, high = np.sqrt([mean.value, mean.low, mean.high]).tolist()
    return Interval(value=value, low=low, high=high, n_units=mean.n_units)


def deviances(y_N: Float, m_N: Float) -> Float:
    """Poisson's unit deviance 2 [y ln(y / m) - (y - m)], m at least 1e-9; NaN where y is below 0."""
    m_N = np.maximum(m_N, _LEAST)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_term = np.where(y_N > 0, y_N * np.log(y_N / m_N), 0.0)
    found: Float = np.where(y_N < 0, np.nan, 2 * (log_term - (y_N - m_N)))
    return found


def rank_correlations(group_N: Keys, y_N: Float, m_N: Float) -> tuple[Keys, Float, Float]:
    """(a row of each group, Spearman's correlation, its rows) of the groups whose y varies; 0 where m does not."""
    if not len(group_N):
        return np.empty(0, np.int64), np.empty(0), np.empty(0)
    first_G, at_N = numbered(group_N)
    n_G = np.bincount(at_N).astype(np.float64)
    a_N, b_N = (ranks_within(at_N, x_N) - ((n_G - 1) / 2)[at_N] for x_N in (y_N, m_N))
    saa_G, sbb_G, sab_G = (np.bincount(at_N, weights=w) for w in (a_N * a_N, b_N * b_N, a_N * b_N))
    varied_G = saa_G > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        rho_G = np.where(sbb_G > 0, sab_G / np.sqrt(saa_G * sbb_G), 0.0)
    return first_G[varied_G], rho_G[varied_G], n_G[varied_G]

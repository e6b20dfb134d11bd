"""How good predictions are: log loss, AUC (exact), grouped AUC, reliability with its expected calibration error.

Log loss and grouped AUC are means over rows and users, so they merge as Ratios. AUC is exact offline; where parts must
merge, `Histogram` adds up and gives it within a bin's width.

N rows, G groups, B bins
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feedwell.core.candidates import Float
from feedwell.core.protocols import PartConfig, serve
from feedwell.core.registry import metric
from feedwell.core.request import Keys
from feedwell.metrics._grouped import Known, numbered, ranks_within
from feedwell.metrics._ratios import Interval, Ratios, interval_of, poisson_weights

NAMES = ("log_loss", "grouped_auc")
_EPSILON = 1e-7
_BINS, _OUTCOMES_A_BIN = (4, 20), 20


@metric("calibration")
class Calibration:
    """(user, group, y, p) → Ratios named log_loss (mean over rows) and grouped_auc (mean over groups that hold both a
    positive and a negative, each weighing its number of positives)."""

    class Config(PartConfig):
        bins: int = serve(20, ge=2)

    names = NAMES

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(
        self,
        unit_N: Keys,
        group_N: Keys,
        y_N: Float,
        p_N: Float,
        *,
        weight_N: Float | None = None,
        bootstrap: int = 1000,
        seed: int = 0,
    ) -> Ratios:
        """`weight_N` weighs rows in the log loss: how many rows a sampled one stands for."""
        rows = Known.of(unit_N, group_N, y_N, p_N, weight_N)
        y_N, p_N = rows.y_N, rows.predicted_N
        by_row, by_group = (log_losses(y_N, p_N),), grouped_auc(rows.group_N, y_N, p_N)
        return rows.ratios(NAMES, by_row, by_group, bootstrap=bootstrap, seed=seed)

    def histogram(self, y_N: Float, p_N: Float, weight_N: Float | None = None) -> Histogram:
        """The mergeable form, for ECE and a merged AUC."""
        return Histogram.of(y_N, p_N, self.config.bins, weight_N)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Per bin of equal width over [0, 1]: rows, positives and the sum of p."""

    n_B: Float
    y_B: Float
    p_B: Float

    @staticmethod
    def of(y_N: Float, p_N: Float, bins: int, weight_N: Float | None = None) -> Histogram:
        known = ~np.isnan(y_N) & ~np.isnan(p_N)
        w_N = np.ones(int(known.sum())) if weight_N is None else weight_N[known]
        y_N, p_N = y_N[known], p_N[known]
        at = np.clip((p_N * bins).astype(np.int64), 0, bins - 1)
        return Histogram(
            n_B=np.bincount(at, weights=w_N, minlength=bins).astype(np.float64),
            y_B=np.bincount(at, weights=w_N * y_N, minlength=bins).astype(np.float64),
            p_B=np.bincount(at, weights=w_N * p_N, minlength=bins).astype(np.float64),
        )

    def merge(self, other: Histogram) -> Histogram:
        return Histogram(n_B=self.n_B + other.n_B, y_B=self.y_B + other.y_B, p_B=self.p_B + other.p_B)

    @property
    def ece(self) -> float:
        """Expected calibration error: mean over rows of |share positive - mean p| of their bin; NaN without rows."""
        total = float(self.n_B.sum())
        return float(np.abs(self.y_B - self.p_B).sum() / total) if total else float("nan")

    @property
    def auc(self) -> float:
        """AUC with rows of one bin counted as ties; NaN without both classes."""
        negatives_B = self.n_B - self.y_B
        below_B = np.cumsum(negatives_B) - negatives_B
        pairs = float(self.y_B.sum() * negatives_B.sum())
        return float((self.y_B * (below_B + negatives_B / 2)).sum() / pairs) if pairs else float("nan")


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """What was predicted beside what came of it, in bins of equal weight, lowest first: weight, mean p and mean y of
    each. Equal mass: with rare outcomes nearly all rows would share the first bin of equal width."""

    n_B: Float
    p_B: Float
    y_B: Float

    @staticmethod
    def of(y_N: Float, p_N: Float, weight_N: Float | None = None, *, bins: int | None = None) -> Reliability:
        """`bins` None: 20, or as few as 4 where outcomes are too few for 20 in each: a bin's rate must be more than
        noise. Equal predictions stay in one bin; rows with a NaN are left out."""
        weight_N = np.ones(len(y_N)) if weight_N is None else weight_N
        known = ~np.isnan(y_N) & ~np.isnan(p_N) & (weight_N > 0)
        y, p, w = y_N[known], p_N[known], weight_N[known]
        if bins is None:
            bins = min(_BINS[1], max(_BINS[0], int(np.count_nonzero(y)) // _OUTCOMES_A_BIN))
        tie_p, tie = np.unique(p, return_inverse=True)
        w_U = np.bincount(tie, weights=w, minlength=len(tie_p))
        middle_U = np.cumsum(w_U) - w_U / 2
        at_U = np.minimum((middle_U / max(float(w.sum()), 1e-300) * bins).astype(np.int64), bins - 1)
        used, at = np.unique(at_U[tie], return_inverse=True)
        n_B = np.bincount(at, weights=w, minlength=len(used)).astype(np.float64)
        p_B, y_B = (np.bincount(at, weights=w * v, minlength=len(used)) / n_B for v in (p, y))
        return Reliability(n_B=n_B, p_B=p_B, y_B=y_B)

    @property
    def ece(self) -> float:
        """Expected calibration error: the weighted mean over bins of |mean y - mean p|; NaN without rows."""
        total = float(self.n_B.sum())
        return float(self.n_B @ np.abs(self.y_B - self.p_B) / total) if total else float("nan")


def log_losses(y_N: Float, p_N: Float) -> Float:
    """-[y ln p + (1 - y) ln(1 - p)] per row, p kept 1e-7 away from 0 and 1."""
    p_N = np.clip(p_N, _EPSILON, 1 - _EPSILON)
    losses: Float = -(y_N * np.log(p_N) + (1 - y_N) * np.log1p(-p_N))
    return losses


def auc(y_N: Float, p_N: Float, weight_N: Float | None = None) -> float:
    """P(p of a positive > p of a negative), ties counting half, exact; NaN without both classes."""
    order = np.argsort(p_N, kind="stable")
    return _auc_sorted(y_N[order], p_N[order], None if weight_N is None else weight_N[order])


@dataclass(frozen=True, kw_only=True)
class Aucs:
    """AUC over all rows, and that of each bootstrap replicate: a user moves whole."""

    value: float
    value_B: Float
    n_units: int

    @staticmethod
    def of(unit_N: Keys, y_N: Float, p_N: Float, *, bootstrap: int = 200, seed: int = 0) -> Aucs:
        known = ~np.isnan(y_N) & ~np.isnan(p_N)
        order = np.argsort(p_N[known], kind="stable")
        y, p = y_N[known][order], p_N[known][order]
        units, row = np.unique(unit_N[known][order], return_inverse=True)
        value_B = [_auc_sorted(y, p, poisson_weights(units, [b], seed)[0][row]) for b in range(bootstrap)]
        return Aucs(value=_auc_sorted(y, p, None), value_B=np.array(value_B, np.float64), n_units=len(units))

    @property
    def interval(self) -> Interval:
        return interval_of(self.value, self.value_B, self.n_units)

    def minus(self, other: Aucs) -> Interval:
        """The difference; paired where both are of the same rows and seed."""
        return interval_of(self.value - other.value, self.value_B - other.value_B, self.n_units)


def auc_interval(unit_N: Keys, y_N: Float, p_N: Float, *, bootstrap: int = 200, seed: int = 0) -> Interval:
    """AUC with its bootstrap interval by user; rows with a NaN are left out."""
    return Aucs.of(unit_N, y_N, p_N, bootstrap=bootstrap, seed=seed).interval


def grouped_auc(group_N: Keys, y_N: Float, p_N: Float) -> tuple[Keys, Float, Float]:
    """(a row of each group, its AUC, its positives) for the groups that hold both classes."""
    if not len(group_N):
        return np.empty(0, np.int64), np.empty(0), np.empty(0)
    first_G, at_N = numbered(group_N)
    positives_G = np.bincount(at_N, weights=y_N).astype(np.float64)
    negatives_G = np.bincount(at_N) - positives_G
    # The rank sum of the positives is Mann-Whitney's U, but for what they have among themselves.
    u_G = np.bincount(at_N, weights=ranks_within(at_N, p_N) * y_N) - positives_G * (positives_G - 1) / 2
    both_G = (positives_G > 0) & (negatives_G > 0)
    return first_G[both_G], u_G[both_G] / (positives_G * negatives_G)[both_G], positives_G[both_G]


def _auc_sorted(y: Float, p: Float, weight: Float | None) -> float:
    w = np.ones(len(y)) if weight is None else weight
    if not len(y):
        return float("nan")
    tie = np.cumsum(np.concatenate([[0], p[1:] != p[:-1]])).astype(np.int64)
    positive, negative = np.bincount(tie, weights=w * y), np.bincount(tie, weights=w * (1 - y))
    below = np.cumsum(negative) - negative
    pairs = float(positive.sum() * negative.sum())
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")

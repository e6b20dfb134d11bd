"""Ratios: sums over units, with the same sums under bootstrap weights. Everything that an interval needs, and additive.

U units, R rows, M metrics, B bootstrap replicates
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, factorial

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.errors import UsageError
from feedwell.core.request import Keys

LEVEL = 0.95
_POISSON_CDF = np.cumsum([exp(-1) / factorial(n) for n in range(18)])
_CELLS = 4_000_000
"""Weights held at once: 32 MB."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % bootstrap interval over `n_units` users; NaN where nothing was counted."""

    value: float
    low: float
    high: float
    n_units: int

    def to_dict(self) -> dict[str, float | int | None]:
        cells = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if np.isnan(v) else v for name, v in cells.items()} | {"n_units": self.n_units}

    def __str__(self) -> str:
        return self._told(".4f")

    def signed(self) -> str:
        """As text with signs, as a difference is read."""
        return self._told("+.4f")

    def _told(self, form: str) -> str:
        if np.isnan(self.low):
            few = ("no user", "one user")
            why = few[self.n_units] if self.n_units < len(few) else "too few replicates"
            known = "" if np.isnan(self.value) else f"{self.value:{form}}, interval "
            return f"{known}not known: {why}"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """M named ratios of sums. `merge` adds two parts; `n_units` adds up exactly when no unit is in both.

    A replicate weighs each unit by a Poisson(1) draw hashed from (seed, replicate, unit): a user moves whole.
    """

    names: tuple[str, ...]
    num_M: Float
    den_M: Float
    num_BM: Float
    den_BM: Float
    units_M: NDArray[np.int64]
    seed: int = 0

    @staticmethod
    def of(
        names: Sequence[str],
        unit_R: Keys,
        value_RM: Float,
        *,
        weight_RM: Float | None = None,
        bootstrap: int = 1000,
        seed: int = 0,
    ) -> Ratios:
        """Weighted means of the columns over rows; a NaN value is a row that the metric does not count."""
        counted_RM = ~np.isnan(value_RM)
        den_RM = counted_RM * (1.0 if weight_RM is None else weight_RM)
        num_RM = np.where(counted_RM, value_RM, 0.0) * den_RM
        units, row = np.unique(unit_R, return_inverse=True)
        num_UM, den_UM = _sum_by(row, num_RM, len(units)), _sum_by(row, den_RM, len(units))
        num_BM, den_BM = _replicates(units, np.hstack([num_UM, den_UM]), bootstrap, seed)
        return Ratios(
            names=tuple(names),
            num_M=num_UM.sum(axis=0),
            den_M=den_UM.sum(axis=0),
            num_BM=num_BM,
            den_BM=den_BM,
            units_M=np.count_nonzero(den_UM, axis=0),
            seed=seed,
        )

    def merge(self, other: Ratios) -> Ratios:
        """The statistics of both parts together."""
        if (self.names, self.seed, len(self.num_BM)) != (other.names, other.seed, len(other.num_BM)):
            raise UsageError("statistics merge only with equal names, seed and number of replicates")
        return Ratios(
            names=self.names,
            num_M=self.num_M + other.num_M,
            den_M=self.den_M + other.den_M,
            num_BM=self.num_BM + other.num_BM,
            den_BM=self.den_BM + other.den_BM,
            units_M=self.units_M + other.units_M,
            seed=self.seed,
        )

    def value(self, name: str) -> float:
        at = self.names.index(name)
        return float(_divide(self.num_M[at : at + 1], self.den_M[at : at + 1])[0])

    def replicates(self, name: str) -> Float:
        """The ratio in each of the B replicates; NaN where a replicate drew none of the units."""
        at = self.names.index(name)
        return _divide(self.num_BM[:, at], self.den_BM[:, at])

    def interval(self, name: str) -> Interval:
        at = self.names.index(name)
        return interval_of(self.value(name), self.replicates(name), int(self.units_M[at]))


def difference(ours: Ratios, theirs: Ratios, name: str) -> Interval:
    """ours - theirs, paired: the same weights drew both sides of a replicate. UsageError unless the units are equal."""
    a, b = ours.names.index(name), theirs.names.index(name)
    same = ours.seed == theirs.seed and len(ours.num_BM) == len(theirs.num_BM)
    if not same or ours.units_M[a] != theirs.units_M[b] or not np.isclose(ours.den_M[a], theirs.den_M[b]):
        raise UsageError(f"a paired difference of {name} needs both sides on the same requests, seed and replicates")
    return interval_of(
        ours.value(name) - theirs.value(name), ours.replicates(name) - theirs.replicates(name), int(ours.units_M[a])
    )


def smallest_detectable(ours: Ratios, theirs: Ratios, name: str) -> float:
    """The true difference that a test at 5 % would have found with 80 % power: (1.96 + 0.84) standard errors; NaN with
    fewer than 2 units."""
    spread = ours.replicates(name) - theirs.replicates(name)
    spread = spread[~np.isnan(spread)]
    enough = len(spread) > 1 and ours.units_M[ours.names.index(name)] > 1
    return float(2.8016 * np.std(spread, ddof=1)) if enough else float("nan")


def interval_of(value: float, replicates: Float, n_units: int) -> Interval:
    """The percentile interval of the replicates; NaN bounds with fewer than 2 units, which have no spread to see."""
    kept = replicates[~np.isnan(replicates)]
    if n_units < 2 or len(kept) < 20:
        return Interval(value=value, low=float("nan"), high=float("nan"), n_units=n_units)
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high), n_units=n_units)


def poisson_weights(unit_U: Keys, replicates: Sequence[int] | NDArray[np.integer], seed: int = 0) -> Float:
    """w_BU: Poisson(1) draws that depend on (seed, replicate, unit) alone, equal on every machine."""
    units = _mix(unit_U.astype(np.int64).view(np.uint64) ^ _mix(np.array([seed & (2**64 - 1)], np.uint64)))
    streams = _mix(np.asarray(replicates, np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    uniform_BU = (_mix(units[None, :] ^ streams[:, None]) >> np.uint64(11)) * 2.0**-53
    return np.searchsorted(_POISSON_CDF, uniform_BU, side="right").astype(np.float64)


def _replicates(units: Keys, sums_UK: Float, bootstrap: int, seed: int) -> tuple[Float, Float]:
    out = np.empty((bootstrap, sums_UK.shape[1]))
    step = max(1, _CELLS // max(1, len(units)))
    for at in range(0, bootstrap, step):
        stop = min(bootstrap, at + step)
        out[at:stop] = poisson_weights(units, np.arange(at, stop), seed) @ sums_UK
    half = sums_UK.shape[1] // 2
    return out[:, :half], out[:, half:]


def _sum_by(row: NDArray[np.intp], value_RM: Float, n: int) -> Float:
    columns = [np.bincount(row, weights=value_RM[:, m], minlength=n) for m in range(value_RM.shape[1])]
    return np.stack(columns, axis=1) if columns else np.empty((n, 0))


def _divide(num: Float, den: Float) -> Float:
    out = np.full(len(num), np.nan)
    np.divide(num, den, out=out, where=den != 0)
    return out


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finalizer: every bit of the output depends on every bit of the input."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed

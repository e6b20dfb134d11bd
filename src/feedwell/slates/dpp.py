"""The best by value, each also weighed by what it adds to those before it: a greedy determinantal point process.

N candidates, P shown earlier, M = N + P, k chosen so far
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Candidates, Float
from feedwell.core.needs import ColumnNeed, FeatureNeed, Need
from feedwell.core.protocols import Examples, Setting, SlateStep, serve
from feedwell.core.registry import slate
from feedwell.core.request import Request
from feedwell.slates._step import (
    GROUP,
    CappedStep,
    StepConfig,
    column_needs,
    freshness_bonus,
    shown_rows,
    standardised,
)

_REMEMBERED = 60


@slate("dpp")
class Dpp:
    """u_N = standardised value + freshness bonus + `diversity` × log of the marginal gain in the kernel's determinant.

    Chen, Zhang and Zhou (2018), "Fast Greedy MAP Inference for Determinantal Point Process", algorithm 1: one Cholesky
    row per choice, so a slate of n costs O(n² M). The kernel K is 1 on the diagonal and elsewhere (1 - `distinct`) ×
    the mean similarity: over `alike`, 1 where two values are equal, and over `embedding`, (1 + cosine) / 2 of the
    standardised columns. Twins therefore keep a gain of at least `distinct`, and nothing is infeasible for being
    similar. Of earlier pages the last 60 choices count. Where the value is NaN the utility is NaN.
    """

    examples: ClassVar[Examples] = (
        {},
        {"diversity": 2.0, "cap": {"per_group": 2}},
        {"alike": ("group", "item.merchant"), "embedding": ("f0", "f1"), "freshness_half_life": "12h"},
    )

    class Config(StepConfig):
        diversity: float = serve(0.3, ge=0)
        """The weight of the log gain against one standard deviation of the value."""
        alike: tuple[str, ...] = serve((GROUP,))
        """What makes two items similar when it is equal: "group", or catalog columns ("item.category")."""
        embedding: tuple[str, ...] = serve(())
        """Numeric features or catalog columns that stand for the item together."""
        distinct: float = serve(0.1, gt=0, le=1)

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._setting = setting

    @property
    def needs(self) -> tuple[Need, ...]:
        names = [name for name in (*self.config.alike, *self.config.embedding) if name != GROUP]
        mine = (ColumnNeed(*name.split(".", 1)) if "." in name else FeatureNeed(name) for name in names)
        return tuple(dict.fromkeys((*column_needs(self.config, self._setting), *mine)))

    def begin(self, request: Request, candidates: Candidates, shown: Candidates | None = None) -> SlateStep:
        base_N = standardised(candidates.value_N, candidates.alive_N)
        base_N = base_N + freshness_bonus(self.config, self._setting, request, candidates)
        shown = shown_rows(request, candidates, shown)
        kernel = _Kernel(self.config, candidates, shown)
        return _DppStep(self.config, candidates, shown, base_N, kernel)


class _DppStep(CappedStep):
    def __init__(
        self, config: Dpp.Config, candidates: Candidates, shown: Candidates | None, base_N: Float, kernel: _Kernel
    ) -> None:
        super().__init__(config, candidates, shown, self._weighed)
        self._base_N = base_N
        self._diversity = config.diversity
        self._gains = _Gains(kernel)
        n_shown = 0 if shown is None else len(shown)
        for p in range(max(0, n_shown - _REMEMBERED), n_shown):
            self._gains.choose(len(candidates) + p)

    def _weighed(self) -> Float:
        n = len(self._base_N)
        u_N: Float = self._base_N + self._diversity * np.log(self._gains.gain_M[:n])
        return u_N

    def choose(self, row: int) -> None:
        super().choose(row)
        self._gains.choose(row)


class _Gains:
    """`gain_M`: by how much adding each row would multiply the determinant of the chosen rows' kernel."""

    def __init__(self, kernel: _Kernel) -> None:
        self._kernel = kernel
        self.gain_M = np.ones(kernel.size)
        self._cholesky_kM = np.empty((32, kernel.size))
        self._k = 0

    def choose(self, row: int) -> None:
        if self._k == len(self._cholesky_kM):
            self._cholesky_kM = np.concatenate([self._cholesky_kM, np.empty_like(self._cholesky_kM)])
        done_kM = self._cholesky_kM[: self._k]
        new_M = self._kernel.row(row)
        new_M -= done_kM[:, row] @ done_kM
        new_M /= np.sqrt(self.gain_M[row])
        self._cholesky_kM[self._k] = new_M
        self._k += 1
        # By its construction no gain is below `distinct`; rounding may take a chosen row's own to 0 or under it.
        self.gain_M = np.maximum(self.gain_M - new_M * new_M, self._kernel.floor)


class _Kernel:
    """Rows of K over candidates and shown items, made when asked for: no N × N matrix."""

    def __init__(self, config: Dpp.Config, candidates: Candidates, shown: Candidates | None) -> None:
        self.size = len(candidates) + (0 if shown is None else len(shown))
        self._alike = [_codes(name, candidates, shown) for name in config.alike]
        self._unit_MD = _unit(config.embedding, candidates, shown) if config.embedding else None
        n_parts = len(self._alike) + bool(config.embedding)
        self._weight = (1 - config.distinct) / max(1, n_parts)
        self.floor = 0.5 * config.distinct

    def row(self, row: int) -> Float:
        row_M = np.zeros(self.size)
        for code_M in self._alike:
            if code_M[row] >= 0:
                row_M += code_M == code_M[row]
        if self._unit_MD is not None:
            row_M += 0.5 * (1.0 + self._unit_MD @ self._unit_MD[row])
        row_M *= self._weight
        row_M[row] = 1.0
        return row_M


def _codes(name: str, candidates: Candidates, shown: Candidates | None) -> NDArray[np.intp]:
    """A number per distinct value over candidates and shown items; -1: no value, similar to nothing."""
    parts = [c.group_N if name == GROUP else c.column(name) for c in (candidates, shown) if c is not None]
    value_M = np.concatenate(parts)
    _, code_M = np.unique(value_M, return_inverse=True)
    return np.where(np.isnan(value_M) if value_M.dtype.kind == "f" else value_M < 0, -1, code_M)


def _unit(names: tuple[str, ...], candidates: Candidates, shown: Candidates | None) -> Float:
    """The columns standardised over the rows (NaN: the mean), each row scaled to length 1, rows of zeros left so."""
    parts = [np.stack([c.column(name) for name in names], axis=1) for c in (candidates, shown) if c is not None]
    x_MD = np.concatenate(parts)
    known = np.isfinite(x_MD)
    n_D = np.maximum(known.sum(axis=0), 1)
    x_MD = np.where(known, x_MD, 0.0)
    x_MD = np.where(known, x_MD - x_MD.sum(axis=0) / n_D, 0.0)
    sd_D = np.sqrt((x_MD**2).sum(axis=0) / n_D)
    x_MD = x_MD / np.where(sd_D > 0, sd_D, 1.0)
    length_M = np.linalg.norm(x_MD, axis=1, keepdims=True)
    unit_MD: Float = x_MD / np.where(length_M > 0, length_M, 1.0)
    return unit_MD

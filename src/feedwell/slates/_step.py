"""What the built-in slate policies share: caps per group, which relax in a declared order, and a bonus for freshness.

N candidates, P shown earlier in the scroll, n chosen
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from feedwell.core.candidates import Candidates, Float
from feedwell.core.durations import Duration
from feedwell.core.keys import rows_of
from feedwell.core.needs import ColumnNeed, Need
from feedwell.core.protocols import PartConfig, Setting, serve
from feedwell.core.request import Keys, Request

GROUP = "group"


class Cap(PartConfig):
    """At most `per_group` of one group in the scroll, earlier pages included, or in any `window` slots in a row."""

    per_group: int = Field(ge=1)
    window: int | None = Field(None, ge=2)
    by: str = GROUP
    """"group": the item's declared group; else a catalog column whose equal values make a group ("item.category")."""
    name: str = "cap"


class StepConfig(PartConfig):
    """`cap` is one table or a list of them; `relax` names those that give way, in this order, if nothing is left."""

    cap: tuple[Cap, ...] = serve(())
    relax: tuple[str, ...] = serve(())
    freshness_half_life: Duration | None = serve(None)
    """An item as old as this gets half of the bonus `freshness`; default: no bonus. Needs the item's `created_at`."""
    freshness: float = serve(0.5, ge=0)
    """The bonus of a newborn item, in standard deviations of the value over the candidates."""

    @model_validator(mode="before")
    @classmethod
    def _one_cap_is_a_list_of_one(cls, keys: object) -> object:
        if isinstance(keys, dict) and isinstance(keys.get("cap"), dict | Cap):
            return {**keys, "cap": (keys["cap"],)}
        return keys

    @model_validator(mode="after")
    def _relaxes_what_is_declared(self) -> StepConfig:
        names = [cap.name for cap in self.cap]
        if len(set(names)) < len(names):
            raise ValueError(f"two caps share a name: {names}; give each its own `name`")
        unknown = [name for name in self.relax if name not in names]
        if unknown:
            raise ValueError(f"relax names '{unknown[0]}', but the caps are {names or 'none'}")
        return self


def column_needs(config: StepConfig, setting: Setting) -> tuple[Need, ...]:
    """The catalog columns that caps and freshness read."""
    names = [cap.by for cap in config.cap if cap.by != GROUP]
    if config.freshness_half_life is not None:
        names.append(created_column(setting))
    return tuple(ColumnNeed(*name.split(".", 1)) for name in dict.fromkeys(names))


def created_column(setting: Setting) -> str:
    return f"item.{setting.extra.get('created_at') or 'created_at'}"


class Counted:
    """One cap while a slate is built; `full_N`: the candidates whose group has no room left."""

    def __init__(self, cap: Cap, group_N: Float | Keys, shown_P: Float | Keys) -> None:
        self._cap = cap
        code_M, self._n_G = _group_codes(np.concatenate([group_N, shown_P]))
        self._code_N = code_M[: len(group_N)]
        self._recent: list[int] = []
        self.full_N = np.zeros(len(group_N), np.bool_)
        for code in code_M[len(group_N) :].tolist():
            self._add(code)

    def choose(self, row: int) -> None:
        self._add(int(self._code_N[row]))

    def _add(self, code: int) -> None:
        self._count(code, 1)
        if self._cap.window is not None:
            self._recent.append(code)
            # The slot that is filled next belongs to the window too.
            if len(self._recent) == self._cap.window:
                self._count(self._recent.pop(0), -1)

    def _count(self, code: int, by: int) -> None:
        if code < 0:
            return
        self._n_G[code] += by
        # Only a group at its edge changes: the mask is not made anew for each slot.
        if self._n_G[code] - max(by, 0) == self._cap.per_group - 1:
            self.full_N[self._code_N == code] = by > 0


def _group_codes(groups_M: Float | Keys) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """(a code per row, -1 where it is in no group: negative or NaN; a zero count per code)."""
    values, code_M = np.unique(groups_M, return_inverse=True)
    return np.where(groups_M >= 0, code_M, -1), np.zeros(len(values), np.int64)


class CappedStep:
    """A slate step whose utilities are a policy's own, -inf where chosen, dropped or capped; `score` makes a new array
    each time."""

    def __init__(
        self, config: StepConfig, candidates: Candidates, shown: Candidates | None, score: Callable[[], Float]
    ) -> None:
        self._score = score
        self._taken_N = ~candidates.alive_N
        self._caps = {c.name: Counted(c, *_groups(c.by, candidates, shown)) for c in config.cap}
        self._relax = config.relax
        self.relaxed: Sequence[str] = ()

    def utilities(self) -> Float:
        u_N = self._score()
        u_N[self._taken_N] = -np.inf
        if not self._caps:
            return u_N
        capped_N = self._capped(u_N, ())
        if len(capped_N) and capped_N.max() == -np.inf:
            return self._relaxed(u_N, capped_N)
        return capped_N

    def choose(self, row: int) -> None:
        self._taken_N[row] = True
        for cap in self._caps.values():
            cap.choose(row)

    def _capped(self, u_N: Float, off: Sequence[str]) -> Float:
        capped_N = u_N.copy()
        for name, cap in self._caps.items():
            if name not in off:
                capped_N[cap.full_N] = -np.inf
        return capped_N

    def _relaxed(self, u_N: Float, capped_N: Float) -> Float:
        """With as many caps off, in their order, as make one candidate feasible; if none helps, all on."""
        for n_off in range(1, len(self._relax) + 1):
            off = self._relax[:n_off]
            wider_N = self._capped(u_N, off)
            if wider_N.max() != -np.inf:
                self.relaxed = (*self.relaxed, *(name for name in off if name not in self.relaxed))
                return wider_N
        return capped_N


def _groups(by: str, candidates: Candidates, shown: Candidates | None) -> tuple[Float | Keys, Float | Keys]:
    if by == GROUP:
        return candidates.group_N, candidates.group_N[:0] if shown is None else shown.group_N
    column_N = candidates.column(by)
    return column_N, column_N[:0] if shown is None else shown.column(by)


def standardised(value_N: Float, alive_N: NDArray[np.bool_]) -> Float:
    """The values in standard deviations from the mean of the scored, living candidates; all equal: 0; NaN stays."""
    scored_N = value_N[alive_N & np.isfinite(value_N)]
    if not len(scored_N):
        return value_N.copy()
    sd = float(scored_N.std())
    centred_N = value_N - scored_N.mean()
    # As in the sampler: a spread of one rounding error is no spread.
    scale = 1.0 / sd if sd > 1e-12 * max(1.0, float(np.abs(scored_N).max())) else 0.0
    standard_N: Float = centred_N * scale
    return standard_N


def freshness_bonus(config: StepConfig, setting: Setting, request: Request, candidates: Candidates) -> Float | float:
    """`freshness` × 2^(-age / half-life); 0 where the time of creation is not known, the whole where it is ahead."""
    if config.freshness_half_life is None:
        return 0.0
    age_N = np.maximum(request.t - candidates.column(created_column(setting)), 0.0)
    bonus_N: Float = np.nan_to_num(config.freshness * np.exp2(-age_N / config.freshness_half_life), nan=0.0)
    return bonus_N


def shown_rows(request: Request, candidates: Candidates, shown: Candidates | None) -> Candidates | None:
    """The rows of what was shown earlier: as handed over, else those of the prefix that are among the candidates."""
    if shown is not None or not len(request.prefix):
        return shown
    order = np.argsort(candidates.keys_N)
    row_P = rows_of(candidates.keys_N[order], request.prefix)
    return candidates.take(order[row_P[row_P >= 0]])

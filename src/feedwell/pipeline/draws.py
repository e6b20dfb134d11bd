"""What each slot was drawn from, so that a slate can be drawn again from its record alone.

Where a slot explored: the pool with its utilities. Where it took the best: the best and the runner-up, which is enough
to see that it was. Rows stand in the candidates' order, because the draw walks them in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.protocols import SlateStep
from feedwell.core.request import Keys
from feedwell.core.sampler import build_slate
from feedwell.core.slate import Explore, Slate


class RecordedStep:
    """A slate step that also writes down, at each choice, what the choice was made from."""

    def __init__(self, step: SlateStep, keys_N: Keys, explore: Explore, slot_0: int) -> None:
        self._step = step
        self.relaxed: Sequence[str] = step.relaxed
        self._keys_N = keys_N
        self._explore = explore
        self._slot = slot_0
        self._u_N: Float = np.empty(0)
        self.draws: list[dict[str, Any]] = []

    def utilities(self) -> Float:
        self._u_N = np.asarray(self._step.utilities(), dtype=np.float64)
        self.relaxed = self._step.relaxed
        return self._u_N

    def choose(self, row: int) -> None:
        self._slot += 1
        if self._explore.covers(self._slot):
            rows = _pool(self._u_N, self._keys_N, self._explore.pool)
        else:
            rows = _best_two(row, self._u_N)
        u_n = self._u_N[rows]
        self.draws.append({"rows": rows.tolist(), "keys": self._keys_N[rows].tolist(), "utility": u_n.tolist()})
        self._step.choose(row)


def redraw(
    draws: Sequence[dict[str, Any]], rng: np.random.Generator, explore: Explore, slot_0: int
) -> tuple[list[int], Slate]:
    """The chosen keys and the slate that the shared sampler builds from the recorded utilities."""
    step = _Recorded(draws)
    slate = build_slate(step, step.keys_N, len(draws), rng, explore, slot_0=slot_0)
    return step.keys_N[slate.rows_n].tolist(), slate


class _Recorded:
    """Answers with the recorded utilities slot by slot: what was outside a slot's pool had no chance there."""

    def __init__(self, draws: Sequence[dict[str, Any]]) -> None:
        self.relaxed: Sequence[str] = ()
        self._draws = draws
        self._slot = 0
        key_of = {row: key for draw in draws for row, key in zip(draw["rows"], draw["keys"], strict=True)}
        self.keys_N = np.array([key_of[row] for row in sorted(key_of)], np.int64)
        self._at = {row: at for at, row in enumerate(sorted(key_of))}

    def utilities(self) -> Float:
        u_N = np.full(len(self.keys_N), -np.inf)
        draw = self._draws[self._slot]
        u_N[[self._at[row] for row in draw["rows"]]] = _floats(draw["utility"])
        return u_N

    def choose(self, row: int) -> None:
        self._slot += 1


def _best_two(row: int, u_N: Float) -> NDArray[np.intp]:
    """The chosen row and its runner-up, in row order; where it ties with several, any of those that it went before."""
    rest_N = u_N.copy()
    rest_N[row] = -np.inf
    np.copyto(rest_N, -np.inf, where=rest_N != rest_N)  # NaN is infeasible while a finite utility is feasible
    second = int(rest_N.argmax())
    if u_N[row] != u_N[row] or rest_N[second] == -np.inf:
        return np.array([row])
    return np.array([row, second] if row < second else [second, row])


def _pool(u_N: Float, keys_N: Keys, n: int) -> NDArray[np.intp]:
    """The `n` best feasible rows, ties to the smaller key, in row order; where all are NaN, the first of them."""
    finite = np.flatnonzero(np.isfinite(u_N))
    if not len(finite):
        return np.flatnonzero(np.isnan(u_N))[:n]
    if len(finite) > n:
        edge = np.partition(u_N[finite], len(finite) - n)[len(finite) - n]
        finite = finite[u_N[finite] >= edge]
        finite = np.sort(finite[np.lexsort((keys_N[finite], -u_N[finite]))][:n])
    return finite


def _floats(values: Sequence[float | None]) -> Float:
    """JSON has no NaN: null stands for it."""
    return np.array([np.nan if v is None else v for v in values], np.float64)

"""The shared sampler: builds a slate slot by slot and knows the exact probability of every choice it makes.

Nothing may reorder, insert or drop afterwards: the propensity at a slot is p(this candidate | prefix, candidates), so
the probability of a slate is the product over its slots, whatever caps or diversity did in between.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.protocols import SlateStep
from feedwell.core.request import Keys
from feedwell.core.slate import NO_EXPLORATION, Explore, Slate

_CERTAIN: Float = np.ones(1)


def build_slate(
    step: SlateStep,
    keys_N: Keys,
    n: int,
    rng: np.random.Generator,
    explore: Explore = NO_EXPLORATION,
    *,
    slot_0: int = 0,
) -> Slate:
    """At most `n` choices, each from `choice_probabilities` of the step's utilities given what was chosen before.

    `keys_N` breaks ties (smaller first); rows stand in retrieval order, which ranks them where every utility is NaN and
    matters nowhere else: a draw walks the pool best first, so (keys, utilities) of the pool are enough to repeat it.
    `slot_0` is how many slots of this scroll were filled by earlier pages.
    """
    rows: list[int] = []
    utilities: list[float] = []
    propensities: list[float] = []
    unscored = False
    while len(rows) < n:
        u_N = step.utilities()
        support = _support(u_N, keys_N, explore if explore.covers(slot_0 + len(rows) + 1) else None)
        if support is None:
            break
        rows_n, p_n = support
        at = 0 if len(rows_n) == 1 else _draw(p_n, rng)
        row = int(rows_n[at])
        rows.append(row)
        utilities.append(float(u_N[row]))
        propensities.append(float(p_n[at]))
        unscored |= math.isnan(utilities[-1])
        step.choose(row)
    return Slate(
        rows_n=np.array(rows, np.intp),
        utility_n=np.array(utilities),
        propensity_n=np.array(propensities),
        short="" if len(rows) == n else f"{len(rows)} of {n}: no feasible candidate left",
        relaxed=tuple(step.relaxed),
        unscored=unscored,
    )


def choice_probabilities(u_N: Float, keys_N: Keys, explore: Explore | None) -> Float | None:
    """p over the candidates for one slot; None when none is feasible (-inf: infeasible; NaN: only if nothing else is).

    Without exploration all mass is on the greatest utility, ties to the smaller key. With it, over the `pool` best of
    size n: p = (1 - ε) softmax(u / (temperature · sd(u))) + ε / n; sd = 0 gives the uniform; outside the pool p = 0.
    """
    support = _support(u_N, keys_N, explore)
    if support is None:
        return None
    p_N = np.zeros(len(u_N))
    p_N[support[0]] = support[1]
    return p_N


def _support(u_N: Float, keys_N: Keys, explore: Explore | None) -> tuple[NDArray[np.intp], Float] | None:
    """(rows, their probabilities) of one slot, best first; rows outside have p = 0."""
    finite = np.isfinite(u_N).nonzero()[0]
    if not len(finite):
        missing = np.isnan(u_N).nonzero()[0]
        return (missing[:1], _CERTAIN) if len(missing) else None
    if explore is None or explore.pool == 1:
        return _best(finite, u_N, keys_N, 1), _CERTAIN
    pool = _best(finite, u_N, keys_N, explore.pool)
    return pool, _softened(u_N[pool], explore)


def _best(rows: NDArray[np.intp], u_N: Float, keys_N: Keys, n: int) -> NDArray[np.intp]:
    """The `n` rows of greatest utility, best first, ties by smaller key."""
    u = u_N[rows]
    if n < len(rows):
        # All that tie with the n-th compete, so that which of them stay depends on their keys alone.
        edge = u.max() if n == 1 else np.partition(u, len(u) - n)[len(u) - n]
        rows = rows[u >= edge]
        if len(rows) == 1:
            return rows
        u = u_N[rows]
    return rows[np.lexsort((keys_N[rows], -u))][:n]


def _softened(u_n: Float, explore: Explore) -> Float:
    """The mixed softmax over the pool, `u_n` best first."""
    n = len(u_n)
    centred_n = u_n - u_n.sum() / n
    sd = math.sqrt((centred_n * centred_n).sum() / n)  # np.std, without its 8 µs of preamble
    # Equal utilities can leave a spread of one rounding error; dividing by it would sharpen noise into a choice.
    if sd <= 1e-12 * max(1.0, abs(float(u_n[0])), abs(float(u_n[-1]))):
        return np.full(n, 1.0 / n)
    soft = np.exp((u_n - u_n[0]) / (explore.temperature * sd))
    mixed: Float = (1 - explore.epsilon) * soft / soft.sum() + explore.epsilon / n
    p_n: Float = mixed / mixed.sum()
    return p_n


def _draw(p_n: Float, rng: np.random.Generator) -> int:
    edges = p_n.cumsum()
    at = int(edges.searchsorted(rng.random() * edges[-1], side="right"))
    # Rounding can take the draw onto the last edge, behind which only rows of p = 0 may lie.
    return at if at < len(p_n) else int(p_n.nonzero()[0][-1])

"""The shared sampler: builds a slate slot by slot and knows the exact probability of every choice it makes.

Nothing may reorder, insert or drop afterwards: the propensity at a slot is p(this candidate | prefix, candidates), so
the probability of a slate is the product over its slots, whatever caps or diversity did in between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.protocols import SlateStep
from feedwell.core.request import Keys
from feedwell.core.slate import NO_EXPLORATION, Explore, Slate


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

    `keys_N` breaks ties (smaller first); rows stand in retrieval order, which ranks them where every utility is NaN.
    `slot_0` is how many slots of this scroll were filled by earlier pages.
    """
    rows: list[int] = []
    utilities: list[float] = []
    propensities: list[float] = []
    unscored = False
    while len(rows) < n:
        u_N = step.utilities()
        p_N = choice_probabilities(u_N, keys_N, explore if explore.covers(slot_0 + len(rows) + 1) else None)
        if p_N is None:
            break
        row = _draw(p_N, rng)
        unscored |= bool(np.isnan(u_N[row]))
        rows.append(row)
        utilities.append(float(u_N[row]))
        propensities.append(float(p_N[row]))
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
    best_first = _feasible_best_first(u_N, keys_N)
    if best_first is None:
        return None
    p_N = np.zeros(len(u_N))
    if explore is None or np.isnan(u_N[best_first[0]]):
        p_N[best_first[0]] = 1.0
        return p_N
    pool = best_first[: explore.pool]
    p_N[pool] = _softened(u_N[pool], explore)
    return p_N


def _feasible_best_first(u_N: Float, keys_N: Keys) -> NDArray[np.intp] | None:
    finite = np.flatnonzero(np.isfinite(u_N))
    if len(finite):
        return finite[np.lexsort((keys_N[finite], -u_N[finite]))]
    missing = np.flatnonzero(np.isnan(u_N))
    return missing if len(missing) else None


def _softened(u_n: Float, explore: Explore) -> Float:
    n, sd = len(u_n), float(np.std(u_n))
    # Equal utilities can leave a spread of one rounding error; dividing by it would sharpen noise into a choice.
    if sd <= 1e-12 * max(1.0, float(np.max(np.abs(u_n)))):
        return np.full(n, 1.0 / n)
    z = (u_n - u_n.max()) / (explore.temperature * sd)
    soft = np.exp(z)
    mixed: Float = (1 - explore.epsilon) * soft / soft.sum() + explore.epsilon / n
    mixed /= mixed.sum()
    return mixed


def _draw(p_N: Float, rng: np.random.Generator) -> int:
    support = np.flatnonzero(p_N)
    if len(support) == 1:
        return int(support[0])
    edges = np.cumsum(p_N[support])
    at = int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
    return int(support[min(at, len(support) - 1)])

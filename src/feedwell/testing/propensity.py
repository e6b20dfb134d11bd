"""The propensity test: every slate that a policy can build, with its probability, against what the sampler draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import chdtrc

from feedwell.core.protocols import SlateStep
from feedwell.core.request import Keys
from feedwell.core.sampler import choice_probabilities
from feedwell.core.slate import NO_EXPLORATION, Explore

Rows = tuple[int, ...]


def enumerate_slates(
    begin: Callable[[], SlateStep], keys_N: Keys, n: int, explore: Explore = NO_EXPLORATION
) -> dict[Rows, float]:
    """slate (rows, short ones included) → its probability: the product of the slots' propensities.

    Slow and obvious: a new step is begun for each prefix, so nothing leaks from one branch to another.
    """
    found: dict[Rows, float] = {}
    _extend(begin, keys_N, n, explore, (), 1.0, found)
    return found


def fits(counts: Mapping[Rows, int], probabilities: Mapping[Rows, float], least: float = 5.0) -> float:
    """The p-value of Pearson's chi-square test that the counted slates were drawn with those probabilities.

    Slates expected less than `least` times are pooled; a slate drawn that has no probability gives 0.
    """
    if any(probabilities.get(slate, 0.0) <= 0.0 for slate in counts):
        return 0.0
    total = sum(counts.values())
    slates = list(probabilities)
    expected = np.array([probabilities[slate] * total for slate in slates])
    observed = np.array([counts.get(slate, 0) for slate in slates], np.float64)
    rare = expected < least
    expected = np.append(expected[~rare], expected[rare].sum())
    observed = np.append(observed[~rare], observed[rare].sum())
    cells = expected > 0
    statistic = float(((observed[cells] - expected[cells]) ** 2 / expected[cells]).sum())
    return float(chdtrc(max(1, int(cells.sum()) - 1), statistic))


def _extend(
    begin: Callable[[], SlateStep],
    keys_N: Keys,
    n: int,
    explore: Explore,
    prefix: Rows,
    p_prefix: float,
    found: dict[Rows, float],
) -> None:
    step = begin()
    for row in prefix:
        step.utilities()
        step.choose(row)
    p_N = None
    if len(prefix) < n:
        p_N = choice_probabilities(step.utilities(), keys_N, explore if explore.covers(len(prefix) + 1) else None)
    if p_N is None:
        found[prefix] = p_prefix
        return
    for choice in np.flatnonzero(p_N).tolist():
        _extend(begin, keys_N, n, explore, (*prefix, choice), p_prefix * float(p_N[choice]), found)

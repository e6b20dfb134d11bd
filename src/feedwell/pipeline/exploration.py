"""What exploration costs, before there is any traffic: slots that draw, and the utility they may give up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feedwell.core.project import Project
from feedwell.core.rng import stream
from feedwell.core.sampler import choice_probabilities
from feedwell.core.slate import Explore

_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class ExplorationCost:
    """`given_up`: what the drawn choices fall short of the best ones at their slots, as a share of the slate's utility
    above the average candidate's, where utilities are normally spread. An upper bound: what one slot passes over, a
    later one may take. `first_choice`: how often an explored slot takes its best candidate."""

    slots: int
    share_of_slots: float
    given_up: float
    first_choice: float
    candidates: int

    def __str__(self) -> str:
        if not self.slots:
            return "exploration: none; what is never shown is never learnt, and off-policy evaluation has no support"
        return (
            f"exploration: {self.slots} slots ({self.share_of_slots:.0%}) draw; expected to give up at most"
            f" {self.given_up:.1%} of the slate's utility (normal spread, {self.candidates} candidates);"
            f" the best is taken {self.first_choice:.0%} of the time there"
        )


def exploration_cost(project: Project) -> ExplorationCost:
    """The expected cost of `[slate] explore`; simulated, about 50 ms."""
    explore, k = project.slate.explore, project.slate.k
    slots = sum(explore.covers(slot) for slot in range(1, k + 1))
    n = max(k + 1, min(1000, sum(int(s.options.get("k", 100)) for s in project.source.values())))
    if not slots:
        return ExplorationCost(slots=0, share_of_slots=0.0, given_up=0.0, first_choice=1.0, candidates=n)
    rng = stream(0, "exploration cost")
    lost, best, firsts = zip(*(_one_slate(explore, k, n, rng) for _ in range(_DRAWS)), strict=True)
    return ExplorationCost(
        slots=slots,
        share_of_slots=slots / k,
        given_up=sum(lost) / sum(best),
        first_choice=sum(firsts) / (_DRAWS * slots),
        candidates=n,
    )


def _one_slate(explore: Explore, k: int, n: int, rng: np.random.Generator) -> tuple[float, float, int]:
    """(utility that draws passed over, utility of the greedy slate, explored slots that took their best)."""
    u_N = rng.standard_normal(n)
    best = float(np.sort(u_N)[-k:].sum())
    keys_N = np.arange(n)
    lost, firsts = 0.0, 0
    for slot in range(1, k + 1):
        p_N = choice_probabilities(u_N, keys_N, explore if explore.covers(slot) else None)
        row = int(rng.choice(n, p=p_N)) if explore.covers(slot) else int(np.nanargmax(u_N))
        firsts += explore.covers(slot) and bool(u_N[row] == u_N.max())
        lost += float(u_N.max() - u_N[row])
        u_N[row] = -np.inf
    return lost, best, firsts

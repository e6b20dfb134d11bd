"""Policies that can run a world: the logging policy of histories, and the two ends of the scale, random and oracle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from feedwell.core.clock import HOUR
from feedwell.data.world import noise
from feedwell.data.world.events import ITEM, SessionRequest, WorldEvent, ids_of
from feedwell.data.world.noise import Float, Int
from feedwell.data.world.world import World


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A slate: item rows in the order of the slots, and p(this item | the slots before) of each."""

    rows_n: Int
    propensity_n: Float


class Policy(Protocol):
    """Chooses among the live items, and learns from what is logged."""

    def choose(self, request: SessionRequest, live_N: Int) -> Chosen: ...

    def observe(self, events: Iterable[WorldEvent]) -> None: ...


class RandomPolicy:
    """A uniform draw without replacement: the slate from which position bias can be read off."""

    def __init__(self, seed: int) -> None:
        self._root = noise.channel(seed, "random policy")

    def choose(self, request: SessionRequest, live_N: Int) -> Chosen:
        return draw_slate(np.ones(len(live_N)), live_N, request, self._root)

    def observe(self, events: Iterable[WorldEvent]) -> None:
        """Learns nothing."""


class OraclePolicy:
    """The items of greatest true utility: the ceiling for policies that look at one slate at a time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def choose(self, request: SessionRequest, live_N: Int) -> Chosen:
        utility_N = self._world.true_utility(request.user_id, ids_of(ITEM, live_N), request.ts)
        best_n = np.argsort(-utility_N, kind="stable")[: request.n]
        return Chosen(rows_n=live_N[best_n], propensity_n=np.ones(len(best_n)))

    def observe(self, events: Iterable[WorldEvent]) -> None:
        """Knows it already."""


class PopularPolicy:
    """The stated logging policy: popular with exploration.

    Over the live items that the user has not yet been exposed to (over all when fewer than a slate are left), without
    replacement, p ∝ (1 - epsilon) · softmax(log(1 + clicks) / temperature) + epsilon / N, clicks halving every
    `half_life_h`.
    """

    def __init__(self, seed: int, *, temperature: float = 0.8, epsilon: float = 0.3, half_life_h: float = 24.0) -> None:
        self._root = noise.channel(seed, "popular policy")
        self._temperature, self._epsilon, self._half_life_h = temperature, epsilon, half_life_h
        self._clicks_N: Float = np.zeros(0)
        self._as_of = 0
        self._seen: dict[str, set[int]] = defaultdict(set)

    def greedy(self) -> PopularPolicy:
        """What has counted the same so far and from now on shows the most popular, nearly without chance."""
        twin = deepcopy(self)
        twin._temperature, twin._epsilon = 0.01, 0.0
        return twin

    def choose(self, request: SessionRequest, live_N: Int) -> Chosen:
        self._age(request.ts, size=int(live_N[-1]) + 1 if len(live_N) else 0)
        rows_N = self._unseen(request, live_N)
        if not len(rows_N):
            return Chosen(rows_n=rows_N, propensity_n=np.zeros(0))
        score_N = np.log1p(self._clicks_N[rows_N]) / self._temperature
        soft_N = np.exp(score_N - score_N.max())
        p_N = (1.0 - self._epsilon) * soft_N / soft_N.sum() + self._epsilon / len(rows_N)
        return draw_slate(p_N, rows_N, request, self._root)

    def observe(self, events: Iterable[WorldEvent]) -> None:
        """Counts clicks, remembers exposures."""
        for event in events:
            if event["item"] is None:
                continue
            row = int(event["item"][len(ITEM) :])
            if event["type"] == "click":
                self._clicks_N[row] += 1.0
            elif event["type"] == "view":
                self._seen[event["user"]].add(row)

    def _unseen(self, request: SessionRequest, live_N: Int) -> Int:
        seen = self._seen[request.user_id]
        if not len(live_N) or not seen:
            return live_N
        first = int(live_N[0])  # live rows are a range, so a mask by offset beats a search
        keep_N = np.ones(len(live_N), bool)
        keep_N[[row - first for row in seen if first <= row < first + len(live_N)]] = False
        return live_N[keep_N] if np.count_nonzero(keep_N) >= request.n else live_N

    def _age(self, ts: int, size: int) -> None:
        """Decays the counts at most once an hour and grows them for new items."""
        if size > len(self._clicks_N):
            self._clicks_N = np.concatenate([self._clicks_N, np.zeros(size - len(self._clicks_N))])
        if ts - self._as_of > HOUR:
            self._clicks_N = self._clicks_N * 2.0 ** (-(ts - self._as_of) / (self._half_life_h * HOUR))
            self._as_of = ts


def draw_slate(p_N: Float, rows_N: Int, request: SessionRequest, root: int) -> Chosen:
    """`request.n` rows without replacement, slot by slot in proportion to `p_N`, and each choice's exact propensity.

    Gumbel keys, addressed by (user, item, ts), give the whole order at once; with fixed weights and no caps the
    order's law is Plackett-Luce, so the propensity given the prefix is p over what was left.
    """
    gumbel_N = -np.log(-np.log(noise.uniform(root, int(request.user_id[1:]), rows_N, request.ts)))
    keys_N = np.log(p_N) + gumbel_N
    best = np.argsort(-keys_N, kind="stable")[: request.n]
    p_n = p_N[best]
    left_n = p_N.sum() - np.cumsum(p_n) + p_n
    return Chosen(rows_n=rows_N[best], propensity_n=np.minimum(1.0, p_n / left_n))

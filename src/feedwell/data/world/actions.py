"""Actions: from appeal to what a user does with the items that were examined, and what that is worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feedwell.core.clock import SECOND
from feedwell.data.world import noise
from feedwell.data.world.catalog import Catalog
from feedwell.data.world.config import Action, WorldConfig
from feedwell.data.world.memory import Memory
from feedwell.data.world.noise import Float, Int

Mask = NDArray[np.bool_]
HIDE = "hide"
HIDE_AGAIN = 0.5  # a hidden item that is served again annoys: p(hide) given that it is examined


class Actions:
    """The chain of actions over N examined items; A actions in the order of the configuration."""

    def __init__(self, config: WorldConfig, seed: int, catalog: Catalog, memory: Memory) -> None:
        self._config, self._catalog, self._memory = config, catalog, memory
        self._row = {action.name: row for row, action in enumerate(config.actions)}
        self._roots = {
            part: [noise.channel(seed, part, action.name) for action in config.actions]
            for part in ("does", "delay", "undoes", "undo-delay", "value")
        }

    def probabilities(self, user: int, rows_N: Int, appeal_N: Float, ts: int) -> Float:
        """p of each action given what it comes after, shape A × N."""
        items = self._catalog.items(ts)
        bait_N, gravity_N = items.bait_N[rows_N], items.gravity_N[rows_N]
        p_AN = np.empty((len(self._config.actions), len(rows_N)))
        for row, action in enumerate(self._config.actions):
            logit_N = action.bias + action.slope * appeal_N + action.bait * bait_N + action.price * gravity_N
            p_AN[row] = 1.0 / (1.0 + np.exp(-logit_N))
            if action.once:
                things = items.creator_N[rows_N] if action.object == "creator" else rows_N
                p_AN[row, self._memory.has(action.name, user, things.tolist(), ts)] = 0.0
        self._respect_hiding(p_AN, user, rows_N, ts)
        return p_AN

    def expected_reward(self, p_AN: Float) -> Float:
        """Σ of weight × probability along the chain, for an examined item, shape N.

        Exact for an item alone; two items of one creator in one slate can be followed only once.
        """
        reached_AN = np.empty_like(p_AN)
        reward_N = np.zeros(p_AN.shape[1])
        for row, action in enumerate(self._config.actions):
            before_N = reached_AN[self._row[action.after]] if action.after != "view" else np.ones_like(reward_N)
            free_N = 1.0 - p_AN[self._row[action.unless]] if action.unless else 1.0
            reached_AN[row] = before_N * free_N * p_AN[row]
            reward_N += action.weight * reached_AN[row]
        return reward_N

    def draw(self, p_AN: Float, user: int, rows_N: Int, ts: int, examined_N: Mask) -> Mask:
        """Which actions happen, shape A × N. The luck is addressed by (action, user, item, ts), not by the slot."""
        luck_AN = self._noise("does", user, rows_N, ts)
        done_AN = luck_AN < p_AN
        for row, action in enumerate(self._config.actions):
            done_AN[row] &= done_AN[self._row[action.after]] if action.after != "view" else examined_N
            if action.unless:
                done_AN[row] &= ~done_AN[self._row[action.unless]]
        return done_AN

    def times(self, user: int, rows_N: Int, ts: int, viewed_at_N: Int) -> Int:
        """When each action would happen, µs, shape A × N: each a lognormal delay after the one it comes after."""
        spread_AN = _normal(self._noise("delay", user, rows_N, ts))
        at_AN = np.empty(spread_AN.shape, np.int64)
        for row, action in enumerate(self._config.actions):
            before_N = at_AN[self._row[action.after]] if action.after != "view" else viewed_at_N
            delay_N = action.delay_median_s * np.exp(action.delay_sigma * spread_AN[row])
            at_AN[row] = before_N + np.maximum(1, delay_N * SECOND).astype(np.int64)
        return at_AN

    def undo_after(self, action: Action, user: int, item: int, ts: int) -> int | None:
        """µs until the action is undone, at least a second; None if it never is."""
        row = self._row[action.name]
        if not action.undone_by or noise.uniform_at(self._roots["undoes"][row], user, item, ts) >= action.undo_share:
            return None
        spread = noise.normal_at(self._roots["undo-delay"][row], user, item, ts)
        return round(SECOND * max(1.0, action.undo_median_s * float(np.exp(spread))))

    def value(self, action: Action, user: int, item: int, ts: int, satisfaction: float) -> float | None:
        """The event's value: seconds of dwell (lognormal, longer the more it satisfies) or the price."""
        if action.value == "price":
            return float(self._catalog.items(ts).price_N[item])
        if action.value == "none":
            return None
        spread = noise.normal_at(self._roots["value"][self._row[action.name]], user, item, ts)
        return round(min(900.0, 15.0 * float(np.exp(0.7 * satisfaction + 0.6 * spread))), 1)

    def _respect_hiding(self, p_AN: Float, user: int, rows_N: Int, ts: int) -> None:
        """A hidden item gets nothing but another hide; an item liked or bought is not hidden."""
        if HIDE not in self._row:
            return
        hide = self._row[HIDE]
        for action in self._config.actions:
            if action.once and action.object == "item":
                p_AN[hide, self._memory.has(action.name, user, rows_N.tolist(), 0)] = 0.0
        hidden_N = self._memory.has(HIDE, user, rows_N.tolist(), ts)
        p_AN[:, hidden_N] = 0.0
        p_AN[hide, hidden_N] = HIDE_AGAIN

    def _noise(self, part: str, user: int, rows_N: Int, ts: int) -> Float:
        roots_A1 = np.array(self._roots[part], np.uint64)[:, None]
        return noise.uniform(roots_A1, user, rows_N[None, :], ts)


def _normal(u: Float) -> Float:
    """Nearly normal from one uniform: the logistic quantile with unit variance; a delay needs no more."""
    spread: Float = np.log(u / (1.0 - u)) * (np.sqrt(3.0) / np.pi)
    return spread

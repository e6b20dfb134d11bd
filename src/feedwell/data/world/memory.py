"""What people remember of what they were shown and did: the only state in a world that its responses change.

Each arm of a comparison has its own World and so its own memory; everything else in both is equal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from feedwell.core.clock import HOUR
from feedwell.data.world.noise import Float, Int

FOREVER = np.iinfo(np.int64).max
LENGTH = 64  # exposures a user remembers; at a half-life of 12 h an older one weighs next to nothing


class Memory:
    """Per user: the last exposures (a ring), what was done to which object until when, satisfaction, the open page."""

    def __init__(self, n_users: int) -> None:
        self._items_UL = np.full((n_users, LENGTH), -1, np.int32)
        self._at_UL = np.zeros((n_users, LENGTH), np.int64)
        self._next_U = np.zeros(n_users, np.int64)
        self._done: dict[tuple[str, int], dict[int, int]] = defaultdict(dict)
        self.satisfaction_U: Float = np.zeros(n_users)
        self.last_page_U: Float = np.zeros(n_users)
        self.open_page: dict[int, tuple[str, int]] = {}

    def saw(self, user: int, items: Int, ts: int) -> None:
        """Adds exposures; the oldest fall out."""
        places = (self._next_U[user] + np.arange(len(items))) % LENGTH
        self._items_UL[user, places] = items
        self._at_UL[user, places] = ts
        self._next_U[user] += len(items)

    def recent(self, user: int, ts: int, half_life_h: float) -> tuple[Int, Float]:
        """Items seen before `ts` with weights that halve every `half_life_h`."""
        known = (self._items_UL[user] >= 0) & (self._at_UL[user] < ts)
        age_L = ts - self._at_UL[user][known]
        return self._items_UL[user][known].astype(np.int64), np.exp2(-age_L / (half_life_h * HOUR))

    def did(self, action: str, user: int, thing: int, until_ts: int = FOREVER) -> None:
        """Notes that the user did it to that item or creator; it holds before `until_ts`, when it is undone."""
        self._done[action, user][thing] = until_ts

    def has(self, action: str, user: int, things: Iterable[int], ts: int) -> NDArray[np.bool_]:
        """For each thing, whether the user did it and it is not undone at `ts`."""
        done = self._done.get((action, user))
        things = list(things)
        if not done:
            return np.zeros(len(things), bool)
        return np.fromiter((done.get(thing, ts) > ts for thing in things), bool, len(things))


def weight_of(keys_N: Int, recent_L: Int, weight_L: Float) -> Float:
    """For each key, Σ of the weights of the recent ones with that key; O((N + L) log L), whatever the range."""
    order = np.argsort(recent_L, kind="stable")
    ranked, sums = recent_L[order], np.concatenate([[0.0], np.cumsum(weight_L[order])])
    found: Float = sums[np.searchsorted(ranked, keys_N, "right")] - sums[np.searchsorted(ranked, keys_N, "left")]
    return found

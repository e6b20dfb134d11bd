"""Request: who, where, when, how many. Frozen once its user side is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.event import NO_KEY
from feedwell.core.needs import HistoryNeed, ObjectsNeed, RankingNeed

Keys = NDArray[np.int64]
NO_KEYS: Keys = np.empty(0, dtype=np.int64)
NO_KEYS.setflags(write=False)


@dataclass(frozen=True, kw_only=True)
class History:
    """A user's last events, oldest first: `keys_L` (objects), `at_L` (µs), `type_L` (index into the need's events)."""

    keys_L: Keys
    at_L: Keys
    type_L: NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """A leaderboard as read: `keys_N` best first, `scores_N` (comparable within the ranking only)."""

    keys_N: Keys
    scores_N: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class UserSide:
    """Everything read about the requester in one batched read; features are NaN where unknown."""

    features: Mapping[str, float] = field(default_factory=dict)
    histories: Mapping[HistoryNeed, History] = field(default_factory=dict)
    objects: Mapping[ObjectsNeed, Keys] = field(default_factory=dict)
    rankings: Mapping[RankingNeed, Ranking] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request for a feed. Times are µs; `t` is what every feature and filter of it sees the world at.

    `exclude` are the caller's keys, `skip` what the filters on this user's relations will drop (a hint that lets a
    source spend its k on other objects), both sorted, `prefix` the keys already shown in this scroll, in order.
    """

    request_id: str
    user_id: str
    t: int
    n: int
    user: int = NO_KEY
    surface: str = "default"
    exclude: Keys = field(default_factory=lambda: NO_KEYS)
    skip: Keys = field(default_factory=lambda: NO_KEYS)
    prefix: Keys = field(default_factory=lambda: NO_KEYS)
    context: Mapping[str, Any] = field(default_factory=dict)
    side: UserSide = field(default_factory=UserSide)
    assignments: Mapping[str, str] = field(default_factory=dict)
    deadline_us: int = 0
    width: float = 1.0
    seed: int = 0
    deltas: Mapping[str, Any] = field(default_factory=dict)
    """part → what it made of catalog rows that came after its artifact; see core.catalog."""

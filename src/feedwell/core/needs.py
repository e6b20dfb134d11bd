"""Needs: what a component wants read for it, declared as data and resolved at `check`.

No component fetches. It lists needs; the pipeline unites them into one batched read per entity and hands the values
over in the `Request` (user side, rankings) or in the `Candidates` (item side).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class FeatureNeed:
    """One declared feature column, such as `item_views_7d`."""

    column: str


@dataclass(frozen=True, slots=True)
class ColumnNeed:
    """A catalog column of an entity as a number: `ColumnNeed("item", "created_at")`; a category is its key."""

    entity: str
    column: str


@dataclass(frozen=True, slots=True)
class HistoryNeed:
    """The user's last `n` events (≤ 512) of those types: object keys and times, newest last."""

    events: tuple[str, ...]
    n: int = 100
    object: str = "item"


@dataclass(frozen=True, slots=True)
class ObjectsNeed:
    """All objects that the user stands in relation to: did one of the events and has not undone it. Keys, sorted."""

    events: tuple[str, ...]
    object: str = "item"
    subject: str = "user"


@dataclass(frozen=True, slots=True)
class RankingNeed:
    """The `k` best objects of a live leaderboard, best first, ties by smaller key.

    `decayed`: count of the events, each weighing 2^(-age / half_life_us); `newest`: by the time that the object's first
    catalog row became available (or its catalog column `created_at`).
    """

    by: Literal["decayed", "newest"]
    events: tuple[str, ...] = ()
    half_life_us: int = 0
    k: int = 1000
    object: str = "item"


Need = FeatureNeed | ColumnNeed | HistoryNeed | ObjectsNeed | RankingNeed

"""WorldConfig: everything that makes one simulated world, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from feedwell.core.errors import UsageError
from feedwell.data.world.words import EDITORIAL

START_TS = 1_767_571_200_000_000  # Monday 2026-01-05 00:00 UTC; a world has no wall clock


@dataclass(frozen=True, kw_only=True)
class Action:
    """What a user may do with an item that was examined, and how that depends on the hidden state.

    logit p = bias + slope · appeal + bait · clickbait + price · price_z, given that `after` happened in the same
    request and `unless` did not. `weight` is its part of the true utility. `once`: never again by this user on this
    object.
    """

    name: str
    bias: float
    slope: float
    after: str = "view"
    unless: str | None = None
    bait: float = 0.0
    price: float = 0.0
    weight: float = 0.0
    once: bool = False
    object: Literal["item", "creator"] = "item"
    value: Literal["none", "dwell", "price"] = "none"
    delay_median_s: float = 2.0
    delay_sigma: float = 0.5
    undone_by: str | None = None
    undo_share: float = 0.0
    undo_median_s: float = 1_800.0


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A place where slates are shown: its share of sessions and its number of slots."""

    name: str
    share: float
    n: int


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """One world. Weights `w_*` are in units of appeal, whose spread over a user's live items is about 1."""

    name: str
    topics: tuple[str, ...]
    actions: tuple[Action, ...]
    surfaces: tuple[Surface, ...]
    openers: tuple[str, ...] = EDITORIAL

    n_users: int = 800
    n_creators: int = 60
    n_items_at_start: int = 500
    items_per_day: float = 48.0
    days: int = 21
    start_ts: int = START_TS

    # people
    n_segments: int = 4
    segment_strength: float = 1.0
    personal_strength: float = 0.8
    age_groups: tuple[str, ...] = ("18-24", "25-34", "35-49", "50+")
    countries: tuple[str, ...] = ("DE", "US", "BR", "IN", "JP")
    late_signup_share: float = 0.25
    sessions_per_day: float = 0.8
    activity_sigma: float = 0.8
    pages_mean: float = 1.6
    page_gap_s: float = 75.0
    follows_at_signup: float = 0.0

    # tastes
    taste_dim: int = 8
    drift_per_day: float = 0.05
    drift_pull: float = 0.02
    shift_angle: float = 1.2
    trend_sigma: float = 0.2
    trend_memory: float = 0.8
    burst_share: float = 0.0
    burst_size: float = 2.0

    # items
    freshness_half_life_h: float = 24.0
    item_life_h: float = 24.0 * 7
    age_at_start_h: float = 24.0 * 7
    price_median: float | None = None
    price_sigma: float = 0.7

    # appeal, shown or learnable
    w_taste: float = 0.7
    w_fresh: float = 1.0
    w_trend: float = 0.5
    w_follow: float = 0.6
    w_creator: float = 0.25
    w_price: float = 0.0
    w_repeat: float = 1.0
    w_fatigue: float = 0.35
    w_novelty: float = 0.3
    fatigue_half_life_h: float = 12.0
    # appeal, hidden
    w_quality: float = 0.6
    w_mood: float = 0.6
    w_mood_gravity: float = 1.0
    w_triple: float = 0.5

    # attention: p(examined) at slot s, counted from 1, is floor + (1 - floor) · s ** -steepness
    examine_floor: float = 0.1
    examine_steepness: float = 0.6

    def __post_init__(self) -> None:
        _check_chain(self)
        if abs(sum(s.share for s in self.surfaces) - 1.0) > 1e-9:
            raise UsageError(f"world '{self.name}': the surfaces' shares must sum to 1")
        if self.taste_dim % 2:
            raise UsageError(f"world '{self.name}': taste_dim is {self.taste_dim}, expected an even number")

    def scaled(self, factor: float) -> WorldConfig:
        """The same world with `factor` times as many users, creators and items."""
        return replace(
            self,
            n_users=max(1, round(self.n_users * factor)),
            n_creators=max(2, round(self.n_creators * factor)),
            n_items_at_start=max(1, round(self.n_items_at_start * factor)),
            items_per_day=self.items_per_day * factor,
        )


def _check_chain(config: WorldConfig) -> None:
    known = {"view"}
    for action in config.actions:
        for name in (action.after, action.unless):
            if name is not None and name not in known:
                raise UsageError(f"world '{config.name}': action '{action.name}' needs '{name}' declared before it")
        if action.unless and _named(config, action.unless).after != action.after:
            raise UsageError(f"world '{config.name}': '{action.name}' and its `unless` must follow the same action")
        known.add(action.name)


def _named(config: WorldConfig, name: str) -> Action:
    return next(action for action in config.actions if action.name == name)

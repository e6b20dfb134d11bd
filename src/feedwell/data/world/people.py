"""The people: who they are (partly shown), what they like (hidden), how often they come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feedwell.core.clock import DAY
from feedwell.core.rng import stream
from feedwell.data.world.config import WorldConfig
from feedwell.data.world.events import USER, USERS, ids_of
from feedwell.data.world.noise import Float, Int


@dataclass(frozen=True, kw_only=True)
class People:
    """Columns over U users. Hidden: segment, rate, price sensitivity, home taste."""

    segment_U: Int
    age_group_U: Int
    country_U: Int
    signup_at_U: Int
    rate_U: Float
    price_sensitivity_U: Float
    home_UD: Float

    def __len__(self) -> int:
        return len(self.segment_U)

    def table(self, config: WorldConfig, until_ts: int | None) -> pa.Table:
        """The shown columns of those who signed up before `until_ts` (all when None)."""
        rows = np.flatnonzero(self.signup_at_U < until_ts) if until_ts is not None else np.arange(len(self))
        columns = {
            "user_id": ids_of(USER, rows),
            "age_group": [config.age_groups[g] for g in self.age_group_U[rows]],
            "country": [config.countries[c] for c in self.country_U[rows]],
            "signup_at": self.signup_at_U[rows],
        }
        return pa.table(columns, schema=USERS)


def make_people(config: WorldConfig, seed: int, topics_CD: Float) -> People:
    """The population of (config, seed). A segment shows only partly: 60 % in the age group, 30 % in the country."""
    rng, n = stream(seed, "world", "people"), config.n_users
    segment_U = rng.choice(config.n_segments, n, p=_decreasing(config.n_segments, 0.7))
    segment_activity = np.exp(rng.normal(0.0, 0.4, config.n_segments))
    rate_U = segment_activity[segment_U] * np.exp(rng.normal(0.0, config.activity_sigma, n))
    return People(
        segment_U=segment_U,
        age_group_U=_correlated(rng, segment_U, len(config.age_groups), 0.6),
        country_U=_correlated(rng, segment_U, len(config.countries), 0.3),
        signup_at_U=_signups(config, rng),
        rate_U=config.sessions_per_day * rate_U / rate_U.mean(),
        price_sensitivity_U=np.exp(rng.normal(0.0, 0.5, n)),
        home_UD=_homes(config, rng, segment_U, topics_CD),
    )


def unit(vectors: Float) -> Float:
    """Rows scaled to length one."""
    scaled: Float = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def _decreasing(n: int, power: float) -> Float:
    weights = (1.0 + np.arange(n)) ** -power
    shares: Float = weights / weights.sum()
    return shares


def _correlated(rng: np.random.Generator, segment_U: Int, n_values: int, strength: float) -> Int:
    free = rng.choice(n_values, len(segment_U), p=_decreasing(n_values, 0.5))
    return np.where(rng.random(len(segment_U)) < strength, segment_U % n_values, free)


def _signups(config: WorldConfig, rng: np.random.Generator) -> Int:
    late = rng.random(config.n_users) < config.late_signup_share
    before = config.start_ts - rng.integers(DAY, 180 * DAY, config.n_users)
    during = config.start_ts + rng.integers(0, config.days * DAY, config.n_users)
    return np.where(late, during, before)


def _homes(config: WorldConfig, rng: np.random.Generator, segment_U: Int, topics_CD: Float) -> Float:
    """Where tastes are pulled to: two topics of the segment, plus the person's own direction."""
    liked = np.stack([rng.choice(len(topics_CD), 2, replace=len(topics_CD) < 2) for _ in range(config.n_segments)])
    centre_UD = unit(topics_CD[liked].sum(axis=1))[segment_U]
    own_UD = unit(rng.normal(size=centre_UD.shape))
    return unit(config.segment_strength * centre_UD + config.personal_strength * own_UD)

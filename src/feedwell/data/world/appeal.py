"""Appeal: how much an examined item speaks to a user at a moment. The one number that all actions lean on.

Two parts are interactions that no built-in model has: gravity counts only beyond a threshold of a mood that no log
shows, and segment × time of day × topic is a table without structure (the segment is hidden, too).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feedwell.core.clock import DAY, HOUR
from feedwell.core.rng import stream
from feedwell.data.world import noise
from feedwell.data.world.catalog import Catalog, Creators, Items
from feedwell.data.world.config import WorldConfig
from feedwell.data.world.drift import Tastes, Trends
from feedwell.data.world.memory import Memory, weight_of
from feedwell.data.world.noise import Float, Int
from feedwell.data.world.people import People

DAYPARTS = 4  # night, morning, afternoon, evening
MOOD_THRESHOLD = GRAVITY_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class Nature:
    """Everything in a world that responses do not change."""

    config: WorldConfig
    seed: int
    people: People
    creators: Creators
    catalog: Catalog
    tastes: Tastes
    trends: Trends


class Appeal:
    """The appeal of items to a user at a time, given what the user remembers."""

    def __init__(self, nature: Nature, memory: Memory) -> None:
        self._nature, self._memory = nature, memory
        shape = (nature.config.n_segments, DAYPARTS, len(nature.config.topics))
        self._triple_GPC = stream(nature.seed, "world", "triple").normal(size=shape)
        self._mood_root = noise.channel(nature.seed, "mood")

    def mood(self, user: int, ts: int) -> float:
        """The user's mood, standard normal, one draw per user and clock hour: in effect per session."""
        return noise.normal_at(self._mood_root, user, ts // HOUR)

    def __call__(self, user: int, rows_N: Int, ts: int) -> Float:
        """Appeal of each item, shape N, spread about 1 over a user's live items."""
        items = self._nature.catalog.items(ts)
        return (
            self._liking(user, items, rows_N, ts)
            + self._moment(user, items, rows_N, ts)
            + self._memory_part(user, items, rows_N, ts)
        )

    def _liking(self, user: int, items: Items, rows_N: Int, ts: int) -> Float:
        """Taste, quality of item and creator, price."""
        nature, config = self._nature, self._nature.config
        # √D makes the affinity of two random directions spread like a standard normal, whatever D.
        affinity_N = items.vector_ND[rows_N] @ nature.tastes.at(user, ts) * np.sqrt(config.taste_dim)
        priced_N = nature.people.price_sensitivity_U[user] * items.gravity_N[rows_N]
        liking_N: Float = (
            config.w_taste * affinity_N
            + config.w_quality * items.quality_N[rows_N]
            + config.w_creator * nature.creators.quality_M[items.creator_N[rows_N]]
            - config.w_price * priced_N
        )
        return liking_N

    def _moment(self, user: int, items: Items, rows_N: Int, ts: int) -> Float:
        """Freshness, trend, mood, mood × gravity, segment × time of day × topic."""
        nature, config = self._nature, self._nature.config
        topic_N, mood = items.topic_N[rows_N], self.mood(user, ts)
        fresh_N = np.exp2(-(ts - items.created_at_N[rows_N]) / (config.freshness_half_life_h * HOUR))
        grave_N = (items.gravity_N[rows_N] > GRAVITY_THRESHOLD) * _beyond(mood, MOOD_THRESHOLD)
        daypart = ts % DAY * DAYPARTS // DAY
        moment_N: Float = (
            config.w_fresh * fresh_N
            + config.w_trend * nature.trends.at(ts)[topic_N]
            + config.w_mood * mood
            + config.w_mood_gravity * grave_N
            + config.w_triple * self._triple_GPC[nature.people.segment_U[user], daypart, topic_N]
        )
        return moment_N

    def _memory_part(self, user: int, items: Items, rows_N: Int, ts: int) -> Float:
        """Following, fatigue of item, creator and topic, and the pull of a topic not seen for a while."""
        config, memory = self._nature.config, self._memory
        creator_N, topic_N = items.creator_N[rows_N], items.topic_N[rows_N]
        seen_L, weight_L = memory.recent(user, ts, config.fatigue_half_life_h)
        topic_seen_N = weight_of(topic_N, items.topic_N[seen_L], weight_L)
        tired_N = weight_of(creator_N, items.creator_N[seen_L], weight_L) + 0.25 * topic_seen_N
        part_N: Float = (
            config.w_follow * memory.has("follow", user, creator_N.tolist(), ts)
            - config.w_repeat * weight_of(rows_N, seen_L, weight_L)
            - config.w_fatigue * tired_N
            + config.w_novelty * np.exp(-topic_seen_N)
        )
        return part_N


def _beyond(mood: float, threshold: float) -> int:
    """+1 above the threshold, -1 below its negative, else 0."""
    return int(mood > threshold) - int(mood < -threshold)

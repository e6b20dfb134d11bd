"""The things: creators, and items that arrive day by day. Row number = order of arrival, so "live" is a slice."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from feedwell.core.clock import DAY, HOUR
from feedwell.core.rng import stream
from feedwell.data.world.config import WorldConfig
from feedwell.data.world.drift import day_of
from feedwell.data.world.events import CATEGORY, CREATOR, ITEM, ITEMS, ids_of
from feedwell.data.world.noise import Float, Int
from feedwell.data.world.people import unit
from feedwell.data.world.words import TOPIC_WORDS


@dataclass(frozen=True, kw_only=True)
class Creators:
    """Columns over creators: home topic, share of the items made, hidden quality, hidden vector."""

    topic_M: Int
    share_M: Float
    quality_M: Float
    vector_MD: Float

    def __len__(self) -> int:
        return len(self.topic_M)


@dataclass(frozen=True, kw_only=True)
class Items:
    """Columns over N items in order of arrival.

    Shown: created_at, topic, creator, price, title (opener and words). Hidden: quality, clickbait, gravity (it is the
    standardised log price where there are prices), vector.
    """

    created_at_N: Int
    topic_N: Int
    creator_N: Int
    opener_N: Int
    words_N2: Int
    price_N: Float
    quality_N: Float
    bait_N: Float
    gravity_N: Float
    vector_ND: Float

    def __len__(self) -> int:
        return len(self.created_at_N)


def make_topics(config: WorldConfig, seed: int) -> Float:
    """The centre of each topic on the sphere, shape C × D."""
    return unit(stream(seed, "world", "topics").normal(size=(len(config.topics), config.taste_dim)))


def make_creators(config: WorldConfig, seed: int, topics_CD: Float) -> Creators:
    """The creators of (config, seed); a few make most items."""
    rng, n = stream(seed, "world", "creators"), config.n_creators
    topic_M = rng.integers(0, len(topics_CD), n)
    weight_M = (1.0 + np.arange(n)) ** -0.8
    return Creators(
        topic_M=topic_M,
        share_M=weight_M / weight_M.sum(),
        quality_M=rng.normal(size=n),
        vector_MD=unit(topics_CD[topic_M] + 0.5 * unit(rng.normal(size=(n, config.taste_dim)))),
    )


class Catalog:
    """All items that have arrived; grows by whole days when a later time is asked for, each day from its own stream."""

    def __init__(self, config: WorldConfig, seed: int, topics_CD: Float, creators: Creators) -> None:
        self._config, self._seed = config, seed
        self._topics_CD, self._creators = topics_CD, creators
        words = stream(seed, "world", "words")
        self._n_words = min(len(TOPIC_WORDS[topic]) for topic in config.topics)
        self._words_CWD = unit(words.normal(size=(len(config.topics), self._n_words, config.taste_dim)))
        self._topic_price_C = words.normal(0.0, 0.5, len(config.topics))
        age = round(config.age_at_start_h * HOUR)
        self._items = self._batch("start", config.n_items_at_start, config.start_ts - age, config.start_ts)
        self._n_days = 0

    def items(self, until_ts: int) -> Items:
        """Every item known by then, and up to a day of later ones: mask by `arrived(ts)`."""
        while self._n_days <= day_of(self._config, until_ts):
            start = self._config.start_ts + self._n_days * DAY
            count = int(stream(self._seed, "world", "arrivals", str(self._n_days)).poisson(self._config.items_per_day))
            self._items = _joined(self._items, self._batch(str(self._n_days), count, start, start + DAY))
            self._n_days += 1
        return self._items

    def arrived(self, ts: int) -> int:
        """How many items were created before `ts`: rows 0 ... that - 1."""
        return int(np.searchsorted(self.items(ts).created_at_N, ts, side="left"))

    def live(self, ts: int) -> Int:
        """Rows of the items that exist at `ts` and are younger than the world's item life."""
        oldest = ts - round(self._config.item_life_h * HOUR)
        first = int(np.searchsorted(self.items(ts).created_at_N, oldest, side="left"))
        return np.arange(first, self.arrived(ts))

    def table(self, until_ts: int) -> pa.Table:
        """The shown columns of the items created before `until_ts`."""
        items, n = self.items(until_ts), self.arrived(until_ts)
        columns = {
            "item_id": ids_of(ITEM, np.arange(n)),
            "title": [self._title(row) for row in range(n)],
            "category": ids_of(CATEGORY, items.topic_N[:n]),
            "creator_id": ids_of(CREATOR, items.creator_N[:n]),
            "price": pa.array(items.price_N[:n], from_pandas=True),
            "created_at": items.created_at_N[:n],
        }
        return pa.table(columns, schema=ITEMS)

    def _title(self, row: int) -> str:
        words = TOPIC_WORDS[self._config.topics[self._items.topic_N[row]]]
        first, second = self._items.words_N2[row]
        return f"{self._config.openers[self._items.opener_N[row]]} {words[first]} {words[second]}"

    def _batch(self, name: str, n: int, start: int, end: int) -> Items:
        """Items created in [start, end), sorted by time, drawn from the stream of that name."""
        config, rng = self._config, stream(self._seed, "world", "items", name)
        creator_N = rng.choice(len(self._creators), n, p=self._creators.share_M)
        at_home = rng.random(n) < 0.75
        topic_N = np.where(at_home, self._creators.topic_M[creator_N], rng.integers(0, len(config.topics), n))
        words_N2 = np.argsort(rng.random((n, self._n_words)), axis=1)[:, :2]
        gravity_N = rng.normal(size=n)
        return Items(
            created_at_N=np.sort(rng.integers(start, end, n)),
            topic_N=topic_N,
            creator_N=creator_N,
            opener_N=rng.integers(0, len(config.openers), n),
            words_N2=words_N2,
            price_N=self._prices(topic_N, gravity_N),
            quality_N=rng.normal(size=n),
            bait_N=rng.normal(size=n),
            gravity_N=gravity_N,
            vector_ND=self._vectors(rng, topic_N, creator_N, words_N2),
        )

    def _prices(self, topic_N: Int, gravity_N: Float) -> Float:
        if self._config.price_median is None:
            return np.full(len(topic_N), np.nan)
        log_N = self._topic_price_C[topic_N] + self._config.price_sigma * gravity_N
        return np.round(self._config.price_median * np.exp(log_N), 2)

    def _vectors(self, rng: np.random.Generator, topic_N: Int, creator_N: Int, words_N2: Int) -> Float:
        """Topic, title words and creator show a part of the vector; the rest is the item's own and shown nowhere."""
        words_ND = self._words_CWD[topic_N[:, None], words_N2].mean(axis=1)
        own_ND = unit(rng.normal(size=(len(topic_N), self._config.taste_dim)))
        creator_ND = self._creators.vector_MD[creator_N]
        return unit(self._topics_CD[topic_N] + 0.6 * words_ND + 0.4 * creator_ND + 0.5 * own_ND)


def _joined(first: Items, second: Items) -> Items:
    columns = {f.name: np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Items)}
    return Items(**columns)

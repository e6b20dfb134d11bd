"""Visits: who could come when. Drawn per day from its own stream; whether they do is decided when their time comes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from feedwell.core.clock import DAY, HOUR, SECOND
from feedwell.core.rng import stream
from feedwell.data.world.config import WorldConfig
from feedwell.data.world.drift import day_of
from feedwell.data.world.noise import Float, Int
from feedwell.data.world.people import People

MAX_PAGES = 6
# Share of sessions that begin in each hour UTC: a quiet night, a lunch hump, an evening peak.
HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 6, 5, 5, 6, 8, 7, 5, 5, 5, 6, 8, 10, 11, 10, 7, 4], np.float64)


@dataclass(frozen=True, kw_only=True)
class Visits:
    """Possible page requests of one day, in order of time; `number` counts the day's sessions."""

    ts_S: Int
    user_S: Int
    number_S: Int
    page_S: Int
    surface_S: Int
    day_S: Int


class Timetable:
    """All possible visits, ordered by time; equal in every arm of a comparison."""

    def __init__(self, config: WorldConfig, seed: int, people: People) -> None:
        self._config, self._seed, self._people = config, seed, people
        self._born = lru_cache(maxsize=4)(self._sessions_of)

    def between(self, day: int) -> Visits:
        """The visits whose time falls into that day, pages of sessions begun the day before included."""
        begun = [self._born(d) for d in (day - 1, day) if d >= 0]
        columns = [np.concatenate([getattr(v, name) for v in begun]) for name in Visits.__dataclass_fields__]
        start = self._config.start_ts + day * DAY
        inside = np.flatnonzero((columns[0] >= start) & (columns[0] < start + DAY))
        order = inside[np.argsort(columns[0][inside], kind="stable")]
        return Visits(**{name: c[order] for name, c in zip(Visits.__dataclass_fields__, columns, strict=True)})

    def days(self, start_ts: int, end_ts: int) -> range:
        """The days that [start_ts, end_ts) touches."""
        return range(day_of(self._config, start_ts), day_of(self._config, end_ts - 1) + 1)

    def _sessions_of(self, day: int) -> Visits:
        config, rng = self._config, stream(self._seed, "world", "visits", str(day))
        count_U = rng.poisson(self._people.rate_U)
        user_S = np.repeat(np.arange(len(self._people)), count_U)
        n = len(user_S)
        hour_S = rng.choice(24, n, p=HOURS / HOURS.sum())
        ts_S = config.start_ts + day * DAY + hour_S * HOUR + rng.integers(0, HOUR, n)
        surface_S = rng.choice(len(config.surfaces), n, p=[s.share for s in config.surfaces])
        pages_S = np.minimum(rng.geometric(1.0 / config.pages_mean, n), MAX_PAGES)
        gap_S = np.exp(rng.normal(0.0, 0.3, n)) * config.page_gap_s * SECOND
        return _paged(ts_S, user_S, surface_S, pages_S, gap_S, day)


def _paged(ts_S: Int, user_S: Int, surface_S: Int, pages_S: Int, gap_S: Float, day: int) -> Visits:
    """One row per page: page p comes p gaps after the first."""
    row_P = np.repeat(np.arange(len(ts_S)), pages_S)
    page_P = np.arange(len(row_P)) - np.repeat(np.cumsum(pages_S) - pages_S, pages_S)
    return Visits(
        ts_S=ts_S[row_P] + (page_P * gap_S[row_P]).astype(np.int64),
        user_S=user_S[row_P],
        number_S=row_P,
        page_S=page_P,
        surface_S=surface_S[row_P],
        day_S=np.full(len(row_P), day),
    )

"""What is new: the items that arrived last."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from feedwell.core.candidates import Retrieved
from feedwell.core.clock import HOUR
from feedwell.core.durations import Duration
from feedwell.core.keys import avoided
from feedwell.core.needs import Need, RankingNeed
from feedwell.core.protocols import Examples, Setting, serve
from feedwell.core.registry import source
from feedwell.core.request import Request
from feedwell.sources._source import NOTHING, SourceConfig, best_of, wanted


@source("fresh")
class Fresh:
    """The `k` newest items, newest first; scores are minus the age in hours, so that they mean the same next year.

    The leaderboard's own scores are the times of arrival, µs (`created_at` where the catalog has it).
    """

    examples: ClassVar[Examples] = ({}, {"max_age": "2d", "k": 5})

    class Config(SourceConfig):
        max_age: Duration | None = serve(None)
        """Nothing older is returned; default: no limit."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._need = RankingNeed("newest", k=max(1000, 2 * config.k))

    @property
    def needs(self) -> tuple[Need, ...]:
        return (self._need,)

    def __call__(self, request: Request) -> Retrieved:
        ranking = request.side.rankings.get(self._need)
        if ranking is None:
            return NOTHING
        age_N = request.t - ranking.scores_N
        limit = np.inf if self.config.max_age is None else self.config.max_age
        young_N = age_N <= limit
        return best_of(
            ranking.keys_N[young_N], -age_N[young_N] / HOUR, avoided(request), wanted(request, self.config.k)
        )

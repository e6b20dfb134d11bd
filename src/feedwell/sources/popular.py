"""What is popular: a count of events in which each weighs 2^(-age / half_life)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from feedwell.core.candidates import Float, Retrieved
from feedwell.core.clock import DAY
from feedwell.core.durations import Duration
from feedwell.core.errors import NotTrained
from feedwell.core.keys import avoided
from feedwell.core.needs import Need, RankingNeed
from feedwell.core.protocols import Examples, Interactions, Setting, fit
from feedwell.core.registry import source
from feedwell.core.request import Keys, Ranking, Request
from feedwell.sources._source import NOTHING, SourceConfig, best_of, positive_events, wanted
from feedwell.stores.arrays import load_arrays, save_arrays

_FILE = "popular.safetensors"


@source("popular")
class Popular:
    """The `k` items with the greatest decayed count, ties by smaller key; scores are the counts.

    `live` reads the leaderboard that the projector keeps, so an event counts within 100 ms; otherwise the counts of the
    last `fit` serve, decayed to the end of its data.
    """

    examples: ClassVar[Examples] = ({}, {"live": False, "events": ("like",), "half_life": "12h"})

    class Config(SourceConfig):
        events: tuple[str, ...] = fit(())
        """Default: every type but undoing ones and those of a `down` objective."""
        half_life: Duration = fit(7 * DAY, gt=0)
        live: bool = fit(True)

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.learns = not config.live
        self._setting = setting
        self._events = positive_events(config.events, setting)
        # Room for what a user has seen: the leaderboard is read once for all users.
        self._need = RankingNeed("decayed", self._events, config.half_life, max(1000, 2 * config.k))
        self._fitted: Ranking | None = None

    @property
    def needs(self) -> tuple[Need, ...]:
        return (self._need,) if self.config.live else ()

    def __call__(self, request: Request) -> Retrieved:
        ranking = request.side.rankings.get(self._need) if self.config.live else self._trained()
        if ranking is None:
            return NOTHING
        return best_of(ranking.keys_N, ranking.scores_N, avoided(request), wanted(request, self.config.k))

    def batch(self, requests: Sequence[Request]) -> list[Retrieved]:
        return [self(request) for request in requests]

    def fit(self, data: Interactions) -> None:
        events = data.of(self._events)
        keys_N, scores_N = decayed_counts(events.item_E, events.at_E, data.until, self.config.half_life)
        best_first = np.lexsort((keys_N, -scores_N))
        self._fitted = Ranking(keys_N=keys_N[best_first], scores_N=scores_N[best_first])

    def save(self, folder: Path) -> None:
        ranking = self._trained()
        save_arrays(folder / _FILE, {"keys": ranking.keys_N, "scores": ranking.scores_N})

    def load(self, folder: Path) -> None:
        arrays = load_arrays(folder / _FILE, ("keys", "scores"))
        self._fitted = Ranking(keys_N=arrays["keys"].astype(np.int64), scores_N=arrays["scores"].astype(np.float64))

    def _trained(self) -> Ranking:
        if self._fitted is None:
            raise NotTrained.of(self._setting.name)
        return self._fitted


def decayed_counts(item_E: Keys, at_E: Keys, until: int, half_life_us: int) -> tuple[Keys, Float]:
    """(keys ascending, Σ 2^(-(until - at) / half_life)) over the events of each item."""
    weight_E = np.exp2(-(until - at_E) / half_life_us)
    keys_N, row_E = np.unique(item_E, return_inverse=True)
    return keys_N, np.bincount(row_E, weights=weight_E, minlength=len(keys_N)).astype(np.float64)

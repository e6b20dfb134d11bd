"""decayed_count: how many events, each weighing 2^(-age / half_life), tile by tile, back to 8 half-lives.

An event's age is counted in whole tiles from its own to t's, so that it weighs 1 until t leaves its tile. No event,
unknown or null key: 0. Readings agree within 1e-9, relative: the sum is of floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from feedwell.core.clock import MINUTE
from feedwell.core.durations import Duration
from feedwell.core.protocols import PartConfig
from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values
from feedwell.features.measures import Decayed, Measure, Tally


@aggregate("decayed_count")
class DecayedCount(Aggregate):
    class Config(PartConfig):
        half_life: Duration = Field(ge=MINUTE)

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        return (Decayed(Tally(self.declared.selection), self.config.half_life),)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        return values[0]

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        half_life = self.config.half_life
        reach = 8 * half_life
        hop = 60_000_000
        for longest, coarser in ((2 * 3600, 900), (2 * 86400, 3600), (14 * 86400, 21600)):
            if reach > longest * 1_000_000:
                hop = coarser * 1_000_000
        total = 0.0
        for event in facts:
            tiles_ago = t // hop - event["available_at"] // hop
            if tiles_ago <= math.ceil(reach / hop):
                total += 2.0 ** (-tiles_ago * hop / half_life)
        return total

"""count: how many events. No event, unknown or null key: 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values
from feedwell.features.measures import Measure, Tally, Windowed


@aggregate("count")
class Count(Aggregate):
    windowed = True

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        return (Windowed(Tally(self.declared.selection), window),)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        return values[0].astype(np.float64)

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        return float(len([e for e in facts if since is None or e["available_at"] >= since]))

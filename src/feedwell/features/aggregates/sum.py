"""sum: the events' values added up, exact to the declared scale. No event, unknown or null key: 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values
from feedwell.features.measures import Measure, Tally, Windowed


@aggregate("sum")
class Sum(Aggregate):
    windowed = True

    def check(self) -> None:
        self.scale = self.declared.value_scale

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        return (Windowed(Tally(self.declared.selection, "value"), window),)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        return values[0] / self.scale

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        total = 0
        for event in facts:
            if event["value_scaled"] is not None and (since is None or event["available_at"] >= since):
                total += event["value_scaled"]
        return total / self.scale

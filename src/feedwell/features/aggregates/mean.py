"""mean: the average value of the events that have one. None, unknown or null key: NaN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values, ratio
from feedwell.features.measures import Measure, Tally, Windowed


@aggregate("mean")
class Mean(Aggregate):
    windowed = True

    def check(self) -> None:
        self.scale = self.declared.value_scale

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        chosen = self.declared.selection
        return Windowed(Tally(chosen, "value"), window), Windowed(Tally(chosen, "valued"), window)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        return ratio(values[0], values[1] * self.scale)

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        cells = [e["value_scaled"] for e in facts if since is None or e["available_at"] >= since]
        cells = [cell for cell in cells if cell is not None]
        return sum(cells) / (len(cells) * self.scale) if cells else float("nan")

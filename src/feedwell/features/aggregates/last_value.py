"""last_value: the value of the last event that has one, to the declared scale. None, unknown or null key: NaN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values, as_float
from feedwell.features.measures import LastValue as LastValueMeasure
from feedwell.features.measures import Measure


@aggregate("last_value")
class LastValue(Aggregate):
    def check(self) -> None:
        self.scale = self.declared.value_scale

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        return (LastValueMeasure(self.declared.selection),)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        return as_float(values[0], self.scale)

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        cells = [e["value_scaled"] for e in facts if e["value_scaled"] is not None]
        return cells[-1] / self.scale if cells else float("nan")

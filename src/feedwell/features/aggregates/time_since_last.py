"""time_since_last: seconds from the last event to t. No event, unknown or null key: NaN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values, seconds_since
from feedwell.features.measures import Measure, Moment


@aggregate("time_since_last")
class TimeSinceLast(Aggregate):
    def measures(self, window: int | None) -> tuple[Measure, ...]:
        return (Moment(self.declared.selection, "last"),)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        return seconds_since(values[0], t)

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        return (t - max(e["available_at"] for e in facts)) / 1e6 if facts else float("nan")

"""rate: events of `numerator` per event of `events` in the same window. No denominator, unknown or null key: NaN.

It is a plain fact: smoothing belongs to the model. It may exceed 1 where the numerator's events outnumber the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.core.protocols import PartConfig
from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values, ratio
from feedwell.features.measures import Measure, Selection, Tally, Windowed


@aggregate("rate")
class Rate(Aggregate):
    windowed = True

    class Config(PartConfig):
        numerator: tuple[str, ...]

    def check(self) -> None:
        if not self.config.numerator:
            raise ValueError("`numerator` names no events")

    @property
    def above(self) -> Selection:
        return Selection(self.config.numerator, self.declared.selection.where)

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        return Windowed(Tally(self.above), window), Windowed(Tally(self.declared.selection), window)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        return ratio(values[0], values[1])

    def reference_facts(self) -> tuple[Selection, ...]:
        return (self.declared.selection, self.above)

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        above = below = 0
        for event in facts:
            if since is None or event["available_at"] >= since:
                above += event["type"] in self.config.numerator
                below += event["type"] in self.declared.selection.events
        return above / below if below else float("nan")

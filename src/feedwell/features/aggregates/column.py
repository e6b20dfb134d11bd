"""column: a numeric catalog column as of t, or the key of the entity that derives from it. Missing: NaN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.core.protocols import PartConfig
from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values
from feedwell.features.measures import CatalogNumber, Measure, Selection


@aggregate("column")
class Column(Aggregate):
    needs_events = False

    class Config(PartConfig):
        column: str

    def check(self) -> None:
        if len(self.declared.entities) != 1:
            raise ValueError("a catalog column belongs to one entity")

    @property
    def entity(self) -> str:
        return self.declared.entities[0]

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        return (CatalogNumber(self.entity, self.config.column),)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        return values[0]

    def reference_facts(self) -> tuple[Selection, ...]:
        return (Selection(("$" + self.entity,)),)

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        if not facts:
            return float("nan")
        for derived, origin in self.declared.project.derived_entities.items():
            if origin == (self.entity, self.config.column):
                return float(facts[-1][derived]) if facts[-1][derived] >= 0 else float("nan")
        cell = facts[-1]["payload"].get(self.config.column)
        return float(cell) if isinstance(cell, (int, float)) else float("nan")

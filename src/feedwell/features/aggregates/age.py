"""age: seconds since the key's first event (of any type unless `events` are given), or since its catalog creation.

`since = "first_event"` or `since = "catalog"` (the entity's `created_at` column). No event or row: NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from feedwell.core.protocols import PartConfig
from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values, seconds_since
from feedwell.features.measures import CatalogNumber, Measure, Moment


@aggregate("age")
class Age(Aggregate):
    needs_events = False

    class Config(PartConfig):
        since: Literal["first_event", "catalog"] = "first_event"

    def check(self) -> None:
        if self.config.since == "catalog":
            entity = self.declared.project.entity.get(self.declared.entities[0])
            if len(self.declared.entities) != 1 or entity is None or not entity.created_at:
                raise ValueError(
                    'since = "catalog" needs one entity whose [entity] section names its `created_at` column'
                )

    @property
    def created_at(self) -> str:
        return self.declared.project.entity[self.declared.entities[0]].created_at or ""

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        if self.config.since == "catalog":
            return (CatalogNumber(self.declared.entities[0], self.created_at),)
        return (Moment(self.declared.selection, "first"),)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        if self.config.since == "catalog":
            return (t - values[0]) / 1e6
        return seconds_since(values[0], t)

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        if self.config.since == "catalog":
            row = facts[-1]["payload"] if facts else {}
            created = row.get(self.created_at)
            return float("nan") if created is None else (t - float(created)) / 1e6
        return (t - min(e["available_at"] for e in facts)) / 1e6 if facts else float("nan")

    def reference_facts(self) -> tuple:  # type: ignore[type-arg]
        if self.config.since == "catalog":
            return (type(self.declared.selection)(("$" + self.declared.entities[0],)),)
        return (self.declared.selection,)

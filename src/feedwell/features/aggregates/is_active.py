"""is_active: 1 where the user stands in a relation of any of these types to the object (did it, not undone), else 0.

What undoes a type is declared once, `[event.follow] undone_by = "unfollow"`. A repeated do and an undo of nothing
change nothing. Unknown or null key: 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values
from feedwell.features.measures import Active, Measure, Selection


@aggregate("is_active")
class IsActive(Aggregate):
    def check(self) -> None:
        events, project = self.declared.selection.events, self.declared.project
        objects = {project.objects_of(e) for e in events}
        if len(objects) != 1 or set(self.declared.entities) != {"user", *objects} or "user" in objects:
            raise ValueError('is_active is of a user and the one object of its events: entity = ["user", "item"]')
        if self.declared.selection.where:
            raise ValueError("is_active takes no `where`")

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        events = self.declared.selection.events
        return (Active(events, self.declared.project.objects_of(events[0])),)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        return values[0].astype(np.float64)

    def reference_facts(self) -> tuple[Selection, ...]:
        undo = self.declared.project.undone_by
        events = self.declared.selection.events
        return (Selection((*events, *(undo[e] for e in events if e in undo))),)

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        for event_type in self.declared.selection.events:
            standing = False
            for event in facts:
                if event["type"] == event_type:
                    standing = True
                elif event["type"] == self.declared.project.undone_by.get(event_type):
                    standing = False
            if standing:
                return 1.0
        return 0.0

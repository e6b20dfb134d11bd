"""active_count: how many (type, user, object) relations stand that name this key, as the user or as the object.

By user: objects that one follows now; by creator: followers now. Unknown or null key: 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate, Facts, Values
from feedwell.features.measures import ActiveTally, Measure, Selection, Windowed


@aggregate("active_count")
class ActiveCount(Aggregate):
    def check(self) -> None:
        project = self.declared.project
        for event in self.declared.selection.events:
            if project.objects_of(event) == "user":
                raise ValueError(f"'{event}' has users as objects; relations need an object entity other than user")
            if self.declared.entities not in (("user",), (project.objects_of(event),)):
                raise ValueError(f'active_count of \'{event}\' is by "user" or by "{project.objects_of(event)}"')
        if self.declared.selection.where:
            raise ValueError("active_count takes no `where`")

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        return tuple(Windowed(ActiveTally(event)) for event in self.declared.selection.events)

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.add.reduce(values, axis=0, dtype=np.float64)
        return total

    def reference_facts(self) -> tuple[Selection, ...]:
        undo = self.declared.project.undone_by
        events = self.declared.selection.events
        return (Selection((*events, *(undo[e] for e in events if e in undo))),)

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        standing = set()
        for event_type in self.declared.selection.events:
            other = self.declared.project.objects_of(event_type)
            for event in facts:
                triple = (event_type, event["user"], event[other])
                if event["user"] < 0 or event[other] < 0:
                    continue
                if event["type"] == event_type:
                    standing.add(triple)
                elif event["type"] == self.declared.project.undone_by.get(event_type):
                    standing.discard(triple)
        return float(len(standing))

"""Aggregate: a declared formula over measures. One file in `aggregates/` is one aggregate, whole:

its `Config` (the keys of `[feature.x]` beyond the common ones), the `measures` it needs kept, `finish` (their values
to the feature's, over columns), and `reference` (the same from a plain list of events, sharing nothing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from feedwell.core.needs import HistoryNeed
from feedwell.core.project import Project
from feedwell.core.protocols import PartConfig
from feedwell.features.measures import EMPTY, Measure, Selection

Values = NDArray[Any]
Facts = Sequence[Mapping[str, Any]]
"""For `reference`: the selected events of one key that are visible at t, as dicts in log order."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What an aggregate knows of its feature: the entities of its key, its events and the project around it."""

    feature: str
    entities: tuple[str, ...]
    selection: Selection
    windows: tuple[int, ...]
    project: Project

    @property
    def value_scale(self) -> int:
        """The one scale of the events' values; ValueError when they differ."""
        return self.scale_of(self.selection.events)

    def scale_of(self, events: Sequence[str]) -> int:
        scales = {self.project.event_section(e).value_scale for e in events or self.project.event or ("",)}
        if len(scales) > 1:
            raise ValueError(
                f"its events have values in different scales {sorted(scales)}: give them one `value_scale`"
            )
        return scales.pop()


class Aggregate:
    """Base of all. `windowed`: takes `windows`; `needs_events`: refuses to stand without declared events."""

    name: ClassVar[str]
    windowed: ClassVar[bool] = False
    needs_events: ClassVar[bool] = True

    class Config(PartConfig):
        pass

    def __init__(self, config: Any, declared: Declared) -> None:
        self.config = config
        self.declared = declared
        self.check()

    def check(self) -> None:
        """ValueError when the declaration cannot be served."""

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        raise NotImplementedError

    def finish(self, values: Sequence[Values], t: NDArray[np.int64]) -> NDArray[np.float64]:
        """The feature over rows: one column per measure in, float64 out (NaN = null)."""
        raise NotImplementedError

    def reference(self, facts: Facts, t: int, since: int | None) -> float:
        """The feature for one key at t, slowly: `facts` are visible; only those from `since` on are in the window."""
        raise NotImplementedError

    def history(self) -> HistoryNeed | None:
        """The sequence this feature is, where it is one and not a number."""
        return None

    def reference_facts(self) -> tuple[Selection, ...]:
        """The selections whose events `reference` is handed, together."""
        return (self.declared.selection,)


def as_float(column: Values, scale: int = 1) -> NDArray[np.float64]:
    """int64 facts as float64, NaN where EMPTY."""
    number = column.astype(np.float64)
    if scale != 1:
        number /= scale
    number[column == EMPTY] = np.nan
    return number


def ratio(above: Values, below: Values) -> NDArray[np.float64]:
    """above / below, NaN where `below` is 0."""
    out = np.full(len(above), np.nan)
    np.divide(above.astype(np.float64), below.astype(np.float64), out=out, where=below != 0)
    return out


def seconds_since(moment: Values, t: NDArray[np.int64]) -> NDArray[np.float64]:
    """(t - moment) in seconds, NaN where EMPTY."""
    gap = np.where(moment == EMPTY, 0, t - np.where(moment == EMPTY, 0, moment)).astype(np.float64) / 1e6
    gap[moment == EMPTY] = np.nan
    return gap

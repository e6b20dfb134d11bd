"""Measures: what is kept about a key. Every aggregate is a formula over these, so that each is stored and read once.

A measure's value is a column over rows: int64 facts (`EMPTY` where there is none), or float64 where it says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

EMPTY = int(np.iinfo(np.int64).min)
"""The int64 that stands for "no such fact"; no time and no scaled value reaches it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events count: their types (none: all but catalog events), and a `where` text, all of which must hold."""

    events: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """A sum over the selected events: 1 each (`events`), `value_scaled` (`value`), 1 for each value (`valued`)."""

    selection: Selection
    of: Literal["events", "value", "valued"] = "events"


@dataclass(frozen=True, slots=True)
class ActiveTally:
    """How many relations of this type stand now: +1 when one begins, -1 when it is undone."""

    event: str


@dataclass(frozen=True, slots=True)
class Windowed:
    """A tally over `[floor(t / hop) * hop - window, t)`; `window` None means all that is visible."""

    tally: Tally | ActiveTally
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Decayed:
    """Σ n(tile) · 2^(-(tiles ago) · hop / half_life), float64, from the current tile back to 8 half-lives."""

    tally: Tally
    half_life: int


@dataclass(frozen=True, slots=True)
class Moment:
    """`available_at` of the first or last selected event."""

    selection: Selection
    which: Literal["first", "last"]


@dataclass(frozen=True, slots=True)
class LastValue:
    """`value_scaled` of the last selected event that has a value."""

    selection: Selection


@dataclass(frozen=True, slots=True)
class Active:
    """1 where (user, object) stands in a relation of any of these types, else 0."""

    events: tuple[str, ...]
    object: str


@dataclass(frozen=True, slots=True)
class CatalogNumber:
    """A catalog column of the row's own entity as float64, NaN where missing; a derived entity's column is its key."""

    entity: str
    column: str


Measure = Windowed | Decayed | Moment | LastValue | Active | CatalogNumber

"""FeatureColumn: one number per row, as a declared feature gives it."""

from __future__ import annotations

from dataclasses import dataclass

from feedwell.features.aggregate import Aggregate
from feedwell.features.measures import Measure

Entities = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureColumn:
    """One number per row: `name` in every table, the declared `feature`, the `entities` of its key."""

    name: str
    feature: str
    entities: Entities
    aggregate: Aggregate
    window: int | None
    measures: tuple[Measure, ...]

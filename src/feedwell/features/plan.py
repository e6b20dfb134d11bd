"""What `latest` reads for a user or for candidates, worked out once per feature set: groups of columns by key tuple."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from feedwell.features.definition import FeatureSet
from feedwell.features.feature_column import Entities, FeatureColumn
from feedwell.features.measures import Active, CatalogNumber, Measure
from feedwell.features.rows import RowPlan, plan_rows


@dataclass(frozen=True, kw_only=True)
class PlanGroup:
    """The columns of one key tuple. Measures are numbered: those kept in `rows` first, then those `beside` them."""

    entities: Entities
    rows: RowPlan | None
    beside: tuple[CatalogNumber | Active, ...]
    columns: tuple[tuple[int, FeatureColumn, tuple[int, ...]], ...]
    """(place in the output, the column, its measures)"""
    shared: int | None
    """Which entity of the key is alone in differing between candidates while many have the same one; None: none is."""


@dataclass(frozen=True, kw_only=True)
class ReadPlan:
    groups: tuple[PlanGroup, ...]
    n_columns: int


@dataclass(frozen=True, kw_only=True)
class ReadPlans:
    user: ReadPlan
    item: ReadPlan


class _ById:
    """A feature set as a cache key: made once per release, and hashing all its content would cost more than a read."""

    def __init__(self, features: FeatureSet) -> None:
        self.features = features

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.features is self.features

    def __hash__(self) -> int:
        return id(self.features)


def plan_of(features: FeatureSet) -> ReadPlans:
    return _plans(_ById(features))


@lru_cache(maxsize=64)
def _plans(of: _ById) -> ReadPlans:
    features = of.features
    return ReadPlans(user=_plan(features, features.user_columns), item=_plan(features, features.item_columns))


def _plan(features: FeatureSet, columns: Sequence[FeatureColumn]) -> ReadPlan:
    groups: dict[Entities, list[tuple[int, FeatureColumn]]] = {}
    for at, column in enumerate(columns):
        groups.setdefault(column.entities, []).append((at, column))
    return ReadPlan(groups=tuple(_group(features, e, g) for e, g in groups.items()), n_columns=len(columns))


def _group(features: FeatureSet, entities: Entities, columns: Sequence[tuple[int, FeatureColumn]]) -> PlanGroup:
    measures = list(dict.fromkeys(m for _, column in columns for m in column.measures))
    beside = tuple(m for m in measures if isinstance(m, CatalogNumber | Active))
    kept: list[Measure] = [m for m in measures if not isinstance(m, CatalogNumber | Active)]
    place = {m: i for i, m in enumerate([*kept, *beside])}
    varying = [i for i, entity in enumerate(entities) if features.base_of(entity) == "item"]
    return PlanGroup(
        entities=entities,
        rows=plan_rows(features.facts[entities], kept) if kept else None,
        beside=beside,
        columns=tuple((at, column, tuple(place[m] for m in column.measures)) for at, column in columns),
        shared=varying[0] if len(varying) == 1 and entities[varying[0]] != "item" else None,
    )

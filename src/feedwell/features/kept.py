"""Which views the online state must keep: worked out from the columns and needs that will be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from feedwell.core.needs import HistoryNeed, Need, ObjectsNeed, RankingNeed
from feedwell.core.project import Project
from feedwell.features.feature_column import Entities, FeatureColumn
from feedwell.features.measures import (
    Active,
    ActiveTally,
    CatalogNumber,
    Decayed,
    LastValue,
    Measure,
    Moment,
    Selection,
    Windowed,
)
from feedwell.features.views import Catalog, CatalogRows, FactsDraft, Leaderboard, Relation, View
from feedwell.features.views import Sequence as SequenceView


def views_of(project: Project, columns: Sequence[FeatureColumn], needs: Sequence[Need]) -> tuple[View, ...]:
    """The views that have to be kept so that these columns and needs can be read."""
    found: dict[View, None] = {}
    related = {event: None for n in needs if isinstance(n, ObjectsNeed) for event in n.events}
    numbers: dict[str, dict[str, None]] = {}
    drafts: dict[Entities, FactsDraft] = {}
    for column in columns:
        for measure in column.measures:
            if isinstance(measure, Active):
                related.update(dict.fromkeys(measure.events))
            elif isinstance(measure, CatalogNumber):
                numbers.setdefault(measure.entity, {})[measure.column] = None
            else:
                _draft(drafts.setdefault(column.entities, FactsDraft(column.entities)), measure)
    relation_of = {e: (project.undone_by.get(e), project.objects_of(e)) for e in _event_types(columns, related)}
    for draft in drafts.values():
        found[draft.view(relation_of)] = None
    for event in sorted(related):
        found[Relation(event, *relation_of[event])] = None
    longest: dict[tuple[Entities, str], int] = {}
    for need in needs:
        if isinstance(need, HistoryNeed):
            longest[need.events, need.object] = max(need.n, longest.get((need.events, need.object), 0))
        elif isinstance(need, RankingNeed):
            found[leaderboard(project, need)] = None
    for (events, entity), n in longest.items():
        found[SequenceView(Selection(events), entity, n)] = None
    for entity in project.entities:
        _add_catalog(project, found, entity, numbers.get(entity, {}))
    return tuple(found)


def _event_types(columns: Sequence[FeatureColumn], related: Iterable[str]) -> set[str]:
    tallies = [m.tally for c in columns for m in c.measures if isinstance(m, Windowed)]
    return set(related) | {t.event for t in tallies if isinstance(t, ActiveTally)}


def _add_catalog(project: Project, found: dict[View, None], entity: str, wanted: Mapping[str, None]) -> None:
    origins = project.derived_entities
    derived = tuple(sorted((name, column) for name, (of, column) in origins.items() if of == entity))
    by_key = {column for _, column in derived}
    columns = tuple(sorted(c for c in wanted if c not in by_key))
    if derived or columns:
        found[Catalog(entity, derived, columns)] = None
    if entity in project.entity:
        found[CatalogRows(entity)] = None


def leaderboard(project: Project, need: RankingNeed) -> Leaderboard:
    """The view that serves the need."""
    section = project.entity.get(need.object)
    created_at = section.created_at if section and need.by == "newest" else None
    return Leaderboard(need.by, need.events, need.half_life_us, need.k, need.object, created_at)


def _draft(draft: FactsDraft, measure: Measure) -> None:
    match measure:
        case Windowed():
            draft.add_window(measure.tally, measure.window)
        case Decayed():
            draft.add_decay(measure.tally, measure.half_life)
        case Moment():
            draft.moments[measure] = None
        case LastValue():
            draft.last_values[measure] = None

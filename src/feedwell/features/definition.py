"""FeatureSet: the declared features and needs of a project, compiled once: columns to read, views to keep."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from feedwell.core.artifact import digest_json
from feedwell.core.durations import format_duration
from feedwell.core.errors import Problem, ProjectError, UsageError
from feedwell.core.needs import ColumnNeed, FeatureNeed, HistoryNeed, Need, ObjectsNeed, RankingNeed
from feedwell.core.project import FeatureConfig, Project
from feedwell.core.registry import find, names
from feedwell.features.aggregate import Aggregate, Declared
from feedwell.features.hops import tiles_of
from feedwell.features.layout import MAX_SEQUENCE_TYPES
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
from feedwell.features.views import (
    Catalog,
    CatalogRows,
    Facts,
    FactsDraft,
    Leaderboard,
    Relation,
    Sequence,
    View,
)

Entities = tuple[str, ...]
_MAX_HISTORY = 512


@dataclass(frozen=True, kw_only=True)
class FeatureColumn:
    """One number per row: `name` in every table, the declared `feature`, the `entities` of its key."""

    name: str
    feature: str
    entities: Entities
    aggregate: Aggregate
    window: int | None
    measures: tuple[Measure, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """All columns and views of one project and its parts' needs. Made by `compile`; `version` names the whole."""

    project: Project
    columns: tuple[FeatureColumn, ...]
    sequences: Mapping[str, HistoryNeed]
    """declared last_n feature → its need"""
    needs: tuple[Need, ...]
    views: tuple[View, ...]

    @staticmethod
    def compile(project: Project, needs: Iterable[Need] = ()) -> FeatureSet:
        """The features of `project` and what `needs` add; ProjectError carries all problems together."""
        return _Compiler(project).compile(tuple(dict.fromkeys(needs)))

    @cached_property
    def version(self) -> str:
        """16 hex digits over the columns' meaning and the views."""
        columns = [(c.name, c.entities, repr(c.measures), type(c.aggregate).__name__) for c in self.columns]
        return digest_json({"columns": columns, "views": [v.digest for v in self.views]})

    @cached_property
    def user_columns(self) -> tuple[FeatureColumn, ...]:
        """Columns that the user alone decides."""
        return tuple(c for c in self.columns if all(self.base_of(e) == "user" for e in c.entities))

    @cached_property
    def item_columns(self) -> tuple[FeatureColumn, ...]:
        """Columns that differ between one user's candidates: of the item, its derived entities, and pairs."""
        mine = {c.name for c in self.user_columns}
        return tuple(c for c in self.columns if c.name not in mine)

    def column(self, name: str) -> FeatureColumn:
        """KeyError when there is no such column."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, FeatureColumn]:
        return {c.name: c for c in self.columns}

    def base_of(self, entity: str) -> str:
        """ "user" or "item": whose catalog row leads to the entity's key; itself where none does."""
        origin = self.project.derived_entities.get(entity)
        return self.base_of(origin[0]) if origin else entity

    @cached_property
    def facts(self) -> dict[Entities, Facts]:
        return {v.entities: v for v in self.views if isinstance(v, Facts)}

    @cached_property
    def catalogs(self) -> dict[str, Catalog]:
        return {v.entity: v for v in self.views if isinstance(v, Catalog)}

    @cached_property
    def relations(self) -> dict[str, Relation]:
        """event type → the shared view of who stands in it"""
        return {v.event: v for v in self.views if isinstance(v, Relation)}

    @cached_property
    def leaderboards(self) -> dict[RankingNeed, Leaderboard]:
        return {n: leaderboard(self.project, n) for n in self.needs if isinstance(n, RankingNeed)}

    @cached_property
    def histories(self) -> dict[HistoryNeed, Sequence]:
        """Needs that differ only in `n` share the longest."""
        wide = {(v.selection.events, v.object): v for v in self.views if isinstance(v, Sequence)}
        return {n: wide[n.events, n.object] for n in self.needs if isinstance(n, HistoryNeed)}


def leaderboard(project: Project, need: RankingNeed) -> Leaderboard:
    """The view that serves the need."""
    section = project.entity.get(need.object)
    created_at = section.created_at if section and need.by == "newest" else None
    return Leaderboard(need.by, need.events, need.half_life_us, need.k, need.object, created_at)


class _Compiler:
    def __init__(self, project: Project) -> None:
        self.project = project
        self.problems: list[Problem] = []

    def compile(self, needs: tuple[Need, ...]) -> FeatureSet:
        columns: dict[str, FeatureColumn] = {}
        sequences: dict[str, HistoryNeed] = {}
        for name, config in self.project.feature.items():
            made = self._aggregate(name, config)
            if made is None:
                continue
            history = made.history()
            if history is not None:
                sequences[name] = history
                needs = tuple(dict.fromkeys((*needs, history)))
            for column in () if history else self._columns(name, made, config):
                columns[column.name] = column
        for need in needs:
            if isinstance(need, ColumnNeed) and self._column_is_known(need):
                column = self._column_of(need)
                columns[column.name] = column
        self._check_needs(needs, columns, sequences)
        if self.problems:
            raise ProjectError(self.problems)
        chosen = tuple(columns.values())
        return FeatureSet(
            project=self.project, columns=chosen, sequences=sequences, needs=needs, views=self._views(chosen, needs)
        )

    def _problem(self, key: str, message: str, expected: str = "", word: str = "", near: Iterable[str] = ()) -> None:
        nearest = difflib.get_close_matches(word, list(near), n=1) if word else []
        self.problems.append(
            Problem(key=key, message=message, expected=expected, nearest=nearest[0] if nearest else "")
        )

    def _aggregate(self, name: str, config: FeatureConfig) -> Aggregate | None:
        before = len(self.problems)
        key = f"feature.{name}"
        try:
            kind: type[Aggregate] = find("aggregate", config.aggregate, self.project.modules.values())
        except UsageError:
            known = names("aggregate", self.project.modules.values())
            self._problem(
                f"{key}.aggregate",
                f"no aggregate is called '{config.aggregate}'",
                ", ".join(known),
                config.aggregate,
                known,
            )
            return None
        self._check_entities(f"{key}.entity", config.entities)
        self._check_events(f"{key}.events", config.events)
        if not config.events and kind.needs_events:
            self._problem(f"{key}.events", "names no events", 'a list of event types, as in ["view"]')
        if config.windows and not kind.windowed:
            self._problem(f"{key}.windows", f"{config.aggregate} takes no windows")
        for window in config.windows:
            try:
                tiles_of(window)
            except ValueError as error:
                self._problem(f"{key}.windows", str(error))
        if len(self.problems) > before:
            return None
        return self._made(kind, name, config)

    def _made(self, kind: type[Aggregate], name: str, config: FeatureConfig) -> Aggregate | None:
        declared = Declared(
            feature=name,
            entities=config.entities,
            selection=Selection(config.events, config.where),
            windows=config.windows,
            project=self.project,
        )
        try:
            return kind(kind.Config(**config.options), declared)
        except ValidationError as error:
            known = [*FeatureConfig.model_fields, *kind.Config.model_fields]
            for one in error.errors():
                place, extra = ".".join(map(str, one["loc"])), one["type"] == "extra_forbidden"
                message = f"{config.aggregate} has no such key" if extra else one["msg"]
                near = known if extra else ()
                self._problem(f"feature.{name}.{place}", message, word=place, near=near)
        except ValueError as error:
            self._problem(f"feature.{name}", str(error))
        return None

    def _check_entities(self, key: str, entities: Entities) -> None:
        if not 1 <= len(entities) <= 2 or len(set(entities)) != len(entities):
            self._problem(key, f"{list(entities)} is no key", "one entity or two different ones")
        for entity in entities:
            if entity not in self.project.entities:
                self._problem(
                    key, f"'{entity}' is not an entity", ", ".join(self.project.entities), entity, self.project.entities
                )
            elif self._base_of(entity) not in ("user", "item"):
                self._problem(
                    key,
                    f"neither the user nor a candidate item leads to a '{entity}'",
                    f'[entity.{entity}] from = "item.<column>" or "user.<column>"',
                )

    def _base_of(self, entity: str) -> str:
        origin = self.project.derived_entities.get(entity)
        return self._base_of(origin[0]) if origin else entity

    def _check_events(self, key: str, events: Iterable[str]) -> None:
        # Types need no declaration, so that an unknown one is not an error here; `check` compares with the data.
        for event in events:
            if event.startswith("$"):
                self._problem(key, f"'{event}' is a catalog change, not an event type")

    def _columns(self, name: str, made: Aggregate, config: FeatureConfig) -> Iterable[FeatureColumn]:
        for window in config.windows or (None,):
            yield FeatureColumn(
                name=name if window is None else f"{name}_{format_duration(window)}",
                feature=name,
                entities=config.entities,
                aggregate=made,
                window=window,
                measures=made.measures(window),
            )

    def _column_of(self, need: ColumnNeed) -> FeatureColumn:
        kind: Any = find("aggregate", "column")
        name = f"{need.entity}.{need.column}"
        declared = Declared(
            feature=name, entities=(need.entity,), selection=Selection(), windows=(), project=self.project
        )
        made = kind(kind.Config(column=need.column), declared)
        return FeatureColumn(
            name=name, feature=name, entities=(need.entity,), aggregate=made, window=None, measures=made.measures(None)
        )

    def _column_is_known(self, need: ColumnNeed) -> bool:
        key = f"entity.{need.entity}.columns.{need.column}"
        section = self.project.entity.get(need.entity)
        if section is None:
            self._problem(
                key, f"a part needs it, but '{need.entity}' is not declared", f"a section [entity.{need.entity}]"
            )
            return False
        if (need.entity, need.column) in self.project.derived_entities.values():
            return True
        if need.column in (section.created_at, section.expires_at, section.available):
            return True
        kind = section.columns.get(need.column)
        if kind in ("string", "list"):
            self._problem(
                key,
                f"a part needs it as a number, but it is a {kind}",
                f'[entity.<name>] from = "{need.entity}.{need.column}"',
            )
        elif kind is None:
            self._problem(
                key, "a part needs it, but it is not declared", "a typed column", need.column, section.columns
            )
        return kind is not None and kind not in ("string", "list")

    def _check_needs(
        self, needs: tuple[Need, ...], columns: Mapping[str, FeatureColumn], sequences: Mapping[str, HistoryNeed]
    ) -> None:
        for need in needs:
            if isinstance(need, FeatureNeed) and need.column not in columns and need.column not in sequences:
                self._problem(
                    f"feature.{need.column}", "a part needs it, but it is not declared", "", need.column, columns
                )
            elif isinstance(need, HistoryNeed):
                self._check_events("needs.history", need.events)
                self._check_object("needs.history", need.object)
                if len(need.events) > MAX_SEQUENCE_TYPES:
                    self._problem("needs.history", f"{len(need.events)} event types", f"at most {MAX_SEQUENCE_TYPES}")
                if not 1 <= need.n <= _MAX_HISTORY:
                    self._problem("needs.history", f"n = {need.n}", f"1 to {_MAX_HISTORY}")
            elif isinstance(need, ObjectsNeed):
                self._check_events("needs.objects", need.events)
                self._check_object("needs.objects", need.object)
                if need.subject != "user":
                    self._problem("needs.objects", f"the subject '{need.subject}' is not kept", "user")
            elif isinstance(need, RankingNeed):
                self._check_events("needs.ranking", need.events)
                self._check_object("needs.ranking", need.object)
                if need.by == "decayed" and need.half_life_us < 1_000_000:
                    self._problem("needs.ranking", "a decayed ranking needs a half-life", "one second or more")

    def _check_object(self, key: str, entity: str) -> None:
        if entity not in self.project.entities or entity == "user":
            self._problem(
                key,
                f"'{entity}' is not an object entity",
                ", ".join(self.project.entities[1:]),
                entity,
                self.project.entities,
            )

    def _views(self, columns: tuple[FeatureColumn, ...], needs: tuple[Need, ...]) -> tuple[View, ...]:
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
        relation_of = {
            e: (self.project.undone_by.get(e), self.project.objects_of(e)) for e in self._event_types(columns, related)
        }
        for draft in drafts.values():
            found[draft.view(relation_of)] = None
        for event in sorted(related):
            found[Relation(event, *relation_of[event])] = None
        longest: dict[tuple[Entities, str], int] = {}
        for need in needs:
            if isinstance(need, HistoryNeed):
                longest[need.events, need.object] = max(need.n, longest.get((need.events, need.object), 0))
            elif isinstance(need, RankingNeed):
                found[leaderboard(self.project, need)] = None
        for (events, entity), n in longest.items():
            found[Sequence(Selection(events), entity, n)] = None
        for entity in self.project.entities:
            self._add_catalog(found, entity, numbers.get(entity, {}))
        return tuple(found)

    def _event_types(self, columns: tuple[FeatureColumn, ...], related: Iterable[str]) -> set[str]:
        tallies = [m.tally for c in columns for m in c.measures if isinstance(m, Windowed)]
        return set(related) | {t.event for t in tallies if isinstance(t, ActiveTally)}

    def _add_catalog(self, found: dict[View, None], entity: str, wanted: Mapping[str, None]) -> None:
        origins = self.project.derived_entities
        derived = tuple(sorted((name, column) for name, (of, column) in origins.items() if of == entity))
        by_key = {column for _, column in derived}
        columns = tuple(sorted(c for c in wanted if c not in by_key))
        if derived or columns:
            found[Catalog(entity, derived, columns)] = None
        if entity in self.project.entity:
            found[CatalogRows(entity)] = None


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

"""Declared features and needs → columns, every problem told: the part of a feature set that reads the project."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from feedwell.core.durations import format_duration
from feedwell.core.errors import Problem, ProjectError, UsageError
from feedwell.core.needs import ColumnNeed, FeatureNeed, HistoryNeed, Need, ObjectsNeed, RankingNeed
from feedwell.core.project import FeatureConfig, Project
from feedwell.core.registry import find, names
from feedwell.features.aggregate import Aggregate, Declared
from feedwell.features.feature_column import Entities, FeatureColumn
from feedwell.features.hops import tiles_of
from feedwell.features.kept import views_of
from feedwell.features.layout import MAX_SEQUENCE_TYPES
from feedwell.features.measures import Selection
from feedwell.features.views import View

_MAX_HISTORY = 512


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What a project's features and needs come to; `sequences`: declared last_n feature → its need."""

    columns: tuple[FeatureColumn, ...]
    sequences: Mapping[str, HistoryNeed]
    needs: tuple[Need, ...]
    views: tuple[View, ...]


class FeatureCompiler:
    """Checks every declared feature and need of one project and turns them into columns; collects all problems."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.problems: list[Problem] = []

    def compile(self, needs: tuple[Need, ...]) -> Compiled:
        """Columns, needs and views; ProjectError carries all problems together."""
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
        return Compiled(columns=chosen, sequences=sequences, needs=needs, views=views_of(self.project, chosen, needs))

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

"""FeatureSet: the declared features and needs of a project, compiled once: columns to read, views to keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from feedwell.core.artifact import digest_json
from feedwell.core.needs import HistoryNeed, Need, RankingNeed
from feedwell.core.project import Project
from feedwell.features.compiler import FeatureCompiler
from feedwell.features.feature_column import Entities, FeatureColumn
from feedwell.features.kept import leaderboard
from feedwell.features.views import Catalog, Facts, Leaderboard, Relation, Sequence, View


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
        made = FeatureCompiler(project).compile(tuple(dict.fromkeys(needs)))
        return FeatureSet(
            project=project, columns=made.columns, sequences=made.sequences, needs=made.needs, views=made.views
        )

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

"""Project + artifacts → Pipeline: every part made, loaded and checked before the first request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from feedwell.core import registry
from feedwell.core.artifact import digest_json
from feedwell.core.candidates import Candidates
from feedwell.core.catalog import Deltas
from feedwell.core.errors import NotTrained, Problem, ProjectError, UsageError
from feedwell.core.needs import ColumnNeed, FeatureNeed, Need, RankingNeed
from feedwell.core.project import PartSection, Project
from feedwell.core.protocols import Filter, Scorer, Setting, SlatePolicy, Source, learns
from feedwell.core.rng import derive_seed
from feedwell.core.telemetry import Telemetry
from feedwell.features.definition import FeatureSet
from feedwell.metrics import ListMetric
from feedwell.pipeline.ask import Answer, Ask, Reader
from feedwell.pipeline.gather import Pace
from feedwell.pipeline.notes import Notes
from feedwell.pipeline.project_checks import ranker_learns
from feedwell.pipeline.project_file import variant
from feedwell.pipeline.run import retrieve, run, run_both

NEWEST = RankingNeed("newest", k=1000)
"""What the last fallback shows: read for every request, because it is needed when nothing else is there."""
_NUMBERS = ("float", "int", "bool", "time")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One overlay of one release, ready to run. Parts are shared between threads and never change.

    `kept_as`: part → what the release calls its artifact, where an overlay fits it otherwise than the base.
    """

    project: Project
    features: FeatureSet
    sources: Mapping[str, Source]
    fallbacks: Mapping[str, Source]
    early_filters: Mapping[str, Filter]
    late_filters: Mapping[str, Filter]
    light: Scorer | None
    ranker: Scorer | None
    calibration: Scorer | None
    value: Scorer
    slate: SlatePolicy
    item_columns: tuple[str, ...]
    user_columns: tuple[str, ...]
    untrained: tuple[str, ...] = ()
    release_id: str = ""
    project_digest: str = ""
    newest: RankingNeed = NEWEST
    kept_as: Mapping[str, str] = field(default_factory=dict)
    telemetry: Telemetry = field(default_factory=Telemetry)

    @property
    def filters(self) -> Mapping[str, Filter]:
        return {**self.early_filters, **self.late_filters}

    @property
    def followers(self) -> Mapping[str, Any]:
        """artifact → the part that may follow the catalog with it: sources and rankers."""
        parts = {**self.sources, "light": self.light, "ranker": self.ranker}
        return {self.kept_as.get(name, name): part for name, part in parts.items() if part is not None}

    def own_deltas(self, deltas: Deltas) -> Mapping[str, Any]:
        """part → what was made of newer catalog rows with its own artifact, and with no other overlay's."""
        names = {name: self.kept_as.get(name, name) for name in (*self.sources, "light", "ranker")}
        return {name: deltas.by_part[kept] for name, kept in names.items() if kept in deltas.by_part}

    @property
    def seed(self) -> int:
        return self.project.project.seed

    @property
    def group_column(self) -> str:
        item = self.project.entity.get("item")
        return f"item.{item.group}" if item and item.group else ""

    def waiving(self, names: Collection[str]) -> Pipeline:
        """The pipeline without those filters, for a caller who brings candidates and says which do not apply."""
        if not names:
            return self
        early = {name: part for name, part in self.early_filters.items() if name not in names}
        late = {name: part for name, part in self.late_filters.items() if name not in names}
        return replace(self, early_filters=early, late_filters=late)

    def run(self, ask: Ask, reader: Reader, pace: Pace | None = None) -> Answer:
        """The answer with its record; without a pace every source runs at full width, whatever it costs."""
        return run(self, ask, reader, pace, self._notes(ask, pace))

    def run_both(self, ask: Ask, reader: Reader) -> tuple[Answer, Answer]:
        """The answers without and with exploration, retrieved and scored once."""
        return run_both(self, ask, reader, self._notes(ask, None))

    def retrieve(self, ask: Ask, reader: Reader) -> Candidates:
        """The candidates after filters and cut, with features, unscored."""
        return retrieve(self, ask, reader, self._notes(ask, None))

    def _notes(self, ask: Ask, pace: Pace | None) -> Notes:
        timer = perf_counter if pace is None else pace.budget.timer
        deadline_ms = None if pace is None else ask.deadline_ms or pace.budget.deadline_ms
        notes = Notes(timer, self.telemetry if pace is None else pace.telemetry, deadline_ms)
        for part in self.untrained:
            notes.degrade(part, "not trained", kind="untrained")
        return notes


def part_names(project: Project) -> list[str]:
    """The declared parts in the order of the flow: "source.popular", "filter.seen", "light", "ranker" ..."""
    declared = {"light": project.light, "ranker": project.ranker}
    return [
        *(f"source.{n}" for n in project.source),
        *(f"filter.{n}" for n in project.filter),
        *(name for name, section in declared.items() if section is not None),
        *(["calibration"] if ranker_learns(project) else []),
        "value",
        "slate",
    ]


def make_part(project: Project, name: str) -> Any:
    """The part of that name as the project declares it, neither fitted nor loaded. ProjectError says what is wrong."""
    kind, section, found = _section(project, name)
    made: Any = registry.find(kind, found, project.modules.values())
    try:
        return made(made.Config.model_validate(section.options), setting_of(project, name))
    except ValidationError as error:
        raise ProjectError([_problem(name, e["loc"], e["msg"]) for e in error.errors()]) from None


def make_metrics(project: Project) -> tuple[tuple[ListMetric, ...], FeatureSet]:
    """Every declared list metric, and the catalog columns that they read; ProjectError where one is not declared."""
    families = tuple(make_metric(project, name) for name in project.metric)
    return families, FeatureSet.compile(project, tuple(dict.fromkeys(n for f in families for n in f.needs)))


def make_metric(project: Project, name: str) -> ListMetric:
    """The declared list metric of that name. ProjectError says what is wrong."""
    section = project.metric[name]
    made: Any = registry.find("metric", section.kind or name, project.modules.values())
    try:
        metric: ListMetric = made(made.Config.model_validate(section.options), setting_of(project, f"metric.{name}"))
    except ValidationError as error:
        raise ProjectError([_problem(f"metric.{name}", e["loc"], e["msg"]) for e in error.errors()]) from None
    return metric


def setting_of(project: Project, name: str) -> Setting:
    """What a part may know about the project around it."""
    item = project.entity.get("item")
    roles = {role: getattr(item, role) for role in ("created_at", "expires_at", "available") if item}
    return Setting(
        name=name,
        seed=derive_seed(project.project.seed, name),
        event_types=project.event_types,
        undone_by=project.undone_by,
        objectives=project.objective,
        item_columns=_readable_columns(project, "item"),
        group=item.group if item else None,
        item_text=item.text if item else (),
        user_columns=_readable_columns(project, "user"),
        categories=frozenset(f"{entity}.{column}" for entity, column in project.derived_entities.values()),
        embedders=project.embedder,
        modules=tuple(project.modules.values()),
        extra={role: column for role, column in roles.items() if column},
    )


def _readable_columns(project: Project, entity: str) -> tuple[str, ...]:
    """The catalog columns that a part can read as numbers: those typed so, and those that entities derive from."""
    section = project.entity.get(entity)
    numbers = [c for c, kind in section.columns.items() if kind in _NUMBERS] if section else []
    derived = [column for owner, column in project.derived_entities.values() if owner == entity]
    return tuple(dict.fromkeys([*numbers, *derived]))


def project_needs(project: Project) -> tuple[Need, ...]:
    """What all parts under all overlays want read, each once: one FeatureSet serves every surface and arm."""
    needs: dict[Need, None] = {NEWEST: None}
    for overlaid in variants(project):
        parts = {name: make_part(overlaid, name) for name in part_names(overlaid)}
        for part in (*parts.values(), *_fallbacks(overlaid, parts, {}).values()):
            needs.update(dict.fromkeys(part.needs))
        needs.update(dict.fromkeys(own_needs(overlaid)))
    return tuple(needs)


def compile_features(project: Project) -> FeatureSet:
    """The features that the project and all its parts need."""
    return FeatureSet.compile(project, project_needs(project))


def retrieval_features(project: Project) -> FeatureSet:
    """What the project's own sources and filters read, and no more: enough for its candidates, not for a ranker."""
    names = [name for name in part_names(project) if name.startswith(("source.", "filter."))]
    parts = {name: make_part(project, name) for name in names}
    read = (*parts.values(), *_fallbacks(project, parts, {}).values())
    needs = tuple(dict.fromkeys([NEWEST, *own_needs(project), *(need for part in read for need in part.needs)]))
    wanted = {need.column for need in needs if isinstance(need, FeatureNeed)}
    of = {column.name: column.feature for column in FeatureSet.compile(project, needs).columns} if wanted else {}
    declared = {of.get(name, name) for name in wanted}  # a list has the name of its feature, a column none
    kept = {name: feature for name, feature in project.feature.items() if name in declared}
    return FeatureSet.compile(project.model_copy(update={"feature": kept}), needs)


def compile_pipeline(
    project: Project,
    parts_folder: Mapping[str, Path],
    features: FeatureSet,
    *,
    release_id: str = "",
    project_digest: str = "",
    allow_untrained: bool = False,
    shared: Mapping[str, Any] | None = None,
    kept_as: Mapping[str, str] | None = None,
) -> Pipeline:
    """The pipeline of an (already overlaid) project; `parts_folder`: part name → the folder of its artifact.

    A part that learns and has no artifact: NotTrained names them all, or with `allow_untrained` they are left out and
    every answer says so. `shared` parts are taken as they are.
    """
    shared = shared or {}
    parts = {name: shared[name] if name in shared else make_part(project, name) for name in part_names(project)}
    missing = [name for name, part in parts.items() if learns(part) and name not in parts_folder and name not in shared]
    if missing and not allow_untrained:
        raise NotTrained(f"{', '.join(missing)}: no artifact to load; run `feedwell train`, then `feedwell publish`")
    for name, part in parts.items():
        if name not in shared and name not in missing and name in parts_folder and hasattr(part, "load"):
            part.load(parts_folder[name])
    ready = {name: part for name, part in parts.items() if name not in missing}
    filters = {name: part for name, part in ready.items() if name.startswith("filter.")}
    late = {name: part for name, part in filters.items() if _reads_items(part, features)}
    return Pipeline(
        project=project,
        features=features,
        sources={name: part for name, part in ready.items() if name.startswith("source.")},
        fallbacks=_fallbacks(project, ready, parts_folder),
        early_filters={name: part for name, part in filters.items() if name not in late},
        late_filters=late,
        light=ready.get("light"),
        ranker=ready.get("ranker"),
        calibration=ready.get("calibration"),
        value=ready["value"],
        slate=ready["slate"],
        item_columns=tuple(c.name for c in features.item_columns),
        user_columns=tuple(c.name for c in features.user_columns),
        untrained=tuple(missing),
        release_id=release_id,
        project_digest=project_digest or project.digest,
        kept_as=kept_as or {},
    )


def variants(project: Project) -> Iterator[Project]:
    """The base and each overlay alone: two arms never set one key, so pairs of them need nothing new."""
    yield project
    for surface in project.surface:
        yield variant(project, surface=surface)
    for name, section in project.experiment.items():
        for arm in section.arms:
            yield variant(project, assignments={name: arm})


def kind_of(project: Project, name: str) -> str:
    """The declared part's name in the registry: what makes it."""
    return _section(project, name)[2]


def declared_as(project: Project, name: str) -> str:
    """What tells two declarations of a part apart, beside what it was fitted on: kind, section, and the outcomes."""
    _, section, kind = _section(project, name)
    outcomes = {name: objective.model_dump(mode="json") for name, objective in project.objective.items()}
    return digest_json([kind, section.model_dump(mode="json"), outcomes])


def _section(project: Project, name: str) -> tuple[str, PartSection, str]:
    """(kind in the registry, the section, the name in the registry)."""
    kind, _, own = name.partition(".")
    if name == "light" and project.light is not None:
        return "scorer", project.light, project.light.kind
    if name == "ranker" and project.ranker is not None:
        return "scorer", project.ranker, project.ranker.kind
    if name == "calibration" and ranker_learns(project):
        return "scorer", project.calibration, project.calibration.kind or "calibration"
    if name == "value":
        return "scorer", project.value, project.value.kind or "value"
    if name == "slate":
        return "slate", project.slate, project.slate.kind
    declared = project.source if kind == "source" else project.filter
    if kind not in ("source", "filter") or own not in declared:
        raise UsageError(f"the project declares no part '{name}'; there are {', '.join(part_names(project))}")
    return kind, declared[own], declared[own].kind or own


def _fallbacks(project: Project, parts: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Source]:
    """The fallback sources by part name; one that is not declared is made as it comes, if it needs no fit."""
    found: dict[str, Source] = {}
    for own in project.serving.fallback:
        name = f"source.{own}"
        if name in parts:
            found[name] = parts[name]
        elif own not in project.source and own in registry.names("source", project.modules.values()):
            made: Any = registry.find("source", own, project.modules.values())
            part = made(made.Config(), setting_of(project, name))
            if not learns(part):
                found[name] = part
    return found


def own_needs(project: Project) -> Iterable[Need]:
    """What the runner itself reads: the group that caps count by."""
    item = project.entity.get("item")
    return (ColumnNeed("item", item.group),) if item and item.group else ()


def _reads_items(part: Filter, features: FeatureSet) -> bool:
    item_columns = {c.name for c in features.item_columns}
    for need in part.needs:
        if isinstance(need, ColumnNeed) and f"{need.entity}.{need.column}" in item_columns:
            return True
        if isinstance(need, FeatureNeed) and need.column in item_columns:
            return True
    return False


def _problem(name: str, place: Iterable[object], message: str) -> Problem:
    return Problem(key=".".join([name, *map(str, place)]), message=message)

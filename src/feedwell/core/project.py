"""The project: everything that `feedwell.toml` declares, typed and frozen. `pipeline.project_file` reads the text.

Sections that parts read (`source.*`, `filter.*`, `light`, `ranker`, `calibration`, `value`, `slate`) keep their keys as
they came; each part's own `Config` types them. Durations are µs (core.durations).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from feedwell.core.artifact import digest_json
from feedwell.core.clock import DAY, SECOND
from feedwell.core.durations import Duration
from feedwell.core.objective import Direction, Kind, Term, parse_where
from feedwell.core.slate import Explore

ColumnType = Literal["float", "int", "string", "bool", "time", "list"]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ProjectSection(Section):
    name: str = Field(min_length=1, max_length=64)
    timezone: str = "UTC"
    currency: str | None = None
    seed: int = 0


class DataSection(Section):
    """Where events come from and what the columns of a file are called."""

    events: str | tuple[str, ...] = ()
    """Paths, folders or globs, relative to the project: csv, tsv, jsonl, parquet."""
    columns: Mapping[str, str] = Field(default_factory=dict)
    """Ours → theirs, for example `user = "visitorid"`, `item = "itemid"`, `type = "event"`, `ts = "timestamp"`."""
    type: str | None = None
    """The event type of every row where no column says it."""
    ts_unit: Literal["auto", "s", "ms", "us", "iso"] = "auto"
    delimiter: str | None = None
    header: tuple[str, ...] = ()
    """Column names of a csv file that has no header line."""
    exposure: tuple[str, ...] = ()
    assumed_delay: Duration = 0
    max_future: Duration = 600 * SECOND
    """A row whose `ts`, or time of becoming available, is further ahead of the clock than this is quarantined."""


class EventSection(Section):
    """One event type: its object, what undoes it, the unit and scale of its value, its typed context."""

    object: str = "item"
    undone_by: str | None = None
    unit: str | None = None
    value_scale: int = Field(1, ge=1, le=1_000_000)
    context: Mapping[str, ColumnType] = Field(default_factory=dict)


class EntitySection(Section):
    """A declared entity: a catalog (`path`), or a key from another's catalog column (`from = "item.category"`)."""

    path: str | tuple[str, ...] = ()
    id: str | None = None
    """Their name of the id column; default `<entity>_id`, then `id`, then `<entity>`."""
    columns: Mapping[str, ColumnType] = Field(default_factory=dict)
    """Our column → type. Undeclared file columns are kept for display only."""
    rename: Mapping[str, str] = Field(default_factory=dict)
    """Our column → theirs, where the names differ."""
    valid_from: str | None = None
    """The column that says since when a row holds; without it a row holds from the beginning."""
    text: tuple[str, ...] = ()
    group: str | None = None
    """The catalog column that slate caps count by."""
    created_at: str | None = None
    expires_at: str | None = None
    available: str | None = None
    """A boolean column; false takes the object out of every feed."""
    source: str | None = Field(None, alias="from")
    ts_unit: Literal["auto", "s", "ms", "us", "iso"] = "auto"
    delimiter: str | None = None
    header: tuple[str, ...] = ()


class ObjectiveConfig(Section):
    """One outcome. See core.objective."""

    kind: Kind = "binary"
    events: tuple[str, ...] = Field(min_length=1)
    where: str = ""
    within: Duration = DAY
    after: Literal["served", "viewed"] = "viewed"
    given: str | None = None
    direction: Direction = "up"
    weight: float = Field(1.0, allow_inf_nan=False)
    guardrail_margin: float | None = Field(None, ge=0, allow_inf_nan=False)
    delayed: bool = False

    @field_validator("where")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse_where(text)
        return text

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        return parse_where(self.where)


class FeatureConfig(Section):
    """One declared feature; `aggregate` names a file of features/aggregates, which types the remaining keys."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)
    entity: str | tuple[str, ...]
    aggregate: str
    events: tuple[str, ...] = ()
    where: str = ""
    windows: tuple[Duration, ...] = ()
    allow_sparse: bool = False

    @field_validator("where")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse_where(text)
        return text

    @property
    def entities(self) -> tuple[str, ...]:
        return (self.entity,) if isinstance(self.entity, str) else tuple(self.entity)

    @property
    def options(self) -> dict[str, Any]:
        """The aggregate's own keys."""
        return dict(self.__pydantic_extra__ or {})


class PartSection(Section):
    """A source, filter, scorer, slate, embedder or metric: `kind` (default: the section's name), its own keys."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)
    kind: str = ""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class LightSection(PartSection):
    """A cheap ranker before `[ranker]`, fitted on the same rows: the `keep` candidates that it values most go on."""

    keep: int = Field(200, ge=1, le=100_000)


class SlateSection(PartSection):
    kind: str = "top_k"
    k: int = Field(30, ge=1, le=1000)
    explore: Explore = Explore(first=3, last=10)


class SplitSection(Section):
    by: Literal["time", "user"] = "time"
    fractions: tuple[float, float, float, float] = (0.5, 0.2, 0.1, 0.2)

    @field_validator("fractions")
    @classmethod
    def _sums_to_one(cls, parts: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        if min(parts) < 0 or abs(sum(parts) - 1) > 1e-9 or parts[0] <= 0 or parts[3] <= 0:
            raise ValueError(
                f"{parts}: four shares (sources, ranker, calibration, test) that sum to 1; the first and last above 0"
            )
        return parts


class EvaluateSection(Section):
    k: int = Field(10, ge=1, le=1000)
    relevant: str | None = None
    """The objective whose positives count as relevant; default: the first to raise."""
    horizon: Duration | None = None
    """Events up to this long after the request count; default: all that follow."""
    slices: tuple[str, ...] = ()
    """Feature or catalog columns of the user to slice by; `cold` and `warm` are always shown."""
    bootstrap: int = Field(1000, ge=0, le=100_000)
    max_requests: int | None = Field(None, ge=1)


class GatesSection(Section):
    metric: str = "ndcg"
    """recall, ndcg, mrr, hit_rate, or a name of a declared `[metric.<name>]`."""
    margin: float = Field(0.0, ge=0, allow_inf_nan=False)
    first_margin: float = Field(0.1, ge=0, le=1)
    """Before there is a champion: the share of popularity's own figure by which the lower bound may stay below it."""
    min_users: int = Field(50, ge=1)
    min_rank_correlation: float = Field(0.5, ge=-1, le=1)
    """Spearman's, between an objective's scores of the judged models and of those fitted again on all data."""
    max_mean_ratio: float = Field(3.0, ge=1)
    """How far those scores' mean may move, up or down, as a ratio."""


class TrainSection(Section):
    negatives: int = Field(20, ge=1, le=1000)
    """Retrieved but not chosen candidates kept per request, by seed."""
    max_requests: int = Field(20_000, ge=1)
    min_feature_share: float = Field(0.01, ge=0, le=1)


class ServingSection(Section):
    host: str = "127.0.0.1"
    port: int = Field(8400, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=256)
    deadline: Duration = 100_000
    fallback: tuple[str, ...] = ("popular",)
    queue: int = Field(64, ge=1, le=100_000)
    trace_share: float = Field(0.01, ge=0, le=1)
    max_candidates: int = Field(1000, ge=1, le=100_000)
    log_served: bool = True
    """Every slot of an answer becomes an event of type `served`, appended in batches after the answer."""


class BackendSection(Section):
    kind: str


class ReleasesSection(BackendSection):
    kind: str = "files"
    keep: int = Field(3, ge=1, le=100)


class ExperimentSection(Section):
    arms: Mapping[str, Mapping[str, Any]] = Field(min_length=1)
    """arm → overlay: dotted key → value."""
    share: float = Field(0.5, gt=0, le=1)
    """Share of users over all arms; the rest is control."""
    unit: Literal["user"] = "user"


class Project(Section):
    """One project = one directory = one tenant."""

    plugins: tuple[str, ...] = ()
    project: ProjectSection
    data: DataSection = DataSection()
    event: Mapping[str, EventSection] = Field(default_factory=dict)
    entity: Mapping[str, EntitySection] = Field(default_factory=dict)
    objective: Mapping[str, ObjectiveConfig] = Field(default_factory=dict)
    feature: Mapping[str, FeatureConfig] = Field(default_factory=dict)
    embedder: Mapping[str, PartSection] = Field(default_factory=dict)
    source: Mapping[str, PartSection] = Field(default_factory=dict)
    filter: Mapping[str, PartSection] = Field(default_factory=dict)
    light: LightSection | None = None
    ranker: PartSection | None = None
    calibration: PartSection = PartSection(kind="calibration")
    value: PartSection = PartSection(kind="value")
    slate: SlateSection = SlateSection()
    metric: Mapping[str, PartSection] = Field(default_factory=dict)
    split: SplitSection = SplitSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    gates: GatesSection = GatesSection()
    serving: ServingSection = ServingSection()
    engine: BackendSection = BackendSection(kind="local")
    state: BackendSection = BackendSection(kind="lmdb")
    releases: ReleasesSection = ReleasesSection()
    surface: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    environment: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    experiment: Mapping[str, ExperimentSection] = Field(default_factory=dict)

    _modules: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @property
    def modules(self) -> Mapping[str, str]:
        """File under `plugins` → its module, which is named by the file's content (core.registry)."""
        return self._modules

    def with_modules(self, modules: Mapping[str, str]) -> Project:
        """The same declaration over those files."""
        made = self.model_copy()
        made._modules = modules
        made.__dict__.pop("digest", None)
        return made

    @cached_property
    def digest(self) -> str:
        """16 hex digits over the whole declaration, the content of its own files included."""
        declared = self.model_dump(mode="json", by_alias=True)
        return digest_json([declared, dict(self._modules)] if self._modules else declared)

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """All entities that events carry a key of: user and item first, then the declared ones by name."""
        objects = {e.object for e in self.event.values()}
        return ("user", "item", *sorted((set(self.entity) | objects | set(self.derived_entities)) - {"user", "item"}))

    @cached_property
    def derived_entities(self) -> Mapping[str, tuple[str, str]]:
        """derived entity → (entity, catalog column): `{"category": ("item", "category")}`; a `group` is one too."""
        pairs = {name: (e.source or "").partition(".") for name, e in self.entity.items()}
        found = {name: (owner, column) for name, (owner, _, column) in pairs.items() if column}
        for name, e in self.entity.items():
            if e.group and (name, e.group) not in found.values():
                found[e.group] = (name, e.group)
        return found

    @cached_property
    def event_types(self) -> tuple[str, ...]:
        """Every event type that the file declares or implies, sorted; references to others are problems."""
        types = {*self.event, *self.undone_by.values(), *filter(None, [self.data.type])}
        if not self.event:  # a file without [event.*] declares its types by using them as exposure and as outcomes
            types |= {*self.data.exposure, *(name for o in self.objective.values() for name in o.events)}
        return tuple(sorted(types))

    @cached_property
    def undone_by(self) -> Mapping[str, str]:
        """event type → the type that takes it back."""
        return {name: e.undone_by for name, e in self.event.items() if e.undone_by}

    def event_section(self, event_type: str) -> EventSection:
        return self.event.get(event_type, EventSection())

    def objects_of(self, event_type: str) -> str:
        return self.event_section(event_type).object

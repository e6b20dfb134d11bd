"""What a project's sections must be to each other: names referred to exist, parts take the keys they are given."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import ValidationError

from feedwell.core import columns, registry
from feedwell.core.event import CATALOG_PREFIX, SERVED
from feedwell.core.project import EntitySection, PartSection, Project
from feedwell.core.protocols import learns
from feedwell.metrics.ranking import NAMES as METRICS
from feedwell.pipeline.validation import FILE, Finding, Path, findings_in, nearest, one_of

_BACKENDS = {
    "engine": (("local",), ("spark", "ray")),
    "state": (("lmdb",), ("redis",)),
    "releases": (("files",), ("mlflow", "s3", "gs")),
}
"""section → (kinds that exist, kinds that are planned)"""
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]*$")
_RESERVED = frozenset(v for k, v in vars(columns).items() if k.isupper()) - {"user", "item"}


def findings_of(project: Project, data: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything wrong between sections; `data` is the file as read, which also names what did not validate."""
    events = {*project.event_types, *_keys(data, "event"), SERVED}
    for check in (_names, _entities, _objectives, _features, _parts, _references, _settings, _backends):
        yield from check(project, data, events)


def _names(project: Project, data: Mapping[str, Any], events: set[str]) -> Iterator[Finding]:
    for section in ("entity", "objective", "feature", "embedder", "source", "filter", "metric"):
        for name in _keys(data, section):
            if not _NAME.match(name):
                yield Finding((section, name), "cannot be a name", "letters, digits, _ and -, no digit first")
            elif section == "entity" and name in _RESERVED:
                yield Finding((section, name), f"'{name}' is a column of every event", "another name")
    for name in _keys(data, "event"):
        if not name or name.startswith(CATALOG_PREFIX):
            yield Finding(("event", name), f"'{name}' cannot be an event type", "a name that does not begin with $")
        elif name == SERVED:
            yield Finding(("event", name), "'served' is what the server appends for every slot", "another name")
    for name, event in project.event.items():
        if event.undone_by == SERVED:
            yield Finding(("event", name, "undone_by"), "being served undoes nothing", "another event type")
        elif event.undone_by == name:
            yield Finding(("event", name, "undone_by"), f"'{name}' cannot undo itself", "another event type")
        elif event.undone_by and event.undone_by not in project.event:
            # Naming a type here declares it: only one that looks like another's misspelling can be told.
            others = [other for other in project.event if other != name]
            near = difflib.get_close_matches(event.undone_by, others, n=1, cutoff=0.85)
            if near:
                told = f"no event type is called '{event.undone_by}'"
                wanted = f"a declared one, or [event.{event.undone_by}]"
                yield Finding(("event", name, "undone_by"), told, wanted, near[0])


def _entities(project: Project, data: Mapping[str, Any], events: set[str]) -> Iterator[Finding]:
    known = {"user", "item", *_keys(data, "entity"), *project.derived_entities}
    for name, section in project.event.items():
        if section.object not in known:
            yield _unknown(("event", name, "object"), "entity", section.object, known)
    for name, entity in project.entity.items():
        if entity.source is not None:
            owner, _, column = entity.source.partition(".")
            if owner not in known or owner in project.derived_entities or not column:
                yield _unknown(("entity", name, "from"), "catalog", owner, known, expected='as in "item.category"')
            else:
                yield from _column(project, data, ("entity", name, "from"), f"{owner}.{column}")
        yield from _entity_columns(project, data, name, entity)


def _entity_columns(project: Project, data: Mapping[str, Any], name: str, entity: EntitySection) -> Iterator[Finding]:
    if entity.group in ("user", "item"):
        yield Finding(("entity", name, "group"), f"'{entity.group}' is an entity already", "a column of another name")
    named = [(key, getattr(entity, key)) for key in ("group", "created_at", "expires_at", "available")]
    for key, column in [*named, *(("text", column) for column in entity.text), *(("rename", c) for c in entity.rename)]:
        if column is not None:
            yield from _column(project, data, ("entity", name, key), f"{name}.{column}")


def _column(project: Project, data: Mapping[str, Any], path: Path, wanted: str) -> Iterator[Finding]:
    """`wanted` as in "item.category". A catalog without `columns` declares nothing: any column of its file will do."""
    entity, _, column = wanted.partition(".")
    section = data["entity"].get(entity, {}) if isinstance(data.get("entity"), Mapping) else {}
    valid = project.entity[entity].columns if entity in project.entity else {}
    known = {*valid, *(_keys(section, "columns") if isinstance(section, Mapping) else ())}
    if known and column not in known:
        yield _unknown(path, f"column of entity.{entity}.columns", column, known)


def _objectives(project: Project, data: Mapping[str, Any], events: set[str]) -> Iterator[Finding]:
    known = _keys(data, "objective")
    for name, objective in project.objective.items():
        yield from _events(("objective", name, "events"), objective.events, events)
        if SERVED in objective.events:
            yield Finding(("objective", name, "events"), "being served is no outcome", "something that a user does")
        if objective.within <= 0:
            yield Finding(("objective", name, "within"), "nothing follows within no time", 'above 0, as in "1d"')
        if objective.given is not None and objective.given not in known:
            yield _unknown(("objective", name, "given"), "objective", objective.given, known)
        chain, at = [name], objective.given
        while at is not None and at in project.objective and at not in chain:
            chain, at = [*chain, at], project.objective[at].given
        if at == name:
            yield Finding(("objective", name, "given"), f"goes round in a circle: {' → '.join([*chain, name])}")


def _features(project: Project, data: Mapping[str, Any], events: set[str]) -> Iterator[Finding]:
    aggregates = registry.names("aggregate", project.modules.values())
    known = {"user", "item", *_keys(data, "entity"), *project.derived_entities}
    for name, feature in project.feature.items():
        yield from _events(("feature", name, "events"), feature.events, events)
        for entity in feature.entities:
            if entity not in known:
                yield _unknown(("feature", name, "entity"), "entity", entity, known)
        if feature.aggregate not in aggregates:
            yield _unknown(("feature", name, "aggregate"), "aggregate", feature.aggregate, aggregates)


def _parts(project: Project, data: Mapping[str, Any], events: set[str]) -> Iterator[Finding]:
    sections: list[tuple[str, Path, PartSection, str]] = []
    named = ("embedder", "source", "filter", "metric")
    for kind, declared in ((kind, getattr(project, kind)) for kind in named):
        sections += [(kind, (kind, name), part, part.kind or name) for name, part in declared.items()]
    for name, ranker in (("light", project.light), ("ranker", project.ranker)):
        if ranker is not None:
            sections.append(("scorer", (name,), ranker, ranker.kind))
    sections.append(("scorer", ("calibration",), project.calibration, project.calibration.kind or "calibration"))
    sections.append(("scorer", ("value",), project.value, project.value.kind or "value"))
    sections.append(("slate", ("slate",), project.slate, project.slate.kind))
    for kind, path, part, name in sections:
        known = registry.names(kind, project.modules.values())
        if name not in known:
            yield _unknown(
                (*path, "kind") if part.kind or path in (("light",), ("ranker",)) else path, kind, name, known
            )
            continue
        listed = part.options.get("events", ())
        yield from _events((*path, "events"), listed if isinstance(listed, list | tuple) else (), events)
        yield from _embedder(project, data, path, part.options.get("embed"))
        config: Any = registry.find(kind, name, project.modules.values()).Config  # type: ignore[attr-defined]
        try:
            config.model_validate(part.options, context=FILE)
        except ValidationError as error:
            yield from findings_in(error, part.options, config, path, also=type(part).model_fields)


def _embedder(project: Project, data: Mapping[str, Any], path: Path, name: object) -> Iterator[Finding]:
    """A part's key `embed` names a declared embedder, or a kind of one; "" is none."""
    known = [*_keys(data, "embedder"), *registry.names("embedder", project.modules.values())]
    if isinstance(name, str) and name and name not in known:
        yield _unknown((*path, "embed"), "embedder", name, known, expected=f'one of {", ".join(known)}, or "" for none')


def _references(project: Project, data: Mapping[str, Any], events: set[str]) -> Iterator[Finding]:
    yield from _events(("data", "exposure"), project.data.exposure, events)
    if project.light is not None and "ranker" not in data:
        yield Finding(("light",), "chooses what [ranker] scores, and there is none", "a [ranker], or no [light]")
    if ranker_learns(project):
        if not _keys(data, "objective"):
            yield Finding(("ranker",), "learns to predict outcomes, and nothing declares one", "an [objective.<name>]")
        if not any(project.split.fractions[1:3]):
            told = "leave the ranker nothing to learn from: its rows lie in the second and third of the four spans"
            yield Finding(("split", "fractions"), told, "a second share above 0, or no [ranker]")
    if "calibration" in data and "ranker" not in data:
        yield Finding(("calibration",), "mends what [ranker] predicts, and there is none", "a [ranker]")
    objectives, sources = _keys(data, "objective"), _keys(data, "source")
    if project.evaluate.relevant is not None and project.evaluate.relevant not in objectives:
        yield _unknown(("evaluate", "relevant"), "objective", project.evaluate.relevant, objectives)
    wanted = project.objective.get(project.evaluate.relevant or "")
    if wanted is not None and wanted.direction == "down":
        yield Finding(("evaluate", "relevant"), f"'{project.evaluate.relevant}' is to go down", "an objective to raise")
    if "fallback" in project.serving.model_fields_set:
        for name in project.serving.fallback:
            if name not in sources:
                yield _unknown(("serving", "fallback"), "source", name, sources)


def ranker_learns(project: Project) -> bool:
    """Whether the ranker learns what it predicts; an unknown kind is told elsewhere."""
    modules = project.modules.values()
    if project.ranker is None or project.ranker.kind not in registry.names("scorer", modules):
        return False
    return learns(registry.find("scorer", project.ranker.kind, modules))


def _settings(project: Project, data: Mapping[str, Any], events: set[str]) -> Iterator[Finding]:
    """Values that fit their type and still cannot be meant."""
    zone, explore = project.project.timezone, project.slate.explore
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = nearest(zone, available_timezones())
        yield Finding(("project", "timezone"), f"no time zone is called '{zone}'", 'one as in "Europe/Berlin"', near)
    yield from _metrics(project)
    if explore.last < explore.first and (explore.first, explore.last) != (1, 0):
        told = f"first = {explore.first} and last = {explore.last} leave no slot to explore"
        yield Finding(("slate", "explore"), told, "first ≤ last; { first = 1, last = 0 } explores nowhere")


def _metrics(project: Project) -> Iterator[Finding]:
    """Every name once, and the gates' among them."""
    known = dict.fromkeys(METRICS, "ranking")
    for name, section in project.metric.items():
        kind = section.kind or name
        if kind not in registry.names("metric", project.modules.values()):
            continue
        family = registry.find("metric", kind, project.modules.values())
        if not hasattr(family, "values"):
            yield Finding(("metric", name), f"'{kind}' does not measure lists", "a metric with `names` and `values`")
            continue
        for one in family.names:  # type: ignore[attr-defined]
            if one in known:
                yield Finding(("metric", name), f"'{one}' is also a name of {known[one]}", "each name once")
            known[one] = name
    if project.gates.metric not in known:
        yield _unknown(("gates", "metric"), "metric", project.gates.metric, known)


def _backends(project: Project, data: Mapping[str, Any], events: set[str]) -> Iterator[Finding]:
    for section, (ready, planned) in _BACKENDS.items():
        kind = getattr(project, section).kind
        if kind in planned:
            yield Finding((section, "kind"), f"'{kind}' is not supported yet", " or ".join(ready))
        elif kind not in ready:
            yield _unknown((section, "kind"), section, kind, ready, expected=" or ".join(ready))


def _events(path: Path, names: Iterable[Any], known: set[str]) -> Iterator[Finding]:
    for name in names:
        if isinstance(name, str) and name not in known:
            yield _unknown(path, "event type", name, known, expected=f"a declared one, or [event.{name}]")


def _unknown(path: Path, noun: str, name: object, known: Iterable[str], expected: str = "") -> Finding:
    known = list(known)
    return Finding(
        path, f"no {noun} is called '{name}'", expected or one_of(known, f"a declared {noun}"), nearest(name, known)
    )


def _keys(data: Mapping[str, Any], section: str) -> list[str]:
    table = data.get(section, {})
    return list(table) if isinstance(table, Mapping) else []

"""Promote: publish a release, publish changed `serve` keys over the same artifacts, roll back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from feedwell.core.artifact import CANDIDATE, CHAMPION, Release
from feedwell.core.clock import Clock
from feedwell.core.errors import CheckFailed, CorruptArtifact, Unavailable, UsageError
from feedwell.core.project import Project, Section
from feedwell.core.protocols import learns
from feedwell.core.registry import find
from feedwell.pipeline.compile import compile_features, kind_of, make_part, part_names
from feedwell.pipeline.frozen import freeze_plugins, frozen_project
from feedwell.pipeline.overlays import OUTCOME, fit_config, overlaid_artifacts
from feedwell.stores.releases import ReleaseStore
from feedwell.training.gates import why_not
from feedwell.training.parts import RANKER

Hydrate = Callable[[Release], None]
"""Sees to it that the online state holds the features of a release; called before a channel points to it."""

_EVENT = ("object", "undone_by", "value_scale", "context")
_ENTITY = ("source", "rename", "created_at", "text")
"""What rows of a catalog are read as, beside the types of their columns; the rest says what may be served."""


def no_state(_release: Release) -> None:
    """There is no online state to prepare."""


def publish(
    store: ReleaseStore,
    *,
    release_id: str | None = None,
    channel: str = CHAMPION,
    force: bool = False,
    hydrate: Hydrate = no_state,
) -> str:
    """Points the channel to a release (default: the candidate) whose gates passed, and returns its id.

    CheckFailed lists the gates that said no or were asked about another champion, unless forced; CorruptArtifact if a
    file changed; the channel moves last, and only from the release that it pointed to at the call. Forced, a pointer
    that cannot be read is begun anew.
    """
    champion = _current(store, channel, force)
    chosen = release_id or store.channel(CANDIDATE)
    if chosen is None:
        raise Unavailable("publishing: there is no candidate; run `feedwell train`")
    release = store.verify(chosen)
    refused = [] if force else why_not(store, release, champion)
    if refused:
        raise CheckFailed(f"{chosen} is not published: " + "; ".join(refused) + ". Publish with --force to overrule")
    hydrate(release)
    store.set_channel(channel, chosen, replacing=champion, anew=force)
    return chosen


def _current(store: ReleaseStore, channel: str, force: bool) -> str | None:
    try:
        return store.channel(channel)
    except CorruptArtifact:
        if force:
            return None
        raise


def rollback(store: ReleaseStore, *, channel: str = CHAMPION, hydrate: Hydrate = no_state) -> str:
    """Points the channel to its previous release, configuration included, and returns its id."""
    history = store.history(channel)
    if len(history) > 1:
        hydrate(store.read(history[-2]))
    return store.rollback(channel, replacing=history[-1] if history else None)


def publish_config(
    store: ReleaseStore,
    project: Project,
    project_text: str,
    clock: Clock,
    *,
    environment: str | None = None,
    channel: str = CHAMPION,
    hydrate: Hydrate = no_state,
) -> str:
    """A release of the project as it is over the artifacts of the channel's release: seconds, not a training run.

    UsageError names every `fit` key that changed and every part that has no artifact: those need `train`.
    """
    current = store.channel(channel)
    if current is None:
        raise Unavailable(
            f"publishing a changed configuration: channel '{channel}' points nowhere; run `feedwell train`"
        )
    base = store.read(current)
    problems = changed_fits(store, base, project)
    if problems:
        raise UsageError("these changes need `feedwell train`: " + "; ".join(problems))
    artifacts = dict(base.artifacts)  # also of what is left out: it may be put back without training
    release = Release(
        watermark=base.watermark,
        log_window=base.log_window,
        metrics=base.metrics,
        features_version=compile_features(project).version,
        release_id=store.new_release_id(artifacts, project_text),
        created_at=clock.now(),
        artifacts=artifacts,
        plugins=freeze_plugins(store, project),
        project_text=project_text,
        environment=environment,
        project_digest=project.digest,
        parent=current,
    )
    store.write_release(release)
    hydrate(release)
    store.set_channel(channel, release.release_id, why="configuration", replacing=current)
    return release.release_id


def changed_fits(store: ReleaseStore, base: Release, project: Project) -> list[str]:
    """Why the artifacts of a release can't serve the project as it is; empty when they can."""
    problems = []
    frozen = frozen_project(store, base)
    for name in part_names(project):
        part = make_part(project, name)
        if not learns(part):
            continue
        if name not in base.artifacts:
            problems.append(f"{name} has no artifact in {base.release_id}")
            continue
        was_kind, now_kind = kind_of(frozen, name), kind_of(project, name)
        if was_kind != now_kind:
            problems.append(f"{name}.kind: {was_kind!r} → {now_kind!r}")
            continue
        was, now = store.manifest(base.artifacts[name]).config, fit_config(part)
        problems += [f"{name}.{key}: {was.get(key)!r} → {now.get(key)!r}" for key in _differing(was, now)]
        if type(part).__module__ != type(make_part(frozen, name)).__module__:
            problems.append(f"{name}: the file with its code changed")
    problems += [
        f"{name}, as a surface or an arm sets it, has no artifact ({kept}) in {base.release_id}"
        for kept, (_, name) in overlaid_artifacts(project).items()
        if kept not in base.artifacts
    ]
    if base.artifacts:
        problems += _read_otherwise(frozen, project)
    return problems + (_redefined(frozen, project) if RANKER in base.artifacts else [])


def _read_otherwise(was: Project, now: Project) -> list[str]:
    """Events and entities of both that mean another thing than when the artifacts were fitted on them."""
    problems = []
    for name in was.event_types:
        old, new = was.event_section(name), now.event_section(name)
        problems += _changed(f"event.{name}", old, new, _EVENT)
    for name, entity in was.entity.items():
        if name not in now.entity:
            problems.append(f"entity.{name} is gone")
            continue
        problems += _changed(f"entity.{name}", entity, now.entity[name], _ENTITY)
        types = now.entity[name].columns
        problems += [
            f"entity.{name}.columns.{column}: {kind!r} → {types.get(column)!r}"
            for column, kind in entity.columns.items()
            if types.get(column) != kind
        ]
    return problems


def _changed(section: str, was: Section, now: Section, keys: Sequence[str]) -> list[str]:
    pairs = {key: (getattr(was, key), getattr(now, key)) for key in keys}
    return [f"{section}.{key}: {old!r} → {new!r}" for key, (old, new) in pairs.items() if old != new]


def _redefined(was: Project, now: Project) -> list[str]:
    """What the ranker was fitted on and no longer is: a feature or an outcome of the same name that means another."""
    problems = [
        f"feature.{name} is declared otherwise" for name, f in was.feature.items() if now.feature.get(name) != f
    ]
    problems += [f"feature.{name}: the file with its aggregate changed" for name in _other_code(was, now)]
    for name, objective in now.objective.items():
        old = was.objective.get(name)
        if old is None:
            problems.append(f"objective.{name} is new")
            continue
        problems += _changed(f"objective.{name}", old, objective, OUTCOME)
    return problems


def _other_code(was: Project, now: Project) -> list[str]:
    """Features of both whose aggregate is a class of another module, which for a plug-in is another content."""
    both = [(name, f.aggregate) for name, f in was.feature.items() if now.feature.get(name) == f]
    kinds = [[find("aggregate", kind, p.modules.values()).__module__ for _, kind in both] for p in (was, now)]
    return [name for (name, _), a, b in zip(both, *kinds, strict=True) if a != b]


def _differing(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*was, *now} if was.get(key) != now.get(key))

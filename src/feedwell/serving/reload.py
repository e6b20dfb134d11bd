"""Releases come and go while requests run: each request uses one RequestPath, taken once.

A new release is compiled, checked against the online state and warmed aside; then one assignment swaps it in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from feedwell.core.artifact import CHAMPION
from feedwell.core.errors import DataError, FeedwellError
from feedwell.core.project import Project
from feedwell.features import FeatureSet
from feedwell.pipeline.compile import compile_features
from feedwell.pipeline.contained import Contained
from feedwell.pipeline.frozen import frozen_project
from feedwell.pipeline.overlays import Compiled
from feedwell.pipeline.project_folder import FILE_NAME, load_project
from feedwell.stores.durable import fingerprint
from feedwell.stores.releases import ReleaseStore

UNTRAINED = "untrained"
_log = logging.getLogger("feedwell.serving")


def load_release(releases: ReleaseStore, release_id: str) -> Compiled:
    """The release ready to answer, every artifact's checksum verified. The frozen project and its own copies of the
    plug-ins decide, not today's files."""
    release = releases.read(release_id)
    project = frozen_project(releases, release)
    parts = {part: releases.open_artifact(reference) for part, reference in release.artifacts.items()}
    return Compiled(project, parts, release_id=release_id)


def require_loadable(releases: ReleaseStore, release_id: str) -> None:
    """Loads the release with all its surfaces and arms and lets it go; DataError says why it cannot be, and the mend.

    That its checksums hold does not tell: another version may have written it, or a library of a plug-in is gone.
    """
    errors: list[Exception] = []
    with Contained(errors.append):
        load_release(releases, release_id).warm()
    if errors:
        why = str(errors[0]) if isinstance(errors[0], FeedwellError) else repr(errors[0])
        raise DataError(
            f"release {release_id} cannot be loaded: {why}; `feedwell publish RELEASE` serves another, and `feedwell"
            " train` makes a new one"
        ) from errors[0]


def untrained(folder: Path, environment: str | None = None) -> Compiled:
    """What serves before the first release: the project as it is, without the parts that learn."""
    project = load_project(folder, environment=environment)
    return Compiled(project, {}, release_id=UNTRAINED, allow_untrained=True)


def current(releases: ReleaseStore, folder: Path, *, environment: str | None = None) -> Compiled:
    """The champion, under the environment that it was made under; while there is none, the untrained project under
    `environment`."""
    release_id = releases.channel(CHAMPION)
    return untrained(folder, environment) if release_id is None else load_release(releases, release_id)


def contract_of(project: Project) -> Any:
    """What a process opened its log with: which keys, columns and event types there are, and how times are read. It
    cannot change underway."""
    events = {name: section.model_dump() for name, section in project.event.items()}
    entities = {name: section.model_dump(by_alias=True) for name, section in project.entity.items()}
    times = project.project.timezone, project.data.ts_unit, project.data.max_future
    return project.entities, dict(project.derived_entities), events, entities, times


Key = tuple[str, str | None, tuple[object, ...]]
"""A project's text, its environment, and what tells its plug-ins' content apart."""


class FeatureSets:
    """The feature sets of all retained releases and of the project as it is under `environment`: what the projector
    keeps.

    One that does not compile any more is left out and logged: it must not stop the others.
    """

    def __init__(self, releases: ReleaseStore, folder: Path, *, environment: str | None = None) -> None:
        self._releases = releases
        self._folder = folder
        self._environment = environment
        self._by_key: dict[Key, FeatureSet] = {}
        self._read: tuple[Key, Project] | None = None
        self._told: set[str] = set()

    def __call__(self) -> Sequence[FeatureSet]:
        found: dict[Key, FeatureSet] = {}
        for key, project in self._projects():
            if key not in self._by_key:
                try:
                    self._by_key[key] = compile_features(project())
                except FeedwellError as error:
                    self._tell("features left out of the online state", error)
                    continue
            found[key] = self._by_key[key]
        return list(found.values())

    def _projects(self) -> list[tuple[Key, Callable[[], Project]]]:
        today = self._current()
        found: list[tuple[Key, Callable[[], Project]]] = [] if today is None else [(today[0], lambda: today[1])]
        for release_id in self._releases.retained_ids(3 if today is None else today[1].releases.keep):
            try:
                release = self._releases.read(release_id)
            except FeedwellError as error:
                self._tell("the features of a release are left out of the online state", error)
                continue
            key = release.project_text, release.environment, tuple(sorted(release.plugins.items()))
            found.append((key, partial(frozen_project, self._releases, release)))
        return found

    def _current(self) -> tuple[Key, Project] | None:
        """Today's file and what it says; None while it is being edited into something that cannot be read."""
        path = self._folder / FILE_NAME
        if not path.is_file():
            return None
        text = path.read_text(encoding="utf-8")
        if self._read is None or self._read[0] != self._key(text, self._read[1]):
            try:
                project = load_project(self._folder, environment=self._environment)
                self._read = self._key(text, project), project
            except FeedwellError as error:
                self._tell("the project has problems, its features stay as they were", error)
        return self._read

    def _key(self, text: str, project: Project) -> Key:
        return text, self._environment, tuple((name, fingerprint(self._folder / name)) for name in project.plugins)

    def _tell(self, what: str, error: FeedwellError) -> None:
        """Once for each: it is asked every second."""
        if str(error) not in self._told:
            _log.warning("%s: %s", what, error)
        self._told.add(str(error))

"""Releases come and go while requests run: each request uses one RequestPath, taken once.

A new release is compiled, checked against the online state and warmed aside; then one assignment swaps it in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from feedwell.core.artifact import CHAMPION, Release
from feedwell.core.errors import FeedwellError
from feedwell.core.project import Project
from feedwell.features import FeatureSet
from feedwell.pipeline.compile import Compiled, compile_features
from feedwell.pipeline.project_file import parse_project
from feedwell.pipeline.project_folder import FILE_NAME, load_plugins, load_project
from feedwell.stores.releases import ReleaseStore

UNTRAINED = "untrained"
_log = logging.getLogger("feedwell.serving")


def load_release(releases: ReleaseStore, release_id: str, folder: Path) -> Compiled:
    """The release ready to answer, every artifact's checksum verified. The frozen project decides, not today's file."""
    release = releases.read(release_id)
    project = frozen_project(release, folder)
    parts = {part: releases.open_artifact(reference) for part, reference in release.artifacts.items()}
    return Compiled(project, parts, release_id=release_id)


def frozen_project(release: Release, folder: Path) -> Project:
    """The project as it was when the release was made, with the plug-ins that its folder has now."""
    load_plugins(release.project_text, folder)
    return parse_project(release.project_text)


def untrained(folder: Path) -> Compiled:
    """What serves before the first release: the project as it is, without the parts that learn."""
    return Compiled(load_project(folder), {}, release_id=UNTRAINED, allow_untrained=True)


def current(releases: ReleaseStore, folder: Path, channel: str = CHAMPION) -> Compiled:
    """The channel's release, or the untrained project while the channel points nowhere."""
    release_id = releases.channel(channel)
    return untrained(folder) if release_id is None else load_release(releases, release_id, folder)


def contract_of(project: Project) -> Any:
    """What a process opened its log with: which keys, columns and event types there are. It cannot change underway."""
    events = {name: section.model_dump() for name, section in project.event.items()}
    entities = {name: section.model_dump(by_alias=True) for name, section in project.entity.items()}
    return project.entities, dict(project.derived_entities), events, entities, project.data.max_future


class FeatureSets:
    """The feature sets of all retained releases and of the project as it is: what the projector keeps.

    One that does not compile any more is left out and logged: it must not stop the others.
    """

    def __init__(self, releases: ReleaseStore, folder: Path) -> None:
        self._releases = releases
        self._folder = folder
        self._by_text: dict[str, FeatureSet] = {}
        self._read: tuple[str, Project] | None = None
        self._unreadable: set[str] = set()

    def __call__(self) -> Sequence[FeatureSet]:
        found: dict[str, FeatureSet] = {}
        for text, project in self._texts():
            if text not in self._by_text:
                try:
                    self._by_text[text] = compile_features(project())
                except FeedwellError as error:
                    _log.warning("features left out of the online state: %s", error)
                    continue
            found[text] = self._by_text[text]
        return list(found.values())

    def _texts(self) -> list[tuple[str, Callable[[], Project]]]:
        project = self._current()
        texts = [] if project is None else [(project[0], lambda: project[1])]
        for release_id in self._releases.retained_ids(3 if project is None else project[1].releases.keep):
            try:
                release = self._releases.read(release_id)
            except FeedwellError as error:
                if release_id not in self._unreadable:
                    _log.warning("the features of a release are left out of the online state: %s", error)
                self._unreadable.add(release_id)
                continue
            texts.append((release.project_text, partial(frozen_project, release, self._folder)))
        return texts

    def _current(self) -> tuple[str, Project] | None:
        """Today's file and what it says; None while it is being edited into something that cannot be read."""
        path = self._folder / FILE_NAME
        if not path.is_file():
            return None
        text = path.read_text(encoding="utf-8")
        if self._read is None or self._read[0] != text:
            try:
                self._read = text, load_project(self._folder)
            except FeedwellError as error:
                _log.warning("feedwell.toml has problems, its features stay as they were: %s", error)
        return self._read

"""Freeze: a release keeps the project's own files as they were, and runs those, whatever became of them since."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePath

from feedwell.core.artifact import Release
from feedwell.core.errors import Problem, ProjectError
from feedwell.core.project import Project
from feedwell.core.registry import source_of
from feedwell.pipeline.project_file import parse_project
from feedwell.pipeline.project_folder import run_plugins
from feedwell.stores.releases import ReleaseStore


def freeze_plugins(store: ReleaseStore, project: Project) -> dict[str, str]:
    """path → the artifact with the bytes that were run as this project's plug-in, even if the file changed since."""
    frozen = {}
    for path, module in project.modules.items():
        name, source = PurePath(path).name, source_of(module)

        def fill(folder: Path, name: str = name, source: bytes = source) -> None:
            (folder / name).write_bytes(source)

        frozen[path] = store.write_artifact("plugin", PurePath(path).stem, fill)
    return frozen


def frozen_project(store: ReleaseStore, release: Release) -> Project:
    """The project as it was when the release was made, over its own copies of the plug-ins.

    The bytes that are run are the bytes whose checksum held, and none is run before all of them do (decision 0020).
    ProjectError names a plug-in that does not run any more (a library is gone); CorruptArtifact a changed copy.
    """
    files, sources = {}, {}
    for path, reference in release.plugins.items():
        files[path], sources[path] = store.read_file(reference, PurePath(path).name)
    modules, found = run_plugins(files, sources)
    if found:
        about = f"of release {release.release_id}"
        raise ProjectError(
            [Problem(key="plugins", message=f"{about}: {f.message}", expected=f.expected) for f in found]
        )
    return parse_project(release.project_text, environment=release.environment, modules=modules)


def changed_plugins(store: ReleaseStore, release: Release, folder: Path) -> list[str]:
    """What the project's folder has otherwise than the release: one sentence for each of its plug-ins."""
    told = []
    for path, reference in release.plugins.items():
        expected = store.manifest(reference).files.get(PurePath(path).name)
        if not (folder / path).is_file():
            told.append(f"{path} is gone; release {release.release_id} goes on with its own copy")
        elif hashlib.sha256((folder / path).read_bytes()).hexdigest() != expected:
            told.append(
                f"{path} differs from the copy that release {release.release_id} serves: `feedwell train`, or "
                "`feedwell publish --config` where nothing that was fitted depends on it, takes it up"
            )
    return told

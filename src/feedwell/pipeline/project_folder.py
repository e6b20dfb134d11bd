"""A project's folder → Project: reads `feedwell.toml`, its plug-ins, and checks all that can be checked before data."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from feedwell.core import registry
from feedwell.core.errors import Problem, ProjectError, UsageError
from feedwell.core.project import Project
from feedwell.core.project_file import Check, parse_project
from feedwell.core.validation import Finding
from feedwell.pipeline.compile import compile_features
from feedwell.pipeline.project_checks import findings_of

FILE_NAME = "feedwell.toml"
STATE_FOLDER = ".feedwell"


def read_text(folder: Path) -> str:
    """The text of the folder's project file; UsageError where there is none, ProjectError where it is not UTF-8."""
    path = folder / FILE_NAME
    if not path.is_file():
        advice = f"`feedwell init {folder}` writes one, --project names another folder"
        raise UsageError(f"{folder} has no {FILE_NAME}; {advice}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = Problem(key="toml", message=f"byte {error.start} is not UTF-8", expected="UTF-8 text")
        raise ProjectError([problem]) from None


def load_project(folder: Path, *, environment: str | None = None, checks: Iterable[Check] = ()) -> Project:
    """The checked project of a folder, its plug-ins loaded. ProjectError has all problems together."""
    text = read_text(folder)
    load_plugins(text, folder)
    return parse_project(text, environment=environment, checks=(_paths_exist(folder), _declared_well, *checks))


def load_plugins(text: str, folder: Path) -> None:
    """Runs the files under `plugins`, relative to the project; a text that is no TOML has none yet."""
    try:
        listed = tomllib.loads(text.removeprefix("\ufeff")).get("plugins", [])
    except tomllib.TOMLDecodeError:
        return
    for name in listed if isinstance(listed, list) else []:
        if isinstance(name, str) and (folder / name).is_file():
            registry.load_plugin(folder / name)


def _declared_well(project: Project, data: Mapping[str, Any]) -> Iterator[Finding]:
    """What sections say of each other; when that holds, whether the parts can be made and the features compile."""
    found = list(findings_of(project, data))
    yield from found
    if not found:
        try:
            compile_features(project)
        except ProjectError as error:
            for problem in error.problems:
                path = tuple(problem.key.split("."))
                yield Finding(path, problem.message, problem.expected, problem.nearest)
        except UsageError as error:
            key, _, message = str(error).partition(": ")
            yield Finding(tuple(key.split(".")) if message else (), message or str(error))


def _paths_exist(folder: Path) -> Check:
    def check(project: Project, data: Mapping[str, Any]) -> Iterable[Finding]:
        for name in project.plugins:
            if not (folder / name).is_file():
                yield Finding(("plugins",), f"{name} is not there", "a Python file, relative to the project")

    return check

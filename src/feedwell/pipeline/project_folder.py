"""A project's folder → Project: reads `feedwell.toml`, its plug-ins, and checks all that can be checked before data."""

from __future__ import annotations

import tomllib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from feedwell.core import registry
from feedwell.core.errors import Problem, ProjectError, UsageError
from feedwell.core.project import Project
from feedwell.data.ingest_files import FORMATS, match_files, suffix_of
from feedwell.pipeline.overlays import overlay_findings
from feedwell.pipeline.project_checks import findings_of
from feedwell.pipeline.project_file import Check, parse_project
from feedwell.pipeline.trial import trial_findings
from feedwell.pipeline.validation import Finding
from feedwell.stores.log.scales import rescaled, scales_on_disk

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
    modules, broken = run_plugins(_listed(text, folder))
    plugins: Check = lambda project, data: broken  # noqa: E731
    every = (plugins, _paths_exist(folder), _scales_hold(folder), _declared_well, *checks)
    return parse_project(text, environment=environment, checks=every, modules=modules)


def missing_files(project: Project, folder: Path) -> list[str]:
    """What `ingest` would not find: `[data] events` or a catalog's path that names no file yet."""
    return [
        line for path, pattern, _ in _data_files(project) for line in match_files(folder, pattern, ".".join(path))[1]
    ]


def _data_files(project: Project) -> Iterator[tuple[tuple[str, ...], str, str | None]]:
    """(key, path or glob, delimiter) of everything that `ingest` reads."""
    listed = [(("data", "events"), project.data.events, project.data.delimiter)]
    for key, patterns, delimiter in [
        *listed,
        *((("entity", name, "path"), e.path, e.delimiter) for name, e in project.entity.items()),
    ]:
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            yield key, pattern, delimiter


def run_plugins(
    files: Mapping[str, Path], sources: Mapping[str, bytes] | None = None
) -> tuple[dict[str, str], list[Finding]]:
    """(name under `plugins` → its module, what the others failed with and where); `files`: name → where it is now.

    `sources`: name → the bytes to run instead of what the file holds by now.
    """
    modules: dict[str, str] = {}
    found = []
    for name, path in files.items():
        try:
            modules[name] = registry.load_plugin(path, (sources or {}).get(name)).module
            registry.require_apart(modules.values())
        except (Exception, SystemExit) as error:  # noqa: BLE001  anything may happen in a file of the user's
            modules.pop(name, None)
            told = f"{type(error).__name__}: {error}" if not isinstance(error, UsageError) else str(error)
            expected = "a file that can be imported"
            found.append(Finding(("plugins",), f"{_place(error, path, name)}: {told}", expected))
    return modules, found


def _listed(text: str, folder: Path) -> dict[str, Path]:
    """The files under `plugins` that are there. A text that is no TOML has none yet."""
    try:
        listed = tomllib.loads(text.removeprefix("\ufeff")).get("plugins", [])
    except tomllib.TOMLDecodeError:
        return {}
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    return {name: folder / name for name in names if (folder / name).is_file()}


def _place(error: BaseException, path: Path, name: str) -> str:
    """`name:line`, the last line of that file that the error went through."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f"{name}:{lines[-1]}" if lines else name


def _declared_well(project: Project, data: Mapping[str, Any]) -> Iterator[Finding]:
    """What sections say of each other, and whether the parts can be made and the features compile: all at once."""
    found = list(findings_of(project, data))
    found += trial_findings(project, data, {f.path for f in found})
    yield from found
    if not found:  # only what can be made can be compared
        yield from overlay_findings(project)


def _scales_hold(folder: Path) -> Check:
    """Values that the log holds are read at the scale that they were stored at."""

    def check(project: Project, data: Mapping[str, Any]) -> Iterable[Finding]:
        for name, message, expected in rescaled(scales_on_disk(folder / STATE_FOLDER), project):
            yield Finding(("event", name, "value_scale"), message, expected)

    return check


def _paths_exist(folder: Path) -> Check:
    def check(project: Project, data: Mapping[str, Any]) -> Iterable[Finding]:
        for name in project.plugins:
            if not (folder / name).is_file():
                yield Finding(("plugins",), f"{name} is not there", "a Python file, relative to the project")
        for path, pattern, delimiter in _data_files(project):
            ending = suffix_of(PurePath(pattern))
            is_known = not ending or "*" in ending or ending in FORMATS or delimiter is not None
            if not is_known and not (folder / pattern).is_dir():
                yield Finding(path, f"'{pattern}': no reader for '{ending}'", f"one of {' '.join(FORMATS)}")

    return check

"""The text of `feedwell.toml` → Project, or a ProjectError with all of its problems, each with its line and a mend.

Overlays go base < environment < surface < experiment arms; each declared one is tried here, so that none fails later.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

from pydantic import ValidationError

from feedwell.core.errors import Problem, ProjectError
from feedwell.core.project import Project
from feedwell.pipeline.validation import FILE, Finding, Path, findings_in, nearest, one_of

Overlay = Mapping[str, Any]
Check = Callable[[Project, Mapping[str, Any]], Iterable[Finding]]
"""(the project as far as it is valid, the file as read) → what else is wrong."""
_SECRET = re.compile(r"\$\{(\w+)\}")
_MAY_OVERLAY = ("source", "filter", "light", "ranker", "value", "slate", "objective")


def parse_project(
    text: str,
    *,
    file: str = "feedwell.toml",
    environment: str | None = None,
    overlays: Sequence[Overlay] = (),
    variables: Mapping[str, str] | None = None,
    checks: Sequence[Check] = (),
    modules: Mapping[str, str] | None = None,
) -> Project:
    """The typed project under `[environment.<environment>]` and then `overlays` (nested or dotted keys).

    `variables` (default: the process's environment) fill `${NAME}`. `checks` run on the project and under each overlay
    that it declares. `modules`: the project's own files as they were loaded. ProjectError lists every problem of all.
    """
    own = modules or {}
    checks = [partial(_with_modules, own, check) for check in checks]
    try:
        data = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        told = re.sub(r"Cannot declare \('(.*)',?\) twice", r"[\1] stands twice", str(error).split(" (at ")[0])
        told = told.replace("', '", ".").replace("Cannot overwrite a value", "this key stands twice")
        at = int(line[1]) if line else None
        raise ProjectError([Problem(key="toml", message=told, line=at, expected="valid TOML", file=file)]) from None
    findings = list(_fill_secrets(data, os.environ if variables is None else variables))
    project, found = _validated(data, checks)
    findings += [*found, *_overlay_findings(data, {(f.path, f.message) for f in found}, checks)]
    known = [name for name, _ in _tables(data.get("environment"))]
    if environment is not None and environment not in known:
        findings.append(Finding(("environment", environment), "is not declared", nearest=nearest(environment, known)))
    if findings or project is None:
        lines = lines_of(text.removeprefix("\ufeff"))
        problems = {_problem(f, lines, file) for f in findings}
        raise ProjectError(sorted(problems, key=lambda p: (p.line or 0, p.key, p.message)))
    layers = [data["environment"][environment], *overlays] if environment else overlays
    return (_overlaid_project(data, layers) if layers else project).with_modules(own)


def _with_modules(
    modules: Mapping[str, str], check: Check, project: Project, data: Mapping[str, Any]
) -> Iterable[Finding]:
    return check(project.with_modules(modules), data)


def variant(project: Project, *, surface: str | None = None, assignments: Mapping[str, str] | None = None) -> Project:
    """The project as one surface and one set of arms (experiment → arm) see it; itself if nothing overlays."""
    layers: list[Overlay] = [project.surface[surface]] if surface in project.surface and surface else []
    for experiment, arm in sorted((assignments or {}).items()):
        if experiment in project.experiment and arm in project.experiment[experiment].arms:
            layers.append(project.experiment[experiment].arms[arm])
    if not layers:
        return project
    return _overlaid_project(project.model_dump(by_alias=True), layers).with_modules(project.modules)


def _overlaid_project(data: Mapping[str, Any], overlays: Sequence[Overlay]) -> Project:
    for overlay in overlays:
        data = _merged(data, overlay)[0]
    return Project.model_validate(data)


def _validated(data: Mapping[str, Any], checks: Sequence[Check]) -> tuple[Project | None, list[Finding]]:
    """The project and its problems; keys that do not fit are left out, so that the rest is checked."""
    findings: list[Finding] = []
    rest = copy.deepcopy(dict(data))
    for _ in range(4):  # leaving a key out can leave its section incomplete, then its table: no deeper than that
        try:
            project = Project.model_validate(rest, context=FILE)
        except ValidationError as error:
            new = list(findings_in(error, rest, Project))
            findings += [f for f in new if not any(_follows(f, g) for g in findings)]
            for finding in new:
                _leave_out(rest, finding)
        else:
            return project, [*findings, *(f for check in checks for f in check(project, data))]
    return None, findings


def _within(path: Path, table: Path) -> bool:
    return path[: len(table)] == table


def _follows(later: Finding, earlier: Finding) -> bool:
    """Whether it may be there only because what was wrong before has been left out."""
    is_emptied = later.is_missing or later.message.endswith("does not fit")
    return _within(later.path, earlier.path) or (is_emptied and _within(earlier.path, later.path))


def _leave_out(data: dict[str, Any], finding: Finding) -> None:
    path = finding.path[:-1] if finding.is_missing else finding.path
    if not path or path == ("project",):
        data["project"] = {"name": "unnamed"}
        return
    table = data
    for depth, key in enumerate(path, 1):
        if depth == len(path) or not isinstance(table.get(str(key)), dict):  # one bad element spoils its list
            table.pop(str(key), None)
            return
        table = table[str(key)]


def _overlay_findings(
    data: Mapping[str, Any], base: set[tuple[Path, str]], checks: Sequence[Check]
) -> Iterator[Finding]:
    """What goes wrong under each environment, surface and arm, and keys that arms of two experiments both set."""
    kinds = ("environment", "surface")
    layers: list[tuple[Path, Overlay]] = [((kind, name), o) for kind in kinds for name, o in _tables(data.get(kind))]
    set_by: list[tuple[str, Path, Path]] = []
    for experiment, section in _tables(data.get("experiment")):
        for arm, overlay in _tables(section.get("arms")):
            origin: Path = ("experiment", experiment, "arms", arm)
            layers.append((origin, overlay))
            set_by += [(experiment, target, (*origin, *place)) for target, place, _ in _flat(overlay)]
    for origin, overlay in layers:
        yield from _one_overlay(data, origin, overlay, base, checks)
    for (one, target, _), (other, second, place) in combinations(set_by, 2):
        n = min(len(target), len(second))
        if one != other and target[:n] == second[:n]:
            yield Finding(place, f"is also set by experiment '{one}', whose arms may meet these")


def _one_overlay(
    data: Mapping[str, Any], origin: Path, overlay: Overlay, base: set[tuple[Path, str]], checks: Sequence[Check]
) -> Iterator[Finding]:
    allowed = set(_MAY_OVERLAY if origin[0] != "environment" else Project.model_fields) - {"environment"}
    merged, places = _merged(data, overlay)
    for target, place in places.items():
        if target[0] not in allowed:
            yield Finding((*origin, *place), f"{origin[0]} cannot set '{target[0]}'", one_of(allowed))
            merged[str(target[0])] = data.get(str(target[0]), {})
    findings = [f for f in _validated(merged, checks)[1] if (f.path, f.message) not in base]
    if origin[0] == "environment":
        inner = _overlay_findings({k: v for k, v in merged.items() if k != "environment"}, base, checks)
        findings += [f for f in inner if any(_within(f.path, target) for target in places)]
    for f in findings:
        at = f.path[:-1] if f.is_missing else f.path
        touched = [(t, p) for t, p in places.items() if _within(t, at) or _within(at, t)]
        if not touched or touched[0][0] == touched[0][1]:  # written as the path is: the line is found by it
            yield dataclasses.replace(f, path=(*origin, *f.path))
        else:
            told = f"{'.'.join(map(str, f.path))} {f.message}" if f.is_missing else f.message
            yield dataclasses.replace(f, path=(*origin, *touched[0][1]), message=told)


def _merged(data: Mapping[str, Any], overlay: Overlay) -> tuple[dict[str, Any], dict[Path, Path]]:
    """The data under the overlay, and for each key it set where the overlay says so."""
    merged: dict[str, Any] = copy.deepcopy(dict(data))
    places: dict[Path, Path] = {}
    for target, place, value in _flat(overlay):
        table = merged
        for key in target[:-1]:
            inner = table.get(str(key))
            table[str(key)] = table = dict(inner) if isinstance(inner, Mapping) else {}
        table[str(target[-1])] = value
        places[target] = place
    return merged, places


def _flat(overlay: Overlay, target: Path = (), place: Path = ()) -> Iterator[tuple[Path, Path, Any]]:
    """(key path that is set, its place in the overlay, value): `{"slate.k" = 5}` and `{slate = {k = 5}}` alike."""
    for key, value in overlay.items():
        inner_target, inner_place = (*target, *key.split(".")), (*place, key)
        if isinstance(value, Mapping):
            yield from _flat(value, inner_target, inner_place)
        else:
            yield inner_target, inner_place, value


def _tables(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    return [(k, v) for k, v in value.items() if isinstance(v, Mapping)] if isinstance(value, Mapping) else []


def _fill_secrets(table: Any, variables: Mapping[str, str], path: Path = ()) -> Iterator[Finding]:
    """Puts each `${NAME}` of the table's texts in place; yields those that are not set."""
    for key, value in list(table.items() if isinstance(table, dict) else enumerate(table)):
        if isinstance(value, dict | list):
            yield from _fill_secrets(value, variables, (*path, key))
        elif isinstance(value, str):
            missing = [name for name in _SECRET.findall(value) if name not in variables]
            for name in missing:
                yield Finding((*path, key), f"the environment variable {name} is not set", f"export {name}=...")
            if not missing:
                table[key] = _SECRET.sub(lambda found: variables[found[1]], value)


def lines_of(text: str) -> dict[Path, int]:
    """Path of keys and list indices → the line where its statement begins, counted from 1. For texts that are TOML.

    Reads ever longer heads of the text: slow (a second for 1,000 lines), but only a message needs it.

    >>> lines_of("[a.b]\\nc = [\\n  { d = 1 }]")
    {('a',): 1, ('a', 'b'): 1, ('a', 'b', 'c'): 2, ('a', 'b', 'c', 0): 2, ('a', 'b', 'c', 0, 'd'): 2}
    """
    lines, found, begin = text.split("\n"), dict[Path, int](), 1
    for n in range(1, len(lines) + 1):
        try:
            data = tomllib.loads("\n".join(lines[:n]))
        except tomllib.TOMLDecodeError:  # inside a statement of several lines
            continue
        for path in _paths(data):
            found.setdefault(path, begin)
        begin = n + 1
    return found


def _paths(table: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(table, dict | list):
        for key, value in table.items() if isinstance(table, dict) else enumerate(table):
            yield (*path, key)
            yield from _paths(value, (*path, key))


def _problem(finding: Finding, lines: Mapping[Path, int], file: str) -> Problem:
    path = finding.path
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    key = ".".join(f'"{p}"' if isinstance(p, str) and "." in p else str(p) for p in path)
    told = {"message": finding.message, "expected": finding.expected, "nearest": finding.nearest}
    return Problem(key=key, line=line, file=file, **told)

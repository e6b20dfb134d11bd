"""A trial of what a project declares: every part made, the features compiled, and what fails, as findings.

The sections' own checks (`project_checks`) may have found problems before. What only follows from those is not told
again: a place that has a problem already, and a part's wish for what the file has but what did not validate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from feedwell.core.errors import Problem, ProjectError, UsageError
from feedwell.core.needs import FeatureNeed, Need
from feedwell.core.project import Project
from feedwell.core.protocols import learns
from feedwell.features import FeatureSet
from feedwell.pipeline.compile import NEWEST, make_metric, make_part, own_needs, part_names
from feedwell.pipeline.validation import Finding, Path, nearest, one_of

_ROOTS = ("user", "item")


def trial_findings(project: Project, data: Mapping[str, Any], told: Collection[Path]) -> Iterator[Finding]:
    """What fails in making and compiling; `told`: the places of problems that are known already."""
    project = _without_circles(project, told)
    parts, failed = _parts(project, told)
    wanted = (need for part in parts.values() for need in part.needs)
    features, uncompiled = _compiled(project, tuple(dict.fromkeys((NEWEST, *own_needs(project), *wanted))))
    for finding in (*failed, *uncompiled):
        if not _was_left_out(project, data, finding.path) and not any(_meets(finding.path, other) for other in told):
            yield finding
    wrong = {f.path[1] for f in uncompiled if f.path[0] == "feature"} | {p[1] for p in told if p[:1] == ("feature",)}
    columns = [column.name for column in features.user_columns if column.feature not in wrong]
    user = project.entity.get("user") if uncompiled else None
    yield from _slices(project, [*columns, *(f"user.{name}" for name in (user.columns if user else ()))], wrong)
    yield from _sources(project, parts, features, columns)


def _without_circles(project: Project, told: Collection[Path]) -> Project:
    """Entities whose `from` leads nowhere, or in a circle, come from a column of the item: so the rest compiles."""
    wrong = {path[1:] for path in told if path[:1] == ("entity",) and path[2:3] in (("from",), ("group",))}
    if not wrong:
        return project
    data = project.model_dump(by_alias=True)
    for name, key in wrong:
        data["entity"][name][key] = None if key == "group" or name in _ROOTS else f"item.{name}"
    return Project.model_validate(data).with_modules(project.modules)


def _parts(project: Project, told: Collection[Path]) -> tuple[dict[str, Any], list[Finding]]:
    """The parts that can be made; why others cannot, unless that is told."""
    parts: dict[str, Any] = {}
    failed: list[Finding] = []
    for name in (*part_names(project), *(f"metric.{n}" for n in project.metric)):
        at = tuple(name.split("."))
        try:
            parts[name] = make_metric(project, at[1]) if at[0] == "metric" else make_part(project, name)
        except (ProjectError, UsageError) as error:
            if not any(path[: len(at)] == at for path in told):
                failed += _findings(error, at)
    return parts, failed


def _compiled(project: Project, needs: tuple[Need, ...]) -> tuple[FeatureSet, list[Finding]]:
    """The features, as far as they compile; and the problems of those that do not."""
    try:
        return FeatureSet.compile(project, needs), []
    except ProjectError as error:
        found = _findings(error, ())
    wrong = {path.path[1] for path in found if path.path[0] == "feature"}
    rest = {name: config for name, config in project.feature.items() if name not in wrong}
    return FeatureSet.compile(project.model_copy(update={"feature": rest})), found


def _sources(project: Project, parts: Mapping[str, Any], features: FeatureSet, columns: list[str]) -> Iterator[Finding]:
    """What a source reads is of the user alone, because it has no item yet, and what it learns from are numbers."""
    items = {column.name for column in features.item_columns}
    expected = one_of(columns, "no feature: no number is of the user alone")
    for name, section in project.source.items():
        part = parts.get(f"source.{name}")
        for need in part.needs if part is not None else ():
            if not isinstance(need, FeatureNeed):
                continue
            keys = [k for k, v in section.options.items() if isinstance(v, list | tuple) and need.column in v]
            at = ("source", name, *keys[:1])
            if need.column in items:
                yield Finding(at, f"'{need.column}' is not of the user alone, and a source has no item yet", expected)
            elif need.column in features.sequences and learns(part):
                yield Finding(at, f"'{need.column}' is a list, and a source learns from numbers", expected)


def _slices(project: Project, columns: list[str], wrong: Collection[object]) -> Iterator[Finding]:
    for name in project.evaluate.slices:
        of_wrong = any(name == feature or name.startswith(f"{feature}_") for feature in wrong)
        if not of_wrong and not {name, f"user.{name}"} & {*columns}:
            told = f"no feature column of the user alone is called '{name}'"
            yield Finding(("evaluate", "slices"), told, one_of(columns, "no slices"), nearest(name, columns))


def _findings(error: ProjectError | UsageError, at: Path) -> list[Finding]:
    if isinstance(error, ProjectError):
        return [_finding(problem) for problem in error.problems]
    key, _, message = str(error).partition(": ")
    return [Finding(tuple(key.split(".")) if message else at, message or str(error))]


def _finding(problem: Problem) -> Finding:
    return Finding(tuple(problem.key.split(".")), problem.message, problem.expected, problem.nearest)


def _meets(one: Path, other: Path) -> bool:
    n = min(len(one), len(other))
    return one[:n] == other[:n]


def _was_left_out(project: Project, data: Mapping[str, Any], path: Path) -> bool:
    """Whether the file has something there that did not validate: told where it stands."""
    return _has(data, path) and not _has(project.model_dump(by_alias=True), path)


def _has(table: Any, path: Iterable[object]) -> bool:
    for key in path:
        if not isinstance(table, Mapping) or key not in table:
            return False
        table = table[key]
    return True

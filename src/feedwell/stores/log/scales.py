"""Scales: what each event type's values were multiplied by, kept with the log since its first value of that type.

The log holds `value_scaled`, whole numbers: read at another scale every amount ever stored would be another one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from feedwell.core.errors import Problem, ProjectError
from feedwell.core.project import Project

_READ = "SELECT type, value_scale FROM scale"


def kept_scales(connection: sqlite3.Connection | sqlite3.Cursor) -> dict[str, int]:
    """event type → the scale of its stored values; types without a value have none yet."""
    return dict(connection.execute(_READ))


def scales_on_disk(folder: Path) -> dict[str, int]:
    """The same of the log under a folder (`<project>/.feedwell`), which is not made; empty where there is none."""
    path = folder / "log/hot.sqlite"
    if not path.is_file():
        return {}
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return {}
    try:
        return kept_scales(connection)
    except sqlite3.Error:
        return {}  # a log of before scales were kept; one that is damaged is told of by whoever opens it
    finally:
        connection.close()


def rescaled(kept: Mapping[str, int], project: Project) -> Iterator[tuple[str, str, str]]:
    """(event type, what is wrong, what was expected) of each type that the project declares at another scale."""
    for name, scale in sorted(kept.items()):
        declared = project.event_section(name).value_scale
        if declared != scale:
            yield (
                name,
                f"{declared}, while the log holds values of this type at scale {scale}",
                f"{scale}; another scale needs a new log: move .feedwell away, ingest and train again",
            )


def require_scales(kept: Mapping[str, int], project: Project) -> None:
    """ProjectError: the project would read stored values at another scale."""
    problems = [
        Problem(key=f"event.{name}.value_scale", message=message, expected=expected)
        for name, message, expected in rescaled(kept, project)
    ]
    if problems:
        raise ProjectError(problems)


def keep_scales(cursor: sqlite3.Cursor, project: Project, types: set[str]) -> None:
    """Keeps the scale of types that are about to get a value; ProjectError where another process kept another one
    since this log was opened. Inside the transaction that stores the values."""
    if not types:
        return
    kept = {name: project.event_section(name).value_scale for name in types}
    cursor.executemany("INSERT OR IGNORE INTO scale VALUES (?, ?)", kept.items())
    require_scales({name: scale for name, scale in kept_scales(cursor).items() if name in types}, project)

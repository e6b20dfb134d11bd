"""What to say of stored events that came before an entity was declared: they carry no key of it, and never will."""

from __future__ import annotations

from pathlib import Path

from feedwell.core.project import Project
from feedwell.stores.log import rows_without


def unkeyed_notes(project: Project, state_folder: Path) -> list[str]:
    """One text for each such entity of the project; none without a log under `state_folder` (`<project>/.feedwell`)."""
    return [
        f"{n:,} stored events came before the entity '{entity}' was declared and have no key of it: no feature by"
        f" {entity} sees them. `feedwell ingest` gives it to events from then on; only a new .feedwell that is loaded"
        " from the files has it from the beginning"
        for entity, n in rows_without(state_folder, project.entities).items()
    ]

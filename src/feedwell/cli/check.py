"""Check the project file: every problem at once, and what the project as declared will cost."""

from __future__ import annotations

from pathlib import Path

from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, show
from feedwell.core.artifact import CHAMPION
from feedwell.core.errors import FeedwellError
from feedwell.data.unkeyed import unkeyed_notes
from feedwell.pipeline.compile import compile_features, part_names
from feedwell.pipeline.exploration import exploration_cost
from feedwell.pipeline.frozen import changed_plugins
from feedwell.pipeline.project_folder import STATE_FOLDER, load_project, missing_files
from feedwell.stores.releases import ReleaseStore


def command(
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    declared = load_project(project, environment=environment)
    features = compile_features(declared)
    cost = exploration_cost(declared)
    warnings = [
        *missing_files(declared, project),
        *unkeyed_notes(declared, project / STATE_FOLDER),
        *_changed_since_champion(project),
    ]
    result = {
        "project": declared.project.name,
        "digest": declared.digest,
        "entities": declared.entities,
        "event_types": declared.event_types,
        "objectives": list(declared.objective),
        "parts": part_names(declared),
        "feature_columns": [column.name for column in features.columns],
        "features_version": features.version,
        "exploration": cost,
        "warnings": warnings,
    }
    lines = [
        f"{declared.project.name}: no problems (project {declared.digest}, features {features.version})",
        f"entities: {', '.join(declared.entities)}; events: {', '.join(declared.event_types) or 'any'};"
        f" objectives: {', '.join(declared.objective) or 'none'}",
        f"parts: {', '.join(part_names(declared))}",
        f"feature columns: {len(features.columns)}",
        str(cost),
        *(f"warning: {warning}" for warning in warnings),
    ]
    show(result, lambda out: out.print("\n".join(lines), markup=False, soft_wrap=True), as_json=json)


def _changed_since_champion(folder: Path) -> list[str]:
    """Plug-ins that are not what the champion serves; nothing while there is no champion that can be read."""
    releases = ReleaseStore(folder / STATE_FOLDER)
    try:
        champion = releases.channel(CHAMPION)
        return [] if champion is None else changed_plugins(releases, releases.read(champion), folder)
    except FeedwellError as error:
        return [str(error)]

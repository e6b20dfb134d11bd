"""Roll back: the release before the champion serves again, configuration included."""

from __future__ import annotations

from feedwell import workspace
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, show


def command(project: ProjectOption = HERE, environment: EnvironmentOption = None, json: JsonOption = False) -> None:
    with workspace.open(project, environment=environment) as opened:
        champion = opened.rollback()
    show({"champion": champion}, lambda out: out.print(f"{champion} is the champion again", markup=False), as_json=json)

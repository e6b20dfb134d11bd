"""Roll back: the release before the champion serves again, configuration included."""

from __future__ import annotations

from feedwell import workspace
from feedwell.cli._shared import HERE, JsonOption, ProjectOption, show


def command(project: ProjectOption = HERE, json: JsonOption = False) -> None:
    with workspace.open(project) as opened:
        champion = opened.rollback()
    show({"champion": champion}, lambda out: out.print(f"{champion} is the champion again", markup=False), as_json=json)

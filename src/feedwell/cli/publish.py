"""Publish a release: the candidate if its gates hold, or the project file's changed `serve` keys."""

from __future__ import annotations

from typing import Annotated

import typer

from feedwell import workspace
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, show


def command(
    release: Annotated[str | None, typer.Argument(help="A release's id; default: the candidate.")] = None,
    config: Annotated[
        bool, typer.Option("--config", help="The project file as it is, over the champion's artifacts.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overrule the gates.")] = False,
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    with workspace.open(project, environment=environment) as opened:
        champion = opened.publish_config() if config else opened.publish(release, force=force)
        under = opened.releases.read(champion).environment
    text = f"{champion} is the champion" + (f", under [environment.{under}]" if under else "")
    result = {"champion": champion, "environment": under}
    show(result, lambda out: out.print(text, markup=False), as_json=json)

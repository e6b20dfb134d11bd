"""Explain a feed: why that request's slate is what it is, from its record."""

from __future__ import annotations

from typing import Annotated

import typer

from feedwell import workspace
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, show
from feedwell.pipeline.explain import lines_of


def command(
    request_id: Annotated[str, typer.Argument(help="As `recommend` or the server gave it.")],
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    with workspace.open(project, environment=environment) as opened:
        explained = opened.explain(request_id)
    show(explained, lambda out: out.print("\n".join(lines_of(explained)), markup=False), as_json=json)

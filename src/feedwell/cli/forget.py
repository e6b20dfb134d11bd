"""Forget a user: invisible to every reader at once, the id's key destroyed."""

from __future__ import annotations

from typing import Annotated

import typer

from feedwell import workspace
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, show


def command(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    with workspace.open(project, environment=environment) as opened:
        known = opened.forget(user) >= 0
    text = (
        "forgotten: no reader sees this user from now on; trained weights keep what they learned until the next train"
        if known
        else "nothing to forget: this project knows no such user"
    )
    show({"user": user, "was_known": known}, lambda out: out.print(text, markup=False), as_json=json)

"""Load the project's files into the log; bad rows go to quarantine with a reason each."""

from __future__ import annotations

from typing import Annotated

import typer

from feedwell import workspace
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, progress, show


def command(
    history: Annotated[
        bool, typer.Option("--history/--live", help="Rows are known since their own time, or since now (live events).")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Store nothing if any row is bad.")] = False,
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    with workspace.open(project, environment=environment) as opened, progress(quiet=json) as advance:
        report = opened.ingest(history=history, strict=strict, progress=advance)
    show(report.as_dict(), lambda out: out.print(str(report), markup=False), as_json=json)

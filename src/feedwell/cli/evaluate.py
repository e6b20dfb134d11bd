"""Judge the project as it is on all requests of the test span; nothing is written."""

from __future__ import annotations

from typing import Annotated

import typer

from feedwell import workspace
from feedwell.cli._report import print_evaluation
from feedwell.cli._shared import HERE, JsonOption, ProjectOption, progress, show


def command(
    max_requests: Annotated[int | None, typer.Option(min=1, help="At most so many requests, by hash.")] = None,
    project: ProjectOption = HERE,
    json: JsonOption = False,
) -> None:
    with workspace.open(project) as opened, progress(quiet=json) as advance:
        report = opened.evaluate(max_requests=max_requests, progress=advance)
    show(report.to_dict(), lambda out: print_evaluation(out, report), as_json=json)

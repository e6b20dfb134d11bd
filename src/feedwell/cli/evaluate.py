"""Judge the project as it is on all requests of the test span; no release is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from feedwell import workspace
from feedwell.cli._report import print_evaluation
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, progress, show
from feedwell.training.report import EvaluateReport


def command(
    max_requests: Annotated[int | None, typer.Option(min=1, help="At most so many requests, by hash.")] = None,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the report as one page for people to this file.")
    ] = None,
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    with workspace.open(project, environment=environment) as opened, progress(quiet=json) as advance:
        report = opened.evaluate(max_requests=max_requests, html=html, progress=advance)
    show(report.to_dict(), lambda out: _say(out, report, html), as_json=json)


def _say(out: Console, report: EvaluateReport, html: Path | None) -> None:
    print_evaluation(out, report)
    if html is not None:
        out.print(f"\nthe report as a page: {html}", markup=False, soft_wrap=True)

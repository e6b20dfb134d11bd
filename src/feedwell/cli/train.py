"""Fit, judge and write a release into the candidate channel."""

from __future__ import annotations

from typing import Annotated

import typer

from feedwell import workspace
from feedwell.cli._report import print_training
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, progress, show

_REQUESTS = 2000


def command(
    max_requests: Annotated[
        int, typer.Option(min=1, help="Judge on at most so many requests, by hash; `evaluate` takes all.")
    ] = _REQUESTS,
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    with workspace.open(project, environment=environment) as opened, progress(quiet=json) as advance:
        report = opened.train(max_requests=max_requests, progress=advance)
        page = opened.report_path(report.release_id)
    found = report.to_dict() | {"page": None if page is None else str(page)}
    show(found, lambda out: print_training(out, report, page), as_json=json)

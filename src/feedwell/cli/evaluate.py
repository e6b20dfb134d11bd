"""Judge the project as it is on all requests of the test span; no release is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from feedwell import workspace
from feedwell.cli._report import print_evaluation
from feedwell.cli._shared import (
    HERE,
    EnvironmentOption,
    JsonOption,
    ProjectOption,
    after_result,
    console,
    progress,
    show,
)
from feedwell.stores.durable import output_file
from feedwell.training.page.build import write_page


def command(
    max_requests: Annotated[int | None, typer.Option(min=1, help="At most so many requests, by hash.")] = None,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the report as one page for people to this file.")
    ] = None,
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    page = None if html is None else output_file(html, "--html")
    with workspace.open(project, environment=environment) as opened, progress(quiet=json) as advance:
        content = opened.judged(max_requests=max_requests, progress=advance)
    report = content.evaluation
    show(report.to_dict(), lambda out: print_evaluation(out, report), as_json=json)
    if page is not None:
        with after_result("--html", page):
            write_page(content, page)
        if not json:
            console().print(f"\nthe report as a page: {html}", markup=False, soft_wrap=True)

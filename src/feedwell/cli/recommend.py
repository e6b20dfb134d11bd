"""Recommend a feed for one user, with the champion release."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from feedwell import workspace
from feedwell.cli._shared import HERE, JsonOption, ProjectOption, show, table
from feedwell.pipeline.explain import lines_of


def command(
    user: Annotated[str, typer.Argument(help="The user's id; an unknown one is a newcomer.")],
    n: Annotated[
        int | None, typer.Option("--n", "-n", min=1, max=1000, help="How many; default: the slate's k.")
    ] = None,
    surface: Annotated[str, typer.Option(help="Home, search, email ... as declared.")] = "default",
    exclude: Annotated[list[str] | None, typer.Option(help="Item ids to leave out; may be repeated.")] = None,
    explore: Annotated[bool, typer.Option(help="--no-explore takes the best at every slot.")] = True,
    explain: Annotated[bool, typer.Option("--explain", help="Say why, slot by slot.")] = False,
    project: ProjectOption = HERE,
    json: JsonOption = False,
) -> None:
    with workspace.open(project) as opened:
        answer = opened.recommend(user, n, surface=surface, exclude=exclude or (), explore=explore, trace=explain)
        explained = opened.explain(answer.request_id) if explain else None
        rows = answer.table.to_pylist()
    result = {
        "request_id": answer.request_id,
        "user": user,
        "release": answer.record.release_id,
        "degraded": answer.record.degraded,
        "fallback": answer.record.fallback,
        "cursor": answer.cursor,
        "items": rows,
    } | ({"explained": explained} if explained else {})
    notes = [f"request {answer.request_id} by {answer.record.release_id or 'no release yet'}"]
    notes += [f"degraded: {why}" for why in answer.record.degraded]
    notes += [f"fallback: {answer.record.fallback}"] if answer.record.fallback else []
    notes += [answer.record.short] if answer.record.short else []
    columns = answer.table.column_names
    shown = table(f"feed of {user}", columns, [[row[c] for c in columns] for row in rows])

    def text(out: Console) -> None:
        out.print(shown)
        out.print("\n".join([*notes, *(lines_of(explained) if explained else ())]), markup=False)

    show(result, text, as_json=json)

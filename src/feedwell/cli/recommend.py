"""Recommend a feed for one user, with the champion release."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from feedwell import workspace
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, show, table
from feedwell.core.errors import UsageError
from feedwell.pipeline.explain import lines_of


def command(
    user: Annotated[str, typer.Argument(help="The user's id; an unknown one is a newcomer.")],
    n: Annotated[
        int | None, typer.Option("--n", "-n", min=1, max=1000, help="How many; default: the slate's k.")
    ] = None,
    surface: Annotated[str, typer.Option(help="Home, search, email ... as declared.")] = "default",
    exclude: Annotated[list[str] | None, typer.Option(help="Item ids to leave out; may be repeated.")] = None,
    among: Annotated[
        Path | None, typer.Option(help="Rank these items only: a file with one id a line, or - for standard input.")
    ] = None,
    ignore_filter: Annotated[
        list[str] | None, typer.Option(help="With --among: a filter that does not apply; may be repeated.")
    ] = None,
    shown: Annotated[
        bool, typer.Option("--shown/--not-shown", help="With --among: --not-shown ranks, and counts as no exposure.")
    ] = True,
    explore: Annotated[bool, typer.Option(help="--no-explore takes the best at every slot.")] = True,
    explain: Annotated[bool, typer.Option("--explain", help="Say why, slot by slot.")] = False,
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    with workspace.open(project, environment=environment) as opened:
        if among is None and not ignore_filter and shown:
            answer = opened.recommend(user, n, surface=surface, exclude=exclude or (), explore=explore, trace=explain)
        elif among is None or exclude:
            raise UsageError("--ignore-filter and --not-shown go only with --among, and --exclude only without it")
        else:
            asked: Any = {"surface": surface, "explore": explore, "trace": explain}
            answer = opened.rank(user, _ids(among), n, ignore_filters=ignore_filter or (), shown=shown, **asked)
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
    }
    result |= {"unknown": answer.unknown, "shown": shown} if among else {}
    result |= {"explained": explained} if explained else {}
    notes = [f"request {answer.request_id} by {answer.record.release_id or 'no release yet'}"]
    notes += [f"degraded: {why}" for why in answer.record.degraded]
    notes += [f"fallback: {answer.record.fallback}"] if answer.record.fallback else []
    notes += [answer.record.short] if answer.record.short else []
    notes += [f"never seen, not ranked: {', '.join(answer.unknown)}"] if answer.unknown else []
    columns = answer.table.column_names
    feed = table(f"feed of {user}", columns, [[row[c] for c in columns] for row in rows])

    def text(out: Console) -> None:
        out.print(feed)
        out.print("\n".join([*notes, *(lines_of(explained) if explained else ())]), markup=False)

    show(result, text, as_json=json)


def _ids(among: Path) -> list[str]:
    """One id a line, empty lines are none. But for a byte order mark nothing is taken off: ids may end in spaces."""
    try:
        text = sys.stdin.buffer.read() if str(among) == "-" else among.read_bytes()
        return [line for line in text.decode("utf-8-sig").replace("\r\n", "\n").split("\n") if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--among {among}: expected a UTF-8 file with one item id a line: {error}") from None

"""Measure parts on files of your own, beside simple baselines.

Sub-commands load what they need when they are called.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from feedwell.cli._shared import JsonOption, progress, show, table

app = typer.Typer(
    help=(__doc__ or "").splitlines()[0], add_completion=False, rich_markup_mode=None, no_args_is_help=True
)


class Form(StrEnum):
    sequences = "sequences"
    user_item = "user-item"


@app.callback()
def bench() -> None:
    """Measure parts on files of your own, beside simple baselines."""


@app.command("next-item")
def next_item(
    sequences: Annotated[
        Path, typer.Option(help="`user item item ...` per line, in time order; see --format.", metavar="FILE")
    ],
    sources: Annotated[str, typer.Option(help="Sources to measure, by name.", metavar="A,B")] = (
        "popular,transitions,als"
    ),
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=10_000, help="Length of the lists.")] = 10,
    form: Annotated[Form, typer.Option("--format", help="sequences: one user a line; user-item: one event.")] = (
        Form.sequences
    ),
    on: Annotated[str, typer.Option(help="`test`, or `validation` to choose settings.")] = "test",
    seed: Annotated[int, typer.Option(help="Seed of what learns by chance.")] = 0,
    json: JsonOption = False,
) -> None:
    """Rank each user's last item over all items, by `Source.batch`: recall, NDCG and MRR with a standard error."""
    from feedwell.training.next_item import evaluate_next_item, read_sequences

    names = list(dict.fromkeys(name.strip() for name in sources.split(",") if name.strip()))
    with progress(quiet=json) as advance:
        read = read_sequences(sequences, form.value)
        results = []
        protocol = ""
        for done, name in enumerate(names):
            advance(f"next-item: {name}", done, len(names))
            protocol, found = evaluate_next_item(read, [name], k, seed=seed, on=on)
            results += [one.to_dict() for one in found]
        if not names:
            evaluate_next_item(read, names, k)

    def text(out: Console) -> None:
        out.print(table("", list(results[0]), [list(row.values()) for row in results]))
        out.print(f"\n{protocol}", markup=False)

    show({"protocol": protocol, "results": results}, text, as_json=json)

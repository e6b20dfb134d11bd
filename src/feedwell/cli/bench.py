"""Measure parts on files of your own, beside simple baselines.

Sub-commands load what they need when they are called.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from feedwell.cli._shared import JsonOption, progress, show, table
from feedwell.core.errors import UsageError

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

    names = _names(sources)
    with progress(quiet=json) as advance:
        read = read_sequences(sequences, form.value)
        measured = _measure(
            lambda some: evaluate_next_item(read, some, k, seed=seed, on=on),
            names,
            lambda name, done: advance(f"next-item: {name}", done, len(names)),
        )
    _show(measured, as_json=json)


@app.command("retrieval")
def retrieval(
    train: Annotated[Path, typer.Option(help="`user item item ...` per line: what is fitted on.", metavar="FILE")],
    test: Annotated[Path, typer.Option(help="The same form: what is to be found.", metavar="FILE")],
    sources: Annotated[str, typer.Option(help="Sources to measure, by name.", metavar="A,B")] = "popular,item_knn,als",
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=10_000, help="Length of the lists.")] = 20,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="A source's key, as in ease.regularization=300.", metavar="SOURCE.KEY=VALUE"),
    ] = None,
    on: Annotated[str, typer.Option(help="`test`, or `validation` (of train alone) to choose settings.")] = "test",
    seed: Annotated[int, typer.Option(help="Seed of what learns by chance, and of the validation part.")] = 0,
    json: JsonOption = False,
) -> None:
    """Rank all items for each user of the test file, by `Source.batch`: recall, NDCG and MRR with a standard error."""
    from feedwell.training.retrieval import answers_on, evaluate_retrieval, read_train_test

    names, options = _names(sources), _options(option or [])
    if stray := sorted(set(options) - set(names)):
        raise UsageError(f"--set {stray[0]}.…: '{stray[0]}' is not among --sources {','.join(names)}")
    with progress(quiet=json) as advance:
        read = read_train_test(train, test)
        measured = _measure(
            lambda some: evaluate_retrieval(read, some, k, seed=seed, on=on, options=options),
            names,
            lambda name, done: advance(f"retrieval: {name}", done, len(names)),
        )
    answers = answers_on(read, on, seed)
    note = str(answers) if answers.n_on_train_line or answers.n_not_in_train else ""
    _show(measured | {"answers": asdict(answers)}, note, as_json=json)


def _names(sources: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in sources.split(",") if name.strip()))


def _options(texts: list[str]) -> dict[str, dict[str, Any]]:
    """`source.key=value` as TOML reads the value; a bare word is text."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        name, _, key = place.strip().partition(".")
        if not (name and key and equals):
            raise UsageError(f"--set '{text}': expected SOURCE.KEY=VALUE, as in ease.regularization=300")
        keys = found.setdefault(name, {})
        try:
            keys[key] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            keys[key] = value.strip()
    return found


def _measure(
    measure: Callable[[list[str]], tuple[str, list[Any]]], names: list[str], advance: Callable[[str, int], None]
) -> dict[str, Any]:
    """The protocol and the results of the sources, measured one at a time, so that progress shows."""
    results: list[dict[str, Any]] = []
    protocol = ""
    for done, name in enumerate(names):
        advance(name, done)
        protocol, found = measure([name])
        results += [one.to_dict() for one in found]
    if not names:
        measure(names)
    return {"protocol": protocol, "results": results}


def _show(measured: dict[str, Any], note: str = "", *, as_json: bool) -> None:
    results = measured["results"]

    def text(out: Console) -> None:
        out.print(table("", list(results[0]), [list(row.values()) for row in results]))
        out.print("\n".join(["", measured["protocol"], *filter(None, [note])]), markup=False)

    show(measured, text, as_json=as_json)

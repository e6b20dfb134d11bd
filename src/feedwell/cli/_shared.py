"""What commands share: their options, one way to print a result, one way to show progress."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

ProjectOption = Annotated[
    Path, typer.Option("--project", "-p", help="The project's folder.", exists=True, file_okay=False)
]
EnvironmentOption = Annotated[
    str | None, typer.Option("--environment", help="Under this [environment.*].", metavar="NAME")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Advance = Callable[[str, int, int | None], None]
"""(what is being done, how much of it is done, of how much; None: not known)"""
HERE = Path(".")


def show(result: Any, text: Callable[[Console], None], *, as_json: bool) -> None:
    """Prints the result: as JSON, or as `text` writes it."""
    if as_json:
        typer.echo(json.dumps(plain(result), ensure_ascii=False))
    else:
        text(console())


def console() -> Console:
    """Output for people; piped, it is as wide as it needs to be."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table for `console`: text left, numbers right."""
    filled = [[_cell(cell) for cell in row] for row in rows]
    made = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(columns):
        numeric = bool(filled) and all(
            row[i].lstrip("-+±≈")[:1].isdigit() or not row[i] or row[i] == "–" for row in filled
        )
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in filled:
        made.add_row(*row)
    return made


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return "" if value is None else str(value)


def plain(value: Any) -> Any:
    """The value as JSON's types; NaN becomes null."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@contextmanager
def after_result(option: str, path: Path) -> Iterator[None]:
    """Writes a file beside a result that is printed already: a failure goes to stderr alone, with exit code 5."""
    try:
        yield
    except OSError as error:
        typer.echo(f"feedwell: {option} {path} was not written: {error.strerror}; the result is whole", err=True)
        raise typer.Exit(5) from error


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Advance]:
    """Shows on stderr how far long work is; silent with `quiet` or where stderr is no terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    screen = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Progress(
        *columns, TimeElapsedColumn(), console=screen, transient=True, disable=quiet or not screen.is_terminal
    ) as bar:

        def advance(what: str, done: int, total: int | None) -> None:
            # What follows a semicolon is a remark on the same work, such as the time that is left.
            name = what.partition("; ")[0]
            if name not in tasks:
                tasks[name] = bar.add_task(what, total=total, count="")
            count = f"{done:,}" + (f" of {total:,}" if total else "")
            bar.update(tasks[name], description=what, completed=done, total=total, count=count)

        yield advance

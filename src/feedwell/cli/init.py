"""Write a commented project file: proposed from your events, for a public data set, or to be filled in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from feedwell.cli._shared import HERE, JsonOption, show
from feedwell.core import registry
from feedwell.core.errors import UsageError
from feedwell.data.datasets import Dataset, detect_dataset
from feedwell.data.datasets._template import FRESH
from feedwell.data.propose import left_out, propose
from feedwell.pipeline.project_folder import FILE_NAME, load_project

_ROLES = (
    *("user", "item", "type", "ts", "value", "request_id", "session", "slot", "surface", "device", "event_id"),
    "available_at",
)


def command(
    folder: Annotated[Path, typer.Argument(help="Where the project goes; made if missing.")] = HERE,
    dataset: Annotated[str | None, typer.Option(help="The adapter to use; with --data it is found by itself.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with a public data set.")] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A file or folder of events: looked at, and each guess told.", metavar="PATH"),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="With --from: which column is which, as in user=visitorid.", metavar="OURS=THEIRS"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a project file.")] = False,
    json: JsonOption = False,
) -> None:
    path = folder / FILE_NAME
    result: dict[str, Any] = {"file": str(path), "dataset": ""}
    beside = ""
    if source is not None:
        if dataset or data:
            raise UsageError("--from looks at any events, --data and --dataset at known sets: give one of them")
        n = propose_project(folder, source, _given(column or []), force=force)
        result |= {"from": str(source), "left_out": n}
        beside = f"\n{left_out(n, source)}" if n else ""
    else:
        if column:
            raise UsageError("--column goes with --from: in a project file write [data] columns")
        result["dataset"] = write_project(folder, dataset=dataset, data=data, force=force)
    where = "" if folder == HERE else f" --project {folder}"
    edit = "read its guesses" if source else "edit it"
    text = f"wrote {path}{beside}\nnext: {edit}, then `feedwell check{where}` and `feedwell ingest{where}`"
    show(result, lambda out: out.print(text, markup=False), as_json=json)


def propose_project(folder: Path, source: Path, given: dict[str, str], *, force: bool = False) -> int:
    """Writes the project file that the events propose; what it says has passed `check`. How many files of the same
    form lie beside the one that was named, and are left out."""
    path = _free(folder, force=force)
    proposal = propose(source, folder, _project_name(folder), given)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(proposal.text, encoding="utf-8")
    load_project(folder)
    return proposal.n_left_out


def _given(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        role, equals, name = text.partition("=")
        if not equals or role not in _ROLES or not name:
            raise UsageError(f"--column '{text}': expected OURS=THEIRS, where ours is one of {', '.join(_ROLES)}")
        found[role] = name
    return found


def _free(folder: Path, *, force: bool) -> Path:
    path = folder / FILE_NAME
    if path.exists() and not force:
        raise UsageError(f"{path} exists; --force overwrites it")
    return path


def write_project(folder: Path, *, dataset: str | None = None, data: Path | None = None, force: bool = False) -> str:
    """Writes the project file; the adapter's name, "" for a fresh project."""
    path = _free(folder, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    if dataset is None and data is None:
        path.write_text(FRESH.replace("<name>", _project_name(folder)), encoding="utf-8")
        return ""
    adapter: type[Dataset] = registry.find("dataset", dataset) if dataset else detect_dataset(data or folder)
    path.write_text(adapter.prepare(data or folder, folder), encoding="utf-8")
    return adapter.name


def _project_name(folder: Path) -> str:
    return re.sub(r"[^\w-]+", "-", folder.resolve().name).strip("-")[:64] or "feed"

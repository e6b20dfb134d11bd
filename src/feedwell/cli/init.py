"""Write a commented project file, for your own events or for a public data set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from feedwell.cli._shared import HERE, JsonOption, show
from feedwell.core import registry
from feedwell.core.errors import UsageError
from feedwell.data.datasets import Dataset, detect_dataset
from feedwell.data.datasets._template import FRESH
from feedwell.pipeline.project_folder import FILE_NAME


def command(
    folder: Annotated[Path, typer.Argument(help="Where the project goes; made if missing.")] = HERE,
    dataset: Annotated[str | None, typer.Option(help="The adapter to use; with --data it is found by itself.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with a public data set.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a project file.")] = False,
    json: JsonOption = False,
) -> None:
    name = write_project(folder, dataset=dataset, data=data, force=force)
    path = folder / FILE_NAME
    result = {"file": str(path), "dataset": name}
    where = "" if folder == HERE else f" --project {folder}"
    text = f"wrote {path}\nnext: edit it, then `feedwell check{where}` and `feedwell ingest --history{where}`"
    show(result, lambda out: out.print(text, markup=False), as_json=json)


def write_project(folder: Path, *, dataset: str | None = None, data: Path | None = None, force: bool = False) -> str:
    """Writes the project file; the adapter's name, "" for a fresh project."""
    path = folder / FILE_NAME
    if path.exists() and not force:
        raise UsageError(f"{path} exists; --force overwrites it")
    folder.mkdir(parents=True, exist_ok=True)
    if dataset is None and data is None:
        path.write_text(FRESH.replace("<name>", _project_name(folder)), encoding="utf-8")
        return ""
    adapter: type[Dataset] = registry.find("dataset", dataset) if dataset else detect_dataset(data or folder)
    path.write_text(adapter.prepare(data or folder, folder), encoding="utf-8")
    return adapter.name


def _project_name(folder: Path) -> str:
    return re.sub(r"[^\w-]+", "-", folder.resolve().name).strip("-")[:64] or "feed"

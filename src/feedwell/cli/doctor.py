"""Look at the environment, the disk, the project, the log, the state and the releases, and say what is not well."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from feedwell import __version__, workspace
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, show, table
from feedwell.core.artifact import CHAMPION
from feedwell.core.clock import SECOND
from feedwell.core.errors import CheckFailed, DataError, FeedwellError, ProjectError
from feedwell.pipeline.frozen import changed_plugins
from feedwell.serving.reload import require_loadable

_LIBRARIES = ("numpy", "pyarrow", "duckdb", "lmdb", "xgboost-cpu", "pydantic", "fastapi", "uvicorn")
_LOW_DISK = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    about: str
    ok: bool
    text: str


def command(project: ProjectOption = HERE, environment: EnvironmentOption = None, json: JsonOption = False) -> None:
    found = list(_findings(project, environment))
    shown = table("", ["", "about", "finding"], [["ok" if f.ok else "NOT WELL", f.about, f.text] for f in found])

    def text(out: Console) -> None:
        out.print(shown)

    show({"ok": all(f.ok for f in found), "findings": found}, text, as_json=json)
    ill = [f for f in found if not f.ok]
    if ill and not json:
        raise CheckFailed(f"{len(ill)} of {len(found)} findings are not well")
    if ill:
        raise SystemExit(CheckFailed.exit_code)


def _findings(folder: Path, environment: str | None = None) -> Iterator[Finding]:
    yield Finding(
        about="environment",
        ok=True,
        text=f"feedwell {__version__}, Python {platform.python_version()}, {platform.machine()},"
        f" {os.cpu_count()} CPUs, {_memory_gb():.1f} GB",
    )
    missing = [name for name in _LIBRARIES if _version(name) is None]
    listed = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES if name not in missing)
    yield Finding(about="libraries", ok=not missing, text=f"missing: {', '.join(missing)}" if missing else listed)
    free = shutil.disk_usage(folder).free
    used = sum(p.stat().st_size for p in (folder / ".feedwell").rglob("*") if p.is_file())
    sizes = f"{free / 2**30:.1f} GiB free; .feedwell holds {used / 2**20:.1f} MiB"
    yield Finding(about="disk", ok=free > _LOW_DISK, text=sizes)
    try:
        opened = workspace.open(folder, environment=environment)
    except ProjectError as error:
        yield from (Finding(about="project", ok=False, text=str(problem)) for problem in error.problems)
        return
    except FeedwellError as error:
        yield Finding(about="project", ok=False, text=str(error))
        return
    with opened:
        yield Finding(about="project", ok=True, text=f"{opened.project.project.name}, no problems")
        looks = {"log": _log, "segments": _segments, "state": _state, "releases": _releases, "loading": _loading}
        looks["plug-ins"] = _plugins
        for about, look in looks.items():
            yield _look(about, look, opened)


def _look(about: str, look: Callable[[workspace.Workspace], str], opened: workspace.Workspace) -> Finding:
    try:
        return Finding(about=about, ok=True, text=look(opened))
    except (FeedwellError, OSError, sqlite3.Error) as error:
        return Finding(about=about, ok=False, text=str(error))


def _log(opened: workspace.Workspace) -> str:
    offset, at = opened.log.high_water()
    if offset < 0:
        return "empty; `feedwell ingest` fills it"
    ahead = at - opened.clock.now()
    if ahead > opened.project.data.max_future:
        raise DataError(
            f"the newest event is {ahead // SECOND} s ahead of the clock, and what comes now is put after it, so that"
            " windows miss what just happened: set the clock if it is behind, else move .feedwell away and ingest again"
        )
    people, items = opened.ids.size("user"), opened.ids.size("item")
    return f"{offset + 1:,} events, epoch {opened.log.epoch}, {people:,} users, {items:,} items"


def _segments(opened: workspace.Workspace) -> str:
    rows = 0
    for path in opened.log.segment_paths():
        try:
            rows += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException) as error:
            raise OSError(f"{path.name} cannot be read: {error}") from error
    return f"{len(opened.log.segment_paths())} Parquet files, {rows:,} rows"


def _state(opened: workspace.Workspace) -> str:
    states = opened.projector.states
    if states.epoch < 0:
        return "none yet; the next command that needs it builds it"
    with opened.state.reader(opened.features.set) as reader:
        behind = opened.log.high_water()[0] - reader.state_offset
    return f"epoch {states.epoch} of {opened.log.epoch}, {max(0, behind):,} events behind the log"


def _releases(opened: workspace.Workspace) -> str:
    store = opened.releases
    for release_id in store.release_ids():
        store.verify(release_id)
    channels = ", ".join(f"{name} → {store.channel(name)}" for name in store.channels()) or "no channel"
    return f"{len(store.release_ids())} releases, every checksum holds; {channels}"


def _loading(opened: workspace.Workspace) -> str:
    store, errors = opened.releases, list[str]()
    found = {name: release_id for name in store.channels() if (release_id := store.channel(name))}
    for release_id in dict.fromkeys(found.values()):
        try:
            require_loadable(store, release_id)
        except DataError as error:
            errors.append(f"{', '.join(name for name in found if found[name] == release_id)}: {error}")
    if errors:
        raise DataError("\n".join(errors))
    return f"can be loaded: {', '.join(dict.fromkeys(found.values())) or 'no release in a channel yet'}"


def _plugins(opened: workspace.Workspace) -> str:
    champion = opened.releases.channel(CHAMPION)
    changed = changed_plugins(opened.releases, opened.releases.read(champion), opened.folder) if champion else []
    return "; ".join(changed) or f"{len(opened.project.plugins)} files, as the champion has them"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30

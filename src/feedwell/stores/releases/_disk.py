"""Folders that are there whole or not at all: written aside, synced, renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feedwell.stores.durable import ASIDE, aside_name, sync_file, sync_folder


@contextmanager
def aside(parent: Path) -> Iterator[Path]:
    """An empty folder beside the target, removed on leaving unless it was moved away."""
    parent.mkdir(parents=True, exist_ok=True)
    work = aside_name(parent)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def is_abandoned(path: Path) -> bool:
    """Whether the process that wrote beside a target (`aside`, `write_atomic`) is gone."""
    pid = path.name.removeprefix(ASIDE).split("-")[0]
    if not path.name.startswith(ASIDE) or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def remove_whole(path: Path) -> None:
    """Out of every reader's sight in one step, then deleted; what a kill leaves of it is abandoned."""
    if not path.name.startswith(ASIDE):
        path = path.rename(aside_name(path.parent))
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def move_into_place(work: Path, target: Path) -> None:
    """Renames a synced folder; after return a power cut can't lose the name."""
    os.rename(work, target)
    sync_folder(target.parent)


def sync_tree(folder: Path) -> None:
    """Everything in the folder, and the folder itself, is on disk."""
    for path in sorted(folder.rglob("*")):
        sync_file(path)
    sync_folder(folder)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now_of_disk(path: Path) -> float:
    """The file system's own clock, seconds: comparable with other files' times where machines' clocks differ."""
    os.utime(path)
    return path.stat().st_mtime

"""Files that are there whole or not at all: write aside, fsync, rename, fsync the folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ASIDE = ".writing-"


@contextmanager
def aside(parent: Path) -> Iterator[Path]:
    """An empty folder beside the target, removed on leaving unless it was moved away."""
    parent.mkdir(parents=True, exist_ok=True)
    work = parent / f"{_ASIDE}{os.getpid()}-{secrets.token_hex(4)}"
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def is_abandoned(path: Path) -> bool:
    """Whether the process that wrote beside a target (`aside`, `replace_file`) is gone."""
    pid = path.name.removeprefix(_ASIDE).split("-")[0]
    if not path.name.startswith(_ASIDE) or not pid.isdigit():
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
    if not path.name.startswith(_ASIDE):
        path = path.rename(path.parent / f"{_ASIDE}{os.getpid()}-{secrets.token_hex(4)}")
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def move_into_place(work: Path, target: Path) -> None:
    """Renames a synced folder; after return a power cut can't lose the name."""
    os.rename(work, target)
    sync_path(target.parent)


def replace_file(path: Path, content: bytes) -> None:
    """The file holds the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.parent / f"{_ASIDE}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with work.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(work, path)
    finally:
        work.unlink(missing_ok=True)
    sync_path(path.parent)


def sync_tree(folder: Path) -> None:
    """Everything in the folder, and the folder itself, is on disk."""
    for path in sorted(folder.rglob("*")):
        sync_path(path)
    sync_path(folder)


def sync_path(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock between processes; the kernel lets go when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def now_of_disk(path: Path) -> float:
    """The file system's own clock, seconds: comparable with other files' times where machines' clocks differ."""
    os.utime(path)
    return path.stat().st_mtime

"""Files that survive a crash whole: written beside, synced, renamed; and a lock between processes."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feedwell.core.errors import Unavailable, UsageError

ASIDE = ".writing-"
"""How the names of what is still being written begin."""


def aside_name(folder: Path) -> Path:
    """A new name in the folder, with the process that writes there: `.writing-PID-RANDOM`."""
    return folder / f"{ASIDE}{os.getpid()}-{secrets.token_hex(4)}"


def write_atomic(path: Path, content: bytes) -> None:
    """`path` holds `content`, durably; a reader sees the old file or the new one, never a part.

    A write that fails leaves nothing beside the old file: on a full disk, what was written so far is in the way.
    """
    beside = aside_name(path.parent)
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):  # why the write failed is what the caller has to know
            os.unlink(beside)
        raise
    sync_folder(path.parent)


def output_file(path: Path, option: str) -> Path:
    """Where `write_atomic` will write what a caller named, links followed; looked at before the work that fills it.

    UsageError names the option and the path: something else than a plain file is there, or its folder is missing or
    takes no new file.
    """
    found = Path(os.path.realpath(path))
    try:
        is_plain = stat.S_ISREG(os.lstat(found).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_plain = True
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}; name another file") from error
    if not is_plain:
        raise UsageError(f"{option} {path}: this is not a plain file, and only plain files are replaced; name another")
    if not found.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {found.parent}; make it or name another file")
    try:
        tempfile.TemporaryFile(dir=found.parent).close()
    except OSError as error:
        reason = f"the folder {found.parent} takes no new file ({error.strerror})"
        raise UsageError(f"{option} {path}: {reason}; name a file in another folder") from error
    return found


def sync_file(path: Path) -> None:
    """The bytes of an existing file are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """The names in a folder are on the disk."""
    sync_file(folder)


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Held by one block of one process at a time, freed when it dies; Unavailable if held and not waited for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Unavailable(f"{path.name} is held by another process: wait for it to end and try again") from None
        yield
    finally:
        os.close(descriptor)


def fingerprint(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever `write_atomic` replaces the file (about 1 µs); None when there is no such file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size

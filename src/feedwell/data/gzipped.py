"""Files that may be gzip, as bytes; one that is cut off, damaged or no gzip at all is a DataError that names it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from feedwell.core.errors import DataError

_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed where its name ends in `.gz`; DataError where they cannot be."""
    with cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            yield file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(_what_is_wrong(path, error)) from error


def require_whole(path: Path) -> None:
    """Reads a gzip file to its end and compares its checksums; DataError where it is not whole.

    Nothing less shows that a file is whole: what is left of one that was cut off reads well, up to half a row.
    """
    if not path.stat().st_size:
        raise DataError(_what_is_wrong(path, EOFError("0 bytes")))
    with open_bytes(path) as file:
        while file.read(_CHUNK):
            pass


def _what_is_wrong(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    if isinstance(error, EOFError):
        return f"{path} ({size:,} bytes) is cut off: its gzip data end too soon; copy it again"
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return f"{path} is no gzip file, whatever its name says; take .gz off its name, or compress it"
    return f"{path} ({size:,} bytes) is damaged gzip: {error}; copy it again"

"""Named numpy arrays in one safetensors file: data, never code."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from feedwell.core.errors import CorruptArtifact

Array = NDArray[np.generic]


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes the arrays; equal arrays give equal bytes. Who may read the file is as for any other file."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))
    path.chmod(mode)  # safetensors writes for its own user alone, and a server may run under another


def require_format(path: Path, about: Mapping[str, Any], expected: int) -> None:
    """CorruptArtifact where another version of feedwell wrote the file that says this; without a number it is the
    first."""
    if (written := about.get("format", 1)) != expected:
        raise CorruptArtifact(
            f"reading {path}: written by another version of feedwell (format {written}, expected {expected}); train "
            "again"
        )


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """All arrays of the file, read-only; CorruptArtifact if it cannot be read or lacks one of `names`."""
    try:
        arrays = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise CorruptArtifact(f"reading {path}: {error}; expected a safetensors file, train again") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise CorruptArtifact(f"reading {path}: no array '{missing[0]}'; it has {sorted(arrays)}, train again")
    for array in arrays.values():
        array.setflags(write=False)
    return dict(arrays)

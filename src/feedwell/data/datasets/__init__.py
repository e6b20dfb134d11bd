"""Public data sets, one file each: told by their files, described by a project file that one can go on from.

An adapter is a class under `@dataset("name")` with `title`, `detect(folder)` and `prepare(folder, project)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from feedwell.core import registry
from feedwell.core.errors import DataError


class Dataset(Protocol):
    name: str
    title: str

    @staticmethod
    def detect(folder: Path) -> bool:
        """Whether the folder holds this set, in its published layout or another that the adapter knows."""
        ...

    @staticmethod
    def prepare(folder: Path, project: Path) -> str:
        """The text of a project file that reads the folder; catalogs that need a change are written into `project`."""
        ...


def detect_dataset(folder: Path) -> type[Dataset]:
    """The adapter whose set is in the folder; DataError says what is known."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; --data expects one with the files of a data set")
    found: list[type[Dataset]] = [registry.find("dataset", name) for name in registry.names("dataset")]
    for one in found:
        if one.detect(folder):
            return one
    known = "; ".join(one.title for one in found)
    advice = "for your own events write a project with `feedwell init`, and name the files under [data] events"
    raise DataError(f"{folder} holds none of the data sets with an adapter ({known}): {advice}")

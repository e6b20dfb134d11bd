"""StateDirectory: one LMDB file per epoch and a pointer to the current one, so that history loads without a pause."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from feedwell.core.errors import Unavailable
from feedwell.stores.state.lmdb import LmdbState

_FILE = "state.mdb"


class StateDirectory:
    """`state.lmdb/current` names `epoch-<n>/state.mdb`; readers ask `epoch` now and then and reopen when it moved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def epoch(self) -> int:
        """The current epoch; -1 when there is no state yet. One small file read."""
        try:
            return int((self.folder / "current").read_text().removeprefix("epoch-"))
        except FileNotFoundError:
            return -1

    def open(self) -> LmdbState:
        """The current epoch's state; Unavailable when none was swapped in yet."""
        epoch = self.epoch
        if epoch < 0:
            raise Unavailable(f"there is no online state under {self.folder}: the projector has not built one yet")
        return LmdbState.open(self._path(epoch), create=False)

    def fresh(self, epoch: int) -> LmdbState:
        """An empty state for `epoch`, out of every reader's sight until `swap`."""
        if epoch == self.epoch:
            raise Unavailable(f"epoch {epoch} is being served from {self.folder}: build the next one")
        shutil.rmtree(self._path(epoch).parent, ignore_errors=True)
        return LmdbState.open(self._path(epoch))

    def swap(self, epoch: int) -> None:
        """Points `current` at `epoch` in one atomic step and removes the files of older epochs.

        Readers that still map a removed file keep their view of it until they close.
        """
        target, draft = self.folder / "current", self.folder / f".current-{os.getpid()}"
        with draft.open("w") as file:
            file.write(f"epoch-{epoch}")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        for old in self.folder.glob("epoch-*"):
            if int(old.name.removeprefix("epoch-")) < epoch:
                shutil.rmtree(old, ignore_errors=True)

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}" / _FILE

"""The folder that fits work in: what a run that was killed leaves there the next one goes on from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from feedwell.core.errors import Unavailable
from feedwell.stores.durable import file_lock


@contextmanager
def kept_until_done(folder: Path) -> Iterator[Path | None]:
    """The folder, removed once the block has ended without an error; None while another process works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(file_lock(folder.with_suffix(".lock"), wait=False))
        except Unavailable:
            yield None
            return
        yield folder
        shutil.rmtree(folder)

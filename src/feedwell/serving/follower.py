"""Follower: something that is looked at again and again on a background thread, whatever one look fails with."""

from __future__ import annotations

import threading
from collections.abc import Callable

from feedwell.pipeline.contained import Contained

_JOIN_S = 10.0


class Follower:
    """Calls `look` every `rest_s()` seconds from `start` to `stop`; `failed` is told what a look raised."""

    def __init__(
        self,
        name: str,
        look: Callable[[], object],
        rest_s: Callable[[], float],
        failed: Callable[[Exception], None],
    ) -> None:
        self._look, self._rest_s, self._failed = look, rest_s, failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins, once; a later call changes nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Returns once the look under way has ended, or after 10 s."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=_JOIN_S)

    def _run(self) -> None:
        while not self._stop.wait(self._rest_s()):
            with Contained(self._failed):
                self._look()

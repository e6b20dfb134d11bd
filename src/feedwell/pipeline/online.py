"""OnlineState: readers of the current epoch's state; once the projector swaps in a new one, the next reader sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from feedwell.features import FeatureSet, StateReader
from feedwell.stores.state import StateDirectory, StateStore

_LOOK_EVERY_S = 0.05


class OnlineState:
    """Opened after a fork, one per process; `reader` is one short read transaction."""

    def __init__(self, states: StateDirectory, monotonic: Callable[[], float] = monotonic) -> None:
        self.states = states
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._epoch = -1
        self._state: StateStore | None = None
        self._retired: list[StateStore] = []
        self._looked = float("-inf")

    @contextmanager
    def reader(self, features: FeatureSet) -> Iterator[StateReader]:
        """The state as it is now; Unavailable while the projector has not built one."""
        with StateReader.open(features, self._current()) as reader:
            yield reader

    def look_again(self) -> None:
        """The next reader looks for a new epoch however short ago the last one did: the caller knows that it may be."""
        with self._lock:
            self._looked = float("-inf")

    def close(self) -> None:
        with self._lock:
            for state in (*self._retired, *([self._state] if self._state else [])):
                state.close()
            self._state, self._retired, self._epoch = None, [], -1

    def _current(self) -> StateStore:
        with self._lock:
            now = self._monotonic()
            if self._state is None or now - self._looked >= _LOOK_EVERY_S:
                self._looked = now
                epoch = self.states.epoch
                if self._state is None or epoch != self._epoch:
                    # A reader may still hold the old one: it is closed with this object, at most a few per process.
                    fresh = self.states.open()
                    if self._state is not None:
                        self._retired.append(self._state)
                    self._state, self._epoch = fresh, epoch
            return self._state

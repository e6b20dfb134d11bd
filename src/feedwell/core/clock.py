"""Time is passed in, never taken: UTC, int64 microseconds since the epoch."""

from __future__ import annotations

import time
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    def now(self) -> int:
        """The time, µs UTC."""
        ...


class SystemClock:
    """The machine's clock; the only place below serving that reads it."""

    def now(self) -> int:
        return time.time_ns() // 1_000


class ManualClock:
    """A clock that stands where it is put: replay, simulation, tests."""

    def __init__(self, now: int = 0) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def set(self, now: int) -> None:
        self._now = now

    def advance(self, by_us: int) -> None:
        self._now += by_us

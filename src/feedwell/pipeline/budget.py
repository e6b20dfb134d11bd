"""Time as a budget: how long each part takes, whether the next one still fits, and how wide requests may be.

A C call cannot be cancelled, and an abandoned one steals from the next stage, so the decision is made beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from time import perf_counter

import numpy as np

Timer = Callable[[], float]
"""Seconds from some origin, never going back."""
MIN_WIDTH = 0.1
_AT_HALF = " at half"
_LOWEST_MS, _RATIO, _N_BUCKETS = 0.01, 1.15, 120


class DecayedTimes:
    """Durations of one part as a histogram that forgets: each new one weighs 1, the one before it `keep`, and so on.

    Buckets grow by 15 %, from 10 µs to 190 s, and a percentile is its bucket's upper edge: never below the truth.
    """

    def __init__(self, keep: float = 0.98) -> None:
        self._keep = keep
        self._weight_B = np.zeros(_N_BUCKETS)
        self._known: dict[float, float] = {}

    @property
    def measured(self) -> bool:
        return self.percentile(0.95) > 0

    def observe(self, ms: float) -> None:
        self._known = {}  # asked for several times between two observations
        self._weight_B *= self._keep
        bucket = math.ceil(math.log(max(ms, _LOWEST_MS) / _LOWEST_MS) / math.log(_RATIO))
        self._weight_B[min(bucket, _N_BUCKETS - 1)] += 1

    def percentile(self, p: float) -> float:
        """Milliseconds; 0 when nothing was measured.

        >>> times = DecayedTimes()
        >>> for _ in range(100): times.observe(2.0)
        >>> 2.0 <= times.percentile(.95) < 2.4
        True
        """
        if p not in self._known:
            total_B = self._weight_B.cumsum()
            bucket = min(int(total_B.searchsorted(p * total_B[-1] - 1e-12)), _N_BUCKETS - 1)
            self._known[p] = _LOWEST_MS * _RATIO**bucket if total_B[-1] else 0.0
        return self._known[p]

    def restart(self, ms: float) -> None:
        """Forgets all but one duration: what a part did before it came back says nothing about it now."""
        self._weight_B[:] = 0
        self.observe(ms)


class Width:
    """How wide the next request may be, in [0.1, 1]: product-mixer's quality factor.

    A late request takes `step` off; one in time gives back so little that both balance when a share `p` is in time.
    """

    def __init__(self, target_ms: float, *, p: float = 0.99, step: float = 0.1) -> None:
        self.target_ms = target_ms
        self._down, self._up = step, step * (1 - p) / p
        self.value = 1.0

    def observe(self, ms: float) -> None:
        change = -self._down if ms > self.target_ms else self._up
        self.value = min(1.0, max(MIN_WIDTH, self.value + change))


class Budget:
    """Measured times by part, and from them what may run in the time that is left. One per process."""

    def __init__(self, deadline_ms: float, timer: Timer = perf_counter) -> None:
        self.deadline_ms = deadline_ms
        self.timer = timer
        self.width = Width(deadline_ms)
        self._times: dict[str, DecayedTimes] = {}

    def times(self, part: str) -> DecayedTimes:
        return self._times.setdefault(part, DecayedTimes())

    def observe(self, part: str, ms: float) -> None:
        self.times(part).observe(ms)

    def cheapest_first(self, parts: Iterable[str]) -> list[str]:
        """By measured p95; those never measured come last, in their declared order."""
        cost = {p: self.times(p).percentile(0.95) if self.times(p).measured else math.inf for p in parts}
        return sorted(cost, key=cost.__getitem__)

    def share_of(self, part: str, left_ms: float) -> float:
        """1 if the part's p95 fits into what is left, 0.5 if it is known that half its k fits, 0 to skip it.

        A part that was never measured runs while any time is left: its first request may be late, and is counted.
        """
        if left_ms <= 0:
            return 0.0
        if self.times(part).percentile(0.95) <= left_ms:
            return 1.0
        half = self.times(part + _AT_HALF)
        return 0.5 if half.measured and half.percentile(0.95) <= left_ms else 0.0

    def observe_half(self, part: str, ms: float) -> None:
        self.observe(part + _AT_HALF, ms)

    def restart(self) -> None:
        """Forgets everything measured: the times of a cold start say nothing about the requests to come."""
        self._times.clear()
        self.width.value = 1.0

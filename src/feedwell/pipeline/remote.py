"""Remote parts run concurrently, with a time-out, a bound on calls in flight and a circuit breaker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from feedwell.pipeline.budget import Timer
from feedwell.pipeline.contained import Contained

IN_FLIGHT = 8
_FAILURES, _OPEN_S = 3, 5.0


@dataclass
class Breaker:
    """Open after three failures in a row; five seconds later one call is let through, and its fate decides."""

    timer: Timer
    failures: int = 0
    opened_at: float = 0.0
    in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def refusal(self) -> str:
        """Why a call may not start now; "" takes a place in flight."""
        with self.lock:
            if self.in_flight >= IN_FLIGHT:
                return f"{IN_FLIGHT} calls are in flight"
            if self.failures >= _FAILURES:
                if self.timer() - self.opened_at < _OPEN_S:
                    return f"breaker open after {self.failures} failures"
                self.opened_at = self.timer()
            self.in_flight += 1
            return ""

    def landed(self) -> None:
        with self.lock:
            self.in_flight -= 1

    def judged(self, ok: bool) -> None:
        with self.lock:
            self.failures = 0 if ok else self.failures + 1
            if not ok:
                self.opened_at = self.timer()


class Call:
    """One call under way on a daemon thread: an abandoned one can't keep the process alive."""

    def __init__(self, name: str, work: Callable[[], Any], breaker: Breaker) -> None:
        self.name = name
        self._breaker = breaker
        self._done = threading.Event()
        self._result: Any = None
        self._error: Exception | None = None
        threading.Thread(target=self._run, args=(work,), name=f"feedwell-{name}", daemon=True).start()

    def result(self, timeout_s: float) -> Any:
        """What came back; TimeoutError, or what the call raised."""
        landed = self._done.wait(max(0.0, timeout_s))
        self._breaker.judged(landed and self._error is None)
        if not landed:
            raise TimeoutError(f"no answer within {timeout_s * 1e3:.0f} ms")
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            with Contained(self._raised):
                self._result = work()
        finally:
            self._breaker.landed()
            self._done.set()

    def _raised(self, error: Exception) -> None:
        """Raised again where the request waits."""
        self._error = error


class RemoteCalls:
    """Starts calls to remote parts, each part behind its own breaker."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._breakers: dict[str, Breaker] = {}

    def start(self, name: str, work: Callable[[], Any]) -> Call | str:
        """The call under way, or why it was not started."""
        breaker = self._breakers.setdefault(name, Breaker(self._timer))
        return breaker.refusal() or Call(name, work, breaker)

"""A skipped source is tried again off the request's path, with backoff; what it returns there only tells its time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from feedwell.core.protocols import Source
from feedwell.core.request import Request
from feedwell.core.telemetry import Telemetry
from feedwell.pipeline.budget import Budget
from feedwell.pipeline.contained import Contained

_FIRST_S, _LONGEST_S = 1.0, 60.0


@dataclass(frozen=True, kw_only=True)
class _Wait:
    source: Source
    request: Request
    due: float
    backoff_s: float


class Retries:
    """Sources that were skipped, each with the request that it will be tried on and when."""

    def __init__(self, budget: Budget, telemetry: Telemetry, *, first_s: float = _FIRST_S) -> None:
        self._budget = budget
        self._telemetry = telemetry
        self._first_s = first_s
        self._lock = threading.Lock()
        self._waiting: dict[str, _Wait] = {}
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def skipped(self, part: str, source: Source, request: Request) -> None:
        """Plans a try, once; later skips of the same source change nothing until it ran."""
        with self._lock:
            if part not in self._waiting:
                due = self._budget.timer() + self._first_s
                self._waiting[part] = _Wait(source=source, request=request, due=due, backoff_s=self._first_s)
                self._wake.set()

    def run_due(self) -> list[str]:
        """Tries every source whose time has come; the names of those that fit the deadline again."""
        now = self._budget.timer()
        with self._lock:
            due = {part: wait for part, wait in self._waiting.items() if wait.due <= now}
        return [part for part, wait in due.items() if self._try(part, wait)]

    def start(self) -> None:
        """Lets a background thread do it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="feedwell-retries", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(None if not self._waiting else self._first_s / 4)
            self._wake.clear()
            self.run_due()

    def _try(self, part: str, wait: _Wait) -> bool:
        ms = self._timed(part, wait.source, wait.request)
        self._telemetry.count("retries_off_path", part=part)
        back = ms is not None and ms <= self._budget.deadline_ms / 2
        if not back:  # perhaps at half its k: known here, so that no request has to find out
            half = self._timed(part, wait.source, replace(wait.request, width=wait.request.width / 2))
            if half is not None:
                self._budget.observe_half(part, half)
        with self._lock:
            if back and ms is not None:
                self._budget.times(part).restart(ms)
                del self._waiting[part]
            else:
                longer = min(2 * wait.backoff_s, _LONGEST_S)
                self._waiting[part] = replace(wait, due=self._budget.timer() + longer, backoff_s=longer)
        return back

    def _timed(self, part: str, source: Source, request: Request) -> float | None:
        """How many ms the source took on that request; None, counted, if it raised."""
        begin = self._budget.timer()
        with Contained(lambda _: self._telemetry.count("retries_failed", part=part)):
            source(request)
            return (self._budget.timer() - begin) * 1e3
        return None

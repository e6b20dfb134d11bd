"""The lane: one pipeline thread behind a bounded queue. The event loop never runs the pipeline.

What waits longer than its deadline is dropped before it runs; what does not fit is turned away at once. The record is
written on other threads, so that the pipeline works while the disk syncs, and the answer leaves after both.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from feedwell.core.errors import Unavailable
from feedwell.core.telemetry import Telemetry

_WRITERS = 4


class Shed(Unavailable):
    """The request was turned away or waited past its deadline; try again a little later."""


@dataclass(frozen=True)
class _Job:
    work: Callable[[float], Any]
    finish: Callable[[Any], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    entered: float
    deadline_ms: float


class Lane:
    """`submit` from the event loop; `work(left_ms)` runs on the pipeline thread, `finish(result)` on a writer's."""

    def __init__(self, *, size: int, telemetry: Telemetry) -> None:
        self._queue: queue.Queue[_Job | None] = queue.Queue(size)
        self._telemetry = telemetry
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="feedwell-writer")
        self._thread = threading.Thread(target=self._run, name="feedwell-pipeline", daemon=True)
        self._thread.start()

    async def submit(self, work: Callable[[float], Any], finish: Callable[[Any], Any], deadline_ms: float) -> Any:
        """What `finish` returned; Shed if the queue is full or the deadline passed while waiting."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        try:
            self._queue.put_nowait(_Job(work, finish, future, loop, perf_counter(), deadline_ms))
        except queue.Full:
            self._telemetry.count("shed", why="queue")
            raise Shed(f"the queue of {self._queue.maxsize} requests is full: try again in a second") from None
        return await future

    def close(self) -> None:
        """Finishes what is queued, then stops."""
        self._queue.put(None)
        self._thread.join(timeout=30)
        self._writers.shutdown(wait=True)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            waited = (perf_counter() - job.entered) * 1e3
            self._telemetry.observe_ms("queue_wait", waited)
            self._telemetry.gauge("queue_length", self._queue.qsize())
            if waited >= job.deadline_ms:
                self._telemetry.count("shed", why="deadline")
                _settle(job, error=Shed(f"waited {waited:.0f} ms of a deadline of {job.deadline_ms:.0f} ms: try again"))
                continue
            try:
                result = job.work(job.deadline_ms - waited)
            except BaseException as error:  # noqa: BLE001 - not handled here: it is raised where the request waits
                _settle(job, error=error)
                continue
            self._writers.submit(self._finish, job, result)

    def _finish(self, job: _Job, result: Any) -> None:
        try:
            _settle(job, result=job.finish(result))
        except BaseException as error:  # noqa: BLE001 - raised where the request waits
            _settle(job, error=error)


def _settle(job: _Job, *, result: Any = None, error: BaseException | None = None) -> None:
    def settle() -> None:
        if job.future.done():  # the client went away
            return
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    try:
        job.loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return

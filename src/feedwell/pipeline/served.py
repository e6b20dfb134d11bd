"""Served events: what an answer showed, appended to the log after the answer, in batches and off the request's path.

They are a copy for features (impressions, click rates, fatigue); the slate record, durable before the answer leaves,
stays what training reads. So a full queue or a failed append loses them, counted, and nothing else.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from feedwell.core.errors import FeedwellError
from feedwell.core.event import SERVED, RawEvent
from feedwell.core.slate import SlateRecord
from feedwell.core.telemetry import Telemetry

MOST_ANSWERS = 1_000
"""Answers that may wait: some 30,000 events, 10 MB."""
_BATCH, _LINGER_S = 256, 0.05
_log = logging.getLogger("feedwell.served")


class Log(Protocol):
    def append(self, events: Sequence[RawEvent]) -> Any: ...
    def forgotten(self) -> Any: ...


@dataclass(frozen=True)
class _Shown:
    record: SlateRecord
    item_ids: Sequence[str | None]


class ServedEvents:
    """One per process; its thread starts with the first answer. `add` never blocks and never raises."""

    def __init__(
        self, log: Log, telemetry: Telemetry, *, size: int = MOST_ANSWERS, linger_s: float = _LINGER_S
    ) -> None:
        self._log = log
        self._telemetry = telemetry
        self._linger_s = linger_s
        self._queue: queue.Queue[_Shown | None] = queue.Queue(size)
        self._hurry = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, record: SlateRecord, item_ids: Sequence[str | None]) -> None:
        """One event per slot will be in the log a little later; what does not fit is counted as dropped."""
        try:
            self._queue.put_nowait(_Shown(record, item_ids))
        except queue.Full:
            self._dropped(len(item_ids), "queue")
            return
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="feedwell-served", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Returns once everything added before is in the log, or was counted as dropped."""
        self._hurry.set()
        self._queue.join()
        self._hurry.clear()

    def close(self) -> None:
        """Flushes and stops."""
        self._hurry.set()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=30)
            self._thread = None

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            self._hurry.wait(self._linger_s)
            batch, stopped = [first], False
            while len(batch) < _BATCH and not stopped:
                try:
                    shown = self._queue.get_nowait()
                except queue.Empty:
                    break
                stopped = shown is None
                batch += [shown] if shown is not None else []
            try:
                self._append(batch)
            finally:
                for _ in range(len(batch) + stopped):
                    self._queue.task_done()
            if stopped:
                return
        self._queue.task_done()

    def _append(self, batch: Sequence[_Shown]) -> None:
        events: list[RawEvent] = []
        try:
            gone = self._log.forgotten()
            events = [event for shown in batch if shown.record.user not in gone for event in events_of(shown)]
            if events:
                self._log.append(events)
        except (FeedwellError, sqlite3.Error, OSError, ValueError) as error:  # ValueError: text that is no UTF-8
            _log.warning("%d served events are lost: %s", len(events), error)
            self._dropped(len(events), "append")
        else:
            self._telemetry.count("served_events", len(events))

    def _dropped(self, n: int, why: str) -> None:
        self._telemetry.count("served_events_dropped", n, why=why)


def events_of(shown: _Shown) -> Iterator[RawEvent]:
    """One event per slot, counted from 1 over the whole scroll. An answer that is added twice counts once."""
    record, first = shown.record, len(shown.record.prefix) + 1
    for slot, item_id in enumerate(shown.item_ids, first):
        if item_id is not None and record.user_id:
            yield RawEvent(
                type=SERVED,
                ts=record.t,
                ids={"user": record.user_id, "item": item_id},
                event_id=f"{SERVED}:{record.request_id}:{slot}",
                request_id=record.request_id,
                slot=slot,
                surface=record.surface,
            )

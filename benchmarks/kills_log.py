"""Kill scenarios of the event log: appending, appending while sealing, appending while history is loaded."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from kills import Ack

from feedwell.core.clock import SystemClock
from feedwell.core.event import RawEvent, hash_event_id
from feedwell.core.project import EntitySection, Project, ProjectSection
from feedwell.stores.log import EventLog

PROJECT = Project(project=ProjectSection(name="kills"), entity={"category": EntitySection(**{"from": "item.category"})})
BATCH = 20
HISTORY_ROWS = 300
LOADS = ("append", "seal", "history")


class LogScenario:
    """Two threads append; by `what`, a third seals all the time or loads history."""

    def __init__(self, what: str) -> None:
        self.name, self._what = what, what

    def work(self, folder: Path, seed: int, ack: Ack) -> None:
        log = EventLog.open(folder, PROJECT, SystemClock())
        if self._what == "seal":
            threading.Thread(target=_seal, args=(log,), daemon=True).start()
        if self._what == "history":
            threading.Thread(target=_load, args=(log, seed, ack), daemon=True).start()
        threading.Thread(target=_append, args=(log, f"{seed}b", ack), daemon=True).start()
        _append(log, f"{seed}a", ack)

    def beside(self, folder: Path, stop: threading.Event, ack: Ack) -> None:
        """Nothing: the load is in the child."""

    def check(self, folder: Path, acked: Sequence[str]) -> list[str]:
        log = EventLog.open(folder, PROJECT, SystemClock())
        try:
            return list(log_problems(log, acked))
        finally:
            log.close()


def _append(log: EventLog, name: str, ack: Ack) -> None:
    for n in itertools.count():
        item = f"i{n % 50}"
        events = [
            RawEvent(type="view", ts=n, ids={"user": f"u{n * BATCH + i}", "item": item}, event_id=event_id)
            for i, event_id in enumerate(event_ids(f"{name} {n} {BATCH}"))
        ]
        events.append(RawEvent(type="$item", ts=n, ids={"item": item}, payload={"category": f"c{n % 7}", "n": n}))
        log.append(events)
        ack(f"{name} {n} {BATCH}")


def _seal(log: EventLog) -> None:
    while True:
        log.seal(log.high_water()[0] - BATCH)


def _load(log: EventLog, seed: int, ack: Ack) -> None:
    for n in itertools.count():
        ids = event_ids(f"{seed}h {n} {HISTORY_ROWS}")
        table = pa.table(
            {
                "type": ["view"] * HISTORY_ROWS,
                "ts": pa.array(np.arange(HISTORY_ROWS)),
                "user": [f"h{i}" for i in range(HISTORY_ROWS)],
                "item": ["i1"] * HISTORY_ROWS,
                "event_id": ids,
            }
        )
        log.load_history([table])
        ack(f"{seed}h {n} {HISTORY_ROWS}")


def event_ids(line: str) -> list[str]:
    """The event ids that one line stands for."""
    name, n, size = line.split()
    return [f"{name}-{n}-{i}" for i in range(int(size))]


def log_problems(log: EventLog, acked: Sequence[str]) -> Iterator[str]:
    """What is wrong with a log whose acknowledged batches are lines "name n size"."""
    offset, held, ats = -1, Counter[bytes](), []
    while (table := log.read(offset, 50_000)).num_rows:
        offsets = table["offset"].to_numpy()
        if offsets[0] <= offset or (np.diff(offsets) <= 0).any():
            yield f"offsets after {offset} do not grow"
        offset = int(offsets[-1])
        held.update(table["event_id"].to_pylist())
        ats.append(table.filter(pa.compute.equal(table["origin"], "live"))["available_at"].to_numpy())
        if (table["item"].to_numpy() < 0).any():
            yield "an event lost its item key"
    if (np.diff(np.concatenate([*ats, np.empty(0, np.int64)])) <= 0).any():
        yield "available_at does not grow"
    if doubled := sum(n > 1 for n in held.values()):
        yield f"{doubled} events are there twice"
    if offset != log.high_water()[0] and acked:
        yield f"the last event read is {offset}, the high-water mark {log.high_water()}"
    for line in acked:
        lost = sum(hash_event_id(event_id) not in held for event_id in event_ids(line))
        if lost:
            yield f"{lost} acknowledged events of '{line}' are lost"
    for line in acked[-1:]:
        if "h " not in line:
            again = [RawEvent(type="view", ts=0, ids={"user": "x"}, event_id=event_id) for event_id in event_ids(line)]
            if log.append(again).n_new:
                yield f"'{line}' could be appended again"


APPEND, SEAL, HISTORY = (LogScenario(what) for what in LOADS)

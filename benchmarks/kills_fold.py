"""Kill scenarios of the projector: the state, however often its writer dies, is what one fold of the whole log leaves.

FOLD       one process appends, folds and seals
PROJECTOR  the projector folds and seals; another process appends
REBUILD    the same, and that other process loads history: each time a state of a new epoch is built aside
"""

from __future__ import annotations

import itertools
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from kills import Ack
from kills_log import event_ids, log_problems

from feedwell.core import columns as c
from feedwell.core.clock import SystemClock
from feedwell.core.event import RawEvent
from feedwell.core.telemetry import Telemetry
from feedwell.features import FeatureSet, Fold
from feedwell.features.statefile import read_head
from feedwell.pipeline.compile import compile_features
from feedwell.pipeline.project_file import parse_project
from feedwell.pipeline.projector import Projector
from feedwell.stores.log import EventLog
from feedwell.stores.state import LmdbState, StateStore, WriteTxn

PROJECT = """
[project]
name = "kills"

[event.view]
[event.buy]
value_scale = 100

[entity.item]
columns = { category = "string", price = "float", created_at = "time" }
created_at = "created_at"

[entity.category]
from = "item.category"

[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]
windows = ["1h", "1d"]

[feature.user_spend]
entity = "user"
aggregate = "sum"
events = ["buy"]
windows = ["30d"]

[feature.affinity]
entity = ["user", "category"]
aggregate = "count"
events = ["view"]

[feature.recent]
entity = "user"
aggregate = "last_n"
events = ["view"]
n = 20

[source.popular]
k = 20
events = ["view", "buy"]

[source.fresh]
k = 10

[filter.seen]
events = ["buy"]

[slate]
kind = "top_k"
k = 5
"""
LATER = """
[feature.item_buys]
entity = "item"
aggregate = "count"
events = ["buy"]
windows = ["1d"]
"""
"""What the next release adds: children that know it come and go, so that its rows are hydrated, kept and dropped."""
BATCH, FOLDED, SEAL_ABOVE = 20, 60, 200
HISTORY_ROWS, LOADS_EVERY = 100, 6
PAUSE_S = 0.005
"""Between two appends: without it the projector, two batches a millisecond behind, would only ever seal."""
_OWN = b"\x00"
"""The first byte of the state's own rows: positions and epoch."""


class FoldScenario:
    def __init__(self, what: str, *, split_commit: bool = False) -> None:
        self.name, self._what, self._split = what, what, split_commit
        self._project = parse_project(PROJECT)
        self._features = compile_features(self._project)
        self._both = [self._features, compile_features(parse_project(PROJECT + LATER))]
        self._loads = itertools.count()

    def work(self, folder: Path, seed: int, ack: Ack) -> None:
        if self._split:
            LmdbState.update = _update_in_two  # type: ignore[method-assign]
        logging.getLogger("feedwell.projector").addHandler(_Warned(ack))
        log = self._open(folder)
        if self._what == "fold":
            threading.Thread(target=_append, args=(log, str(seed), ack), daemon=True).start()
        sets = self._both[: 1 + seed % 2]
        projector = Projector(folder, log, lambda: sets, batch=FOLDED, seal_above=SEAL_ABOVE)
        projector.telemetry = _Folded(projector, ack)
        projector.run_forever(threading.Event(), refresh_s=0.02)

    def beside(self, folder: Path, stop: threading.Event, ack: Ack) -> None:
        if self._what == "fold":
            return
        log, name = self._open(folder), f"p{time.time_ns()}"
        try:
            if self._what == "rebuild" and next(self._loads) % LOADS_EVERY == 1:
                _load(log, f"{name}h", ack)
            _append(log, name, ack, stop)
        finally:
            log.close()

    def check(self, folder: Path, acked: Sequence[str]) -> list[str]:
        """The log first; then the state as the last kill left it; then the state caught up, row by row."""
        log = self._open(folder)
        projector = Projector(folder, log, lambda: self._both, batch=1_000)
        try:
            found = [line for line in acked if line.startswith("wrong")]
            found += log_problems(log, [line for line in acked if line.count(" ") == 2])
            found += _forgotten_folds(projector, log.epoch, acked)
            projector.catch_up(patience_s=60)
            return found + list(_differences(projector, log, self._both))
        finally:
            projector.close()
            log.close()

    def _open(self, folder: Path) -> EventLog:
        return EventLog.open(folder, self._project, SystemClock())


class _Folded(Telemetry):
    """Acknowledges each folded batch."""

    def __init__(self, projector: Projector, ack: Ack) -> None:
        super().__init__()
        self._projector, self._ack = projector, ack

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        super().count(name, n, **labels)
        if name == "projector_events":
            with self._projector.states.open().read() as txn:
                head = read_head(txn)
            assert head is not None
            self._ack(f"folded {head.epoch}-{head.offset}")


class _Warned(logging.Handler):
    """No kill may cost an error, nor a state that has to be built again."""

    def __init__(self, ack: Ack) -> None:
        super().__init__(logging.WARNING)
        self._ack = ack

    def emit(self, record: logging.LogRecord) -> None:
        self._ack(f"wrong: {record.getMessage()} {record.exc_info or ''}".replace("\n", " ")[:1000])


def _append(log: EventLog, name: str, ack: Ack, stop: threading.Event | None = None) -> None:
    for n in itertools.count():
        if stop is not None and stop.is_set():
            return
        item = f"i{n % 50}"
        events = [
            RawEvent(
                type="buy" if i % 5 == 0 else "view",
                ts=n,
                ids={"user": f"u{(n * BATCH + i * i) % 97}", "item": f"i{(n + i) % 60}"},
                event_id=event_id,
                value=i / 4,
            )
            for i, event_id in enumerate(event_ids(f"{name} {n} {BATCH}"))
        ]
        row = {"category": f"c{n % 7}", "price": n / 8, "created_at": n}
        events.append(RawEvent(type="$item", ts=n, ids={"item": item}, payload=row))
        log.append(events)
        ack(f"{name} {n} {BATCH}")
        time.sleep(PAUSE_S)


def _load(log: EventLog, name: str, ack: Ack) -> None:
    table = pa.table(
        {
            "type": ["view"] * HISTORY_ROWS,
            "ts": pa.array(np.arange(HISTORY_ROWS) * 1_000_000),
            "user": [f"u{i}" for i in range(HISTORY_ROWS)],
            "item": [f"i{i % 10}" for i in range(HISTORY_ROWS)],
            "event_id": event_ids(f"{name} 0 {HISTORY_ROWS}"),
        }
    )
    log.load_history([table])
    ack(f"{name} 0 {HISTORY_ROWS}")


def _forgotten_folds(projector: Projector, epoch: int, acked: Sequence[str]) -> Iterator[str]:
    folded = [line.split()[1].split("-") for line in acked if line.startswith("folded ")]
    offsets = [int(offset) for of, offset in folded if int(of) == epoch]
    if not offsets or projector.states.epoch != epoch:
        return
    state = projector.states.open()
    with state.read() as txn:
        head = read_head(txn)
    state.close()
    if head is None or head.offset < max(offsets):
        yield f"the state is at {head}, though offset {max(offsets)} was told to be folded"


def _differences(projector: Projector, log: EventLog, sets: Sequence[FeatureSet]) -> Iterator[str]:
    """Between the projector's state and one fold of the whole log into a new environment, byte for byte."""
    events = log.read(-1, 10_000_000)
    in_offset_order = log.epoch == 0
    if not in_offset_order:
        # History took later offsets than older live events: folded in its order, positions alone are others.
        events = events.sort_by([(c.AVAILABLE_AT, "ascending"), (c.OFFSET, "ascending")])
        place = events.schema.get_field_index(c.OFFSET)
        events = events.set_column(place, events.schema.field(place), pa.array(np.arange(len(events))))
    with tempfile.TemporaryDirectory() as aside:
        fresh = LmdbState.open(Path(aside) / "state.mdb")
        Fold(sets, fresh, epoch=log.epoch).fold(events)
        kept = projector.states.open()
        want, have = _rows(fresh, own=in_offset_order), _rows(kept, own=in_offset_order)
        fresh.close()
        kept.close()
    if len(events) and not want:
        yield "the fresh fold is empty"
    for what, n in {
        "lack": len(want.keys() - have.keys()),
        "are too many": len(have.keys() - want.keys()),
        "differ": sum(have[key] != want[key] for key in want.keys() & have.keys()),
    }.items():
        if n:
            yield f"of {len(want)} rows of the state {n} {what}"


def _rows(state: StateStore, *, own: bool) -> dict[bytes, bytes]:
    with state.read() as txn:
        return {key: row for key, row in txn.scan(b"") if own or not key.startswith(_OWN)}


# -- a projector as it must not be -----------------------------------------------------------------------------------

_update = LmdbState.update


class _WithoutOwn:
    """A write transaction that keeps positions back."""

    def __init__(self, txn: WriteTxn) -> None:
        self._txn = txn
        self.kept: list[tuple[bytes, bytes]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        rows = list(items)
        self.kept += [item for item in rows if item[0].startswith(_OWN)]
        self._txn.put_many([item for item in rows if not item[0].startswith(_OWN)])


def _update_in_two(self: LmdbState, apply: Callable[[Any], Any]) -> Any:
    """The rows in one transaction, the offset in the next."""

    def rows(txn: WriteTxn) -> tuple[Any, list[tuple[bytes, bytes]]]:
        without = _WithoutOwn(txn)
        return apply(without), without.kept

    result, kept = _update(self, rows)
    time.sleep(0.01)
    _update(self, lambda txn: txn.put_many(kept))
    return result


FOLD, PROJECTOR, REBUILD = (FoldScenario(what) for what in ("fold", "projector", "rebuild"))
SPLIT_COMMIT = FoldScenario("fold", split_commit=True)

"""Replay: a slate from its record, a traced request in full, any request from the log, the log itself for evaluation.

1. `redrawn`: the recorded utilities through the shared sampler: the same slate, exactly.
2. `replay_trace`: the traced reads through the release's parts: the same candidates, scores and slate.
3. `replay_from_log`: the state rebuilt at the record's offsets, then as 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedwell.core import columns as c
from feedwell.core.catalog import Deltas
from feedwell.core.errors import CheckFailed
from feedwell.core.rng import stream
from feedwell.core.slate import Explore, SlateRecord
from feedwell.features import FeatureSet, Fold, StateReader
from feedwell.pipeline.ask import Answer, Ask, Brought, Reader
from feedwell.pipeline.compile import Pipeline
from feedwell.pipeline.draws import redraw
from feedwell.pipeline.gather import DUPLICATES, UNKNOWN
from feedwell.pipeline.live import LiveCatalog
from feedwell.pipeline.tape import TraceReader
from feedwell.stores.state import MemoryState, StateStore

BATCH = 50_000
_COMPARED = ("keys", "utility", "propensity", "sources", "predictions", "features", "user_features", "relaxed", "short")


class Log(Protocol):
    epoch: int

    def read(self, after_offset: int, limit: int) -> pa.Table: ...
    def in_order(self, *, upto_offset: int | None = None, size: int = BATCH) -> Iterator[pa.Table]: ...
    def high_water(self) -> tuple[int, int]: ...
    def catalog_events(self, entity: str, after_offset: int, upto_offset: int) -> pa.Table: ...


def redrawn(record: SlateRecord) -> SlateRecord:
    """The record with its slots chosen anew from the recorded utilities: equal, unless something was tampered with."""
    rng = stream(record.seed, record.request_id)
    keys, slate = redraw(record.draws, rng, _explore(record), len(record.prefix))
    row = record.to_dict() | {
        "keys": keys,
        "utility": slate.utility_n.tolist(),
        "propensity": slate.propensity_n.tolist(),
    }
    return SlateRecord.from_dict(row)


def ask_of(record: SlateRecord, *, trace: bool = False) -> Ask:
    """The ask that led to the record, pinned to the sources that answered then."""
    return Ask(
        user_id=record.user_id,
        request_id=record.request_id,
        t=record.t,
        user=record.user,
        n=record.n,
        surface=record.surface,
        exclude=np.array(record.exclude, np.int64),
        prefix=np.array(record.prefix, np.int64),
        assignments=record.assignments,
        brought=_brought(record),
        explore=_explore(record).last > 0,
        trace=trace,
        width=record.width,
        widths=record.widths,
    )


def replay_trace(pipeline: Pipeline, record: SlateRecord, trace: dict[str, Any], log: Log | None = None) -> Answer:
    """The traced request run again from what it read then; compare with `differences`.

    Parts that follow the catalog need the log too: a trace does not hold the items that they knew.
    """
    ask = replace(ask_of(record, trace=True), context=trace["context"])
    if log is not None:
        ask = replace(ask, deltas=_deltas(pipeline, record, log))
    return pipeline.run(ask, TraceReader(record, trace))


def replay_from_log(pipeline: Pipeline, record: SlateRecord, log: Log, *, state: StateStore | None = None) -> Answer:
    """The request run again on a scratch state folded from the log up to the record's offsets.

    CheckFailed if history was loaded or a user forgotten since: the log of that epoch is another one.
    """
    if log.epoch != record.epoch:
        raise CheckFailed(
            f"replaying {record.request_id}: it was served in epoch {record.epoch}, the log is in {log.epoch}; "
            "a request from before a load of history or a `forget` replays from its trace only"
        )
    scratch = state or MemoryState()
    fold = Fold([pipeline.features], scratch, whole_log=True)
    for batch in batches_of(log, until_offset=record.state_offset):
        fold.fold(batch)
    tail = _tail(log, record)
    ask = replace(ask_of(record), deltas=_deltas(pipeline, record, log))
    with StateReader.open(pipeline.features, scratch) as reader:
        return pipeline.run(ask, reader.with_tail(tail) if tail.num_rows else reader)


def differences(one: SlateRecord, other: SlateRecord) -> list[str]:
    """What differs between two records of one request; NaN equals NaN, all else must be equal bit for bit."""
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in _COMPARED]
    return [f"{name}: {a!r} != {b!r}" for name, a, b in pairs if repr(a) != repr(b)]


def batches_of(log: Log, *, until_offset: int | None = None, size: int = BATCH) -> Iterator[pa.Table]:
    """The log from its beginning by (available_at, offset), without offsets above `until_offset` (default: its end)."""
    return log.in_order(upto_offset=until_offset, size=size)


class Replayer:
    """Walks the log in order and shows the state as it was at each time asked for; times never go back.

    Events come as batches in the order of (available_at, offset). At t everything with available_at < t is folded, and
    `live` has taken it in.
    """

    def __init__(
        self,
        features: FeatureSet,
        batches: Iterable[pa.Table],
        *,
        state: StateStore | None = None,
        live: LiveCatalog | None = None,
    ) -> None:
        self._live = live
        self.features = features
        self.state = state or MemoryState()
        self._fold = Fold([features], self.state, whole_log=True)
        self._batches = iter(batches)
        self._left: pa.Table | None = None
        self._at_E: np.ndarray[Any, np.dtype[np.int64]] = np.empty(0, np.int64)
        self._begin = 0
        self._t = -1

    @contextmanager
    def at(self, t: int) -> Iterator[StateReader]:
        """A reader of the world at t; ValueError if t lies before an earlier one."""
        if t < self._t:
            raise ValueError(f"replay at {t} after {self._t}: sort the asks by t")
        self._t = t
        self._advance(t)
        with StateReader.open(self.features, self.state) as reader:
            yield reader

    def _advance(self, t: int) -> None:
        while self._left is not None or self._next():
            end = int(np.searchsorted(self._at_E, t))
            if end > self._begin and self._left is not None:
                visible = self._left.slice(self._begin, end - self._begin)
                self._fold.fold(visible)
                if self._live is not None:
                    self._live.take(visible)
                self._begin = end
            if end < len(self._at_E):
                return
            self._left = None

    def _next(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            return False
        self._left, self._begin = batch.combine_chunks(), 0
        self._at_E = batch[c.AVAILABLE_AT].to_numpy()
        return True


def replay_requests(
    features: FeatureSet,
    batches: Iterable[pa.Table],
    asks: Sequence[Ask],
    visit: Callable[[Ask, Reader], Any],
    *,
    live: LiveCatalog | None = None,
) -> Iterator[Any]:
    """`visit(ask, reader)` for each ask in order of t, reader and sources (`live`) knowing what was visible then."""
    replayer = Replayer(features, batches, live=live)
    for ask in sorted(asks, key=lambda a: a.t):
        with replayer.at(ask.t) as reader:
            yield visit(ask if live is None else replace(ask, deltas=live.now), reader)


def _deltas(pipeline: Pipeline, record: SlateRecord, log: Log) -> Deltas:
    live = live_of(pipeline)
    if record.catalog_offset >= 0:
        live.catch_up(log, record.catalog_offset)
    return live.now


def live_of(pipeline: Pipeline) -> LiveCatalog:
    """What the pipeline's parts know of the catalog beyond their artifacts: nothing yet."""
    return LiveCatalog(lambda: pipeline.followers, pipeline.project)


def _tail(log: Log, record: SlateRecord) -> pa.Table:
    """The requester's own events between the state's offset and the tail's."""
    parts = []
    after = record.state_offset
    while after < record.tail_offset:
        batch = log.read(after, BATCH)
        if not batch.num_rows:
            break
        mine = pc.and_(pc.equal(batch[c.USER], record.user), pc.less_equal(batch[c.OFFSET], record.tail_offset))
        parts.append(batch.filter(mine))
        after = batch[c.OFFSET][-1].as_py()
    return pa.concat_tables(parts) if parts else log.read(log.high_water()[0], 1)


def _brought(record: SlateRecord) -> Brought | None:
    if record.among is None:
        return None
    return Brought(
        keys_N=np.array(record.among, np.int64),
        n_unknown=record.counts.get(UNKNOWN, 0),
        n_duplicates=record.counts.get(DUPLICATES, 0),
        ignore_filters=tuple(record.ignored_filters),
        shown=record.shown,
    )


def _explore(record: SlateRecord) -> Explore:
    e = record.explore
    return Explore(
        first=int(e["first"]),
        last=int(e["last"]),
        pool=int(e["pool"]),
        temperature=e["temperature"],
        epsilon=e["epsilon"],
    )

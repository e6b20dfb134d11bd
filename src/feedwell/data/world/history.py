"""WorldHistory: what a logging policy would have left behind after some days in a world."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feedwell.core.clock import DAY
from feedwell.data.world.config import WorldConfig
from feedwell.data.world.events import EVENTS, ITEM, SLATES, SessionRequest, WorldEvent, ids_of
from feedwell.data.world.policies import Chosen, Policy, PopularPolicy
from feedwell.data.world.world import World

CHUNK = 50_000  # events held as dicts (about 400 bytes each) before they become columns


@dataclass(frozen=True, kw_only=True)
class WorldHistory:
    """`events` in order of (ts, event_id), the catalog tables, and `slates`: every slot served, with its propensity."""

    events: pa.Table
    items: pa.Table
    users: pa.Table
    slates: pa.Table

    def write(self, folder: Path) -> None:
        """Writes items, users, slates and events as Parquet files; each appears whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("items", "users", "slates", "events"):
            half_done = folder / f".{name}.parquet.{os.getpid()}"
            pq.write_table(getattr(self, name), half_done, compression="zstd")
            os.replace(half_done, folder / f"{name}.parquet")


def simulate_history(config: WorldConfig, seed: int, days: int | None = None) -> WorldHistory:
    """The log of a new world's first `days` (the configuration's when None) under PopularPolicy."""
    return record_history(World(config, seed), PopularPolicy(seed), config.days if days is None else days)


def record_history(world: World, policy: Policy, days: int) -> WorldHistory:
    """The log of the first `days` of a world under any policy; the world can be lived in afterwards.

    The log ends sharply: what would happen later (a buy, an undo of what is in it) is missing, as in any log. About
    20,000 events a second on one core of a shared Zen 4 (2026-11).
    """
    start, end = world.config.start_ts, world.config.start_ts + days * DAY
    log = _Log(end)
    log.add(world.onboarding())
    for request in world.sessions(start, end):
        chosen = policy.choose(request, world.live_rows(request.ts))
        events = world.respond(request, ids_of(ITEM, chosen.rows_n))
        policy.observe(events)
        log.add(events)
        log.serve(request, chosen)
    return WorldHistory(
        events=log.events(), slates=log.slates(), items=world.catalog_items(end), users=world.catalog_users(end)
    )


class _Log:
    """Gathers rows into columns, a chunk at a time, so that a long history does not live as dicts."""

    def __init__(self, end_ts: int) -> None:
        self._end_ts = end_ts
        self._waiting: list[WorldEvent] = []
        self._chunks: list[pa.Table] = []
        self._served: list[tuple[SessionRequest, Chosen]] = []

    def add(self, events: Sequence[WorldEvent]) -> None:
        self._waiting += [event for event in events if event["ts"] < self._end_ts]
        if len(self._waiting) >= CHUNK:
            self._flush()

    def serve(self, request: SessionRequest, chosen: Chosen) -> None:
        self._served.append((request, chosen))

    def events(self) -> pa.Table:
        self._flush()
        table = pa.concat_tables(self._chunks)
        return table.sort_by([("ts", "ascending"), ("event_id", "ascending")]).combine_chunks()

    def slates(self) -> pa.Table:
        n_slots = [len(chosen.rows_n) for _, chosen in self._served]
        which = np.repeat(np.arange(len(n_slots)), n_slots)
        requests = [request for request, _ in self._served]
        columns = {
            "request_id": pa.array([r.request_id for r in requests], pa.string()).take(which),
            "user": pa.array([r.user_id for r in requests], pa.string()).take(which),
            "ts": np.array([r.ts for r in requests], np.int64)[which],
            "slot": _joined([np.arange(1, n + 1) for n in n_slots], np.int32),
            "item": ids_of(ITEM, _joined([chosen.rows_n for _, chosen in self._served], np.int64)),
            "propensity": _joined([chosen.propensity_n for _, chosen in self._served], np.float64),
        }
        return pa.table(columns, schema=SLATES)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        columns = {name: list(map(itemgetter(name), waiting)) for name in EVENTS.names}
        self._chunks.append(pa.table(columns, schema=EVENTS))


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)

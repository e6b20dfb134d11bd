"""One user with a 100-event sequence and 500 items × 30 features from the online state, against bare LMDB gets.

    python benchmarks/bench_features_latest.py [--events 10_000_000] [--requests 400]

Beside it another process folds 2,000 events/s into the same state. The floor is `txn.get` of the same keys (and so the
same bytes) in the same transaction's state; reads and floor alternate, so that both see the same neighbours.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from _report import Stopwatch, header
from features_data import N_ITEMS, N_USERS, SPAN, START, event_table, log_arrays, project, segments

from feedwell.core.needs import HistoryNeed
from feedwell.features import FeatureSet, Fold, StateReader, hydrate
from feedwell.stores.state import LmdbState, ReadTxn

HISTORY = HistoryNeed(("view",), 100)
RATE, BATCH = 2_000, 100


def features() -> FeatureSet:
    """The benchmark's features with enough item-side windows that 30 columns are read per item."""
    made = project()
    wide = {"item_views": ["1h", "2h", "1d", "2d", "7d", "14d", "30d"], "item_clicks": ["1h", "2h", "1d", "7d", "30d"]}
    wide |= {"affinity": ["1d", "7d", "30d"], "affinity_clicks": ["1d", "7d"]}
    body = made.model_dump(by_alias=True)
    for name, windows in wide.items():
        body["feature"][name]["windows"] = windows
    return FeatureSet.compile(type(made).model_validate(body), [HISTORY])


class _Listening:
    """A read transaction that notes the keys asked for."""

    def __init__(self, txn: ReadTxn) -> None:
        self.keys: list[bytes] = []
        self._txn = txn

    def get(self, key: bytes) -> bytes | None:
        self.keys.append(key)
        return self._txn.get(key)

    def get_many(self, keys: Sequence[bytes], default: bytes) -> list[bytes]:
        self.keys += keys
        return self._txn.get_many(keys, default)


def project_events(path: Path, first: int, going: Event, folded: Synchronized[int]) -> None:
    """Folds RATE events a second until told to stop."""
    made = features()
    state = LmdbState.open(path)
    fold = Fold([made], state)
    arrays = log_arrays(400_000, seed=3)
    arrays["at"] = START + SPAN + np.arange(400_000) * 500
    table = event_table(arrays, made.project.entities, first)
    begun, at = time.perf_counter(), 0
    while going.is_set() and at < len(table):
        fold.fold(table.slice(at, BATCH))
        at += BATCH
        folded.value = at
        time.sleep(max(0.0, begun + at / RATE - time.perf_counter()))
    state.close()


def show(seconds: Sequence[float]) -> str:
    """p50 / p99 in ms."""
    return " / ".join(f"{s * 1e3:.2f}" for s in np.percentile(seconds, [50, 99]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--requests", type=int, default=400)
    args = parser.parse_args()
    made = features()
    print(header(f"latest: 1 user + 500 items × {len(made.item_columns)} features after {args.events:,} events"))
    path = Path(tempfile.mkdtemp()) / "state.mdb"
    state = LmdbState.open(path)
    with Stopwatch() as watch:
        hydrate(made, segments(args.events), state, epoch=1, upto_offset=args.events - 1)
    print(f"hydrated in {watch}, {path.stat().st_size / 1e6:,.0f} MB")
    context = multiprocessing.get_context("spawn")
    going, folded = context.Event(), context.Value("q", 0)
    going.set()
    projector = context.Process(target=project_events, args=(path, args.events, going, folded), daemon=True)
    projector.start()
    while folded.value < 1000:
        time.sleep(0.05)
    before, begun = folded.value, time.perf_counter()
    measure(made, state, args.requests)
    rate = (folded.value - before) / (time.perf_counter() - begun)
    print(f"projector folded {rate:,.0f} events/s meanwhile")
    going.clear()
    projector.join(20)
    state.close()
    shutil.rmtree(path.parent)


def measure(made: FeatureSet, state: LmdbState, n: int) -> None:
    rng = np.random.default_rng(0)
    latest, user_ms, floor, n_keys, n_bytes = [], [], [], [], []
    for _ in range(n):
        user = int(N_USERS * rng.random() ** 2 * 0.2)
        items = (N_ITEMS * rng.random(500) ** 3).astype(np.int64)
        with StateReader.open(made, state) as reader:
            listening = _Listening(reader._txn)
            reader._txn = listening  # type: ignore[assignment]
            t = reader.newest_at + 1
            reader.user_side(user, t)
            reader.item_side(user, items, t)
        # Both readings below find their pages and rows warm.
        begun = time.perf_counter()
        with StateReader.open(made, state) as reader:
            t = reader.newest_at + 1
            side = reader.user_side(user, t)
            middle = time.perf_counter()
            values = reader.item_side(user, items, t)
        ended = time.perf_counter()
        latest.append(ended - begun)
        user_ms.append(middle - begun)
        begun = time.perf_counter()
        with state._env.begin() as txn:
            get = txn.get
            rows = [get(key) for key in listening.keys]
        floor.append(time.perf_counter() - begun)
        n_keys.append(len(rows))
        n_bytes.append(sum(len(row) for row in rows if row))
    full = len(side.histories[HISTORY].keys_L)
    print(
        f"{n} requests: {np.mean(n_keys):,.0f} keys, {np.mean(n_bytes) / 1e3:,.0f} kB each; last sequence {full} events"
    )
    print(f"latest  p50 / p99  {show(latest)} ms (user side {show(user_ms)}), values {values.shape}")
    print(f"floor   p50 / p99  {show(floor)} ms, bare txn.get of the same keys")
    ratios = np.array(latest) / np.array(floor)
    print(
        f"ratio   of medians {np.median(latest) / np.median(floor):.2f}, "
        f"median of ratios {np.median(ratios):.2f} (target <= 3)"
    )


if __name__ == "__main__":
    main()

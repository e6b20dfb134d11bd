"""Events per second folded into the state on disk, alone, by batch size; and hydrating the same views from history.

python benchmarks/bench_features_fold.py [--history 1_000_000] [--events 100_000]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from _report import Stopwatch, header
from features_data import SPAN, START, event_table, log_arrays, project, segments

from feedwell.features import FeatureSet, Fold, hydrate
from feedwell.features.views import Facts
from feedwell.stores.state import LmdbState


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--history", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=100_000)
    args = parser.parse_args()
    made = FeatureSet.compile(project())
    keys = sorted({v.entities for v in made.views if isinstance(v, Facts)})
    print(
        header(
            f"fold: {len(made.columns) + 1} features over {len(keys)} key tuples, {args.history:,} events of history"
        )
    )
    path = Path(tempfile.mkdtemp()) / "state.mdb"
    state = LmdbState.open(path)
    with Stopwatch() as watch:
        hydrate(made, segments(args.history), state, epoch=1, upto_offset=args.history - 1)
    print(f"hydrate  {watch} (target for 10M events: <= 90 CPU-s), {path.stat().st_size / 1e6:,.0f} MB")
    fold = Fold([made], state)
    arrays = log_arrays(args.events * 4, seed=3)
    arrays["at"] = START + SPAN + np.arange(args.events * 4) * 120
    table = event_table(arrays, made.project.entities, args.history)
    at = 0
    for batch in (100, 500, 1_000, 4_000):
        slowest = 0.0
        with Stopwatch() as watch:
            for a in range(at, at + args.events, batch):
                begun = time.perf_counter()
                fold.fold(table.slice(a, batch))
                slowest = max(slowest, time.perf_counter() - begun)
        at += args.events
        per_cpu, per_wall = args.events / watch.cpu_s, args.events / watch.wall_s
        print(f"batch {batch:>5}  {per_cpu:>8,.0f} events/CPU-s, {per_wall:>8,.0f} /s, slowest {slowest * 1e3:.0f} ms")
    state.close()
    shutil.rmtree(path.parent)


if __name__ == "__main__":
    main()

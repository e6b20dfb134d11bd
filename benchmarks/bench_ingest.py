"""History ingest, files to sealed Parquet: events/s, beside a floor in the same run.

    python benchmarks/bench_ingest.py [--events 10_000_000] [--format parquet|csv|jsonl] [--folder DIR]

Input: skewed users and items over 140 days, five event types, a value on a fifth of the events, a catalog;
no event ids, so every row is hashed. Floor: DuckDB sorting the same files by time into one Parquet file, nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _report import Stopwatch, header, peak_mb

from feedwell.core.clock import DAY, SystemClock
from feedwell.core.project import DataSection, EntitySection, Project, ProjectSection
from feedwell.data.ingest import ingest
from feedwell.stores.log import EventLog

TYPES = ("view", "click", "like", "cart", "buy")
SHARES = (0.78, 0.14, 0.04, 0.025, 0.015)
START = 1_700_000_000_000_000
DAYS = 140
BATCH = 1_000_000


def generate(n_events: int, n_users: int, n_items: int, seed: int) -> Iterator[pa.Table]:
    """Raw events in no order of time, a million at a time; equal on every machine."""
    rng = np.random.default_rng(seed)
    for start in range(0, n_events, BATCH):
        n = min(BATCH, n_events - start)
        value = np.round(rng.gamma(2.0, 20.0, n), 2)
        yield pa.table(
            {
                "user": pa.array(_skewed(rng, n, n_users)).cast(pa.string()),
                "item": pa.array(_skewed(rng, n, n_items)).cast(pa.string()),
                "type": pa.array(TYPES).take(pa.array(rng.choice(len(TYPES), n, p=SHARES))),
                "ts": pa.array(START + rng.integers(0, DAYS * DAY, n)),
                "value": pa.array(value, mask=rng.random(n) > 0.2),
            }
        )


def _skewed(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    # A Pareto rank: a few keys are hot, all are met.
    return (size * rng.random(n) ** 2.5).astype(np.int64)


def write_input(folder: Path, kind: str, n_events: int, n_users: int, n_items: int, seed: int) -> None:
    """`events-*.{kind}` and `items.parquet`."""
    for i, rows in enumerate(generate(n_events, n_users, n_items, seed)):
        path = folder / f"events-{i:03d}.{kind}"
        if kind == "parquet":
            pq.write_table(rows, path)
        else:
            duckdb.sql(f"COPY (SELECT * FROM rows) TO '{path}' ({'HEADER' if kind == 'csv' else 'FORMAT json'})")
    items = [str(i) for i in range(n_items)]
    pq.write_table(
        pa.table({"item_id": items, "category": [f"c{i % 200}" for i in range(n_items)], "price": np.ones(n_items)}),
        folder / "items.parquet",
    )


def floor(folder: Path, kind: str, memory_mb: int) -> Stopwatch:
    """The least that any load does: read, sort by time, write Parquet."""
    read = {"csv": "read_csv", "parquet": "read_parquet", "jsonl": "read_json"}[kind]
    with Stopwatch() as watch, duckdb.connect(config={"memory_limit": f"{memory_mb}MB"}) as db:
        db.execute(f"SET temp_directory = '{folder / 'spill'}'")
        db.execute(
            f"COPY (SELECT * FROM {read}('{folder}/events-*.{kind}') ORDER BY ts)"
            f" TO '{folder}/floor.parquet' (COMPRESSION zstd)"
        )
    return watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--format", choices=("csv", "parquet", "jsonl"), default="csv")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    args = parser.parse_args()
    print(header("history ingest to sealed Parquet"))
    folder = Path(tempfile.mkdtemp(prefix="feedwell-ingest-", dir=args.folder))
    try:
        write_input(folder, args.format, args.events, args.users, args.items, args.seed)
        project = Project(
            project=ProjectSection(name="bench"),
            data=DataSection(events=f"events-*.{args.format}"),
            entity={
                "item": EntitySection(path="items.parquet", columns={"price": "float"}),
                "category": EntitySection(**{"from": "item.category"}),
            },
        )
        least = floor(folder, args.format, 2048)
        log = EventLog.open(folder / ".feedwell", project, SystemClock())
        with Stopwatch() as watch:
            report = ingest(project, folder, log)
        size = sum(path.stat().st_size for path in (folder / ".feedwell/log/segments").glob("*.parquet"))
        assert report.load.n_new == args.events + args.items, report
        phases = ", ".join(f"{name} {s:.1f} s" for name, s in report.load.seconds.items())
        print(f"input     {args.events:,} events ({args.format}), {args.users:,} users, {args.items:,} items")
        print(f"floor     {least}: {args.events / least.wall_s:,.0f} events/s (DuckDB: read, sort by ts, write)")
        print(f"feedwell  {watch}: {args.events / watch.wall_s:,.0f} events/s ({phases})")
        print(f"ratio     {watch.wall_s / least.wall_s:.2f} x wall, {watch.cpu_s / least.cpu_s:.2f} x CPU of the floor")
        print(f"size      {size / args.events:.1f} bytes an event in {report.load.n_segments} segments")
        print(f"memory    {peak_mb():,.0f} MB at the peak")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

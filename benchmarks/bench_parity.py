"""Parity: all readings of all aggregates over generated logs and over the real logs replayed whole; six mutants.

    python benchmarks/bench_parity.py [--logs 3000] [--every 20]

Real logs: every event is folded, one query at every `--every`-th event, as it stood then; `asof` and `fold` + `latest`
must agree at all of them, and `reference` at a sample. They are found in FEEDWELL_DATA (default ../shared/data).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _report import Stopwatch, header

from feedwell.core.project import EntitySection, EventSection, FeatureConfig, Project, ProjectSection
from feedwell.features import FeatureSet, Fold, StateReader, asof, hydrate, reference
from feedwell.stores.log.schema import event_schema
from feedwell.stores.state import MemoryState
from feedwell.testing.generated import generate, parity_project
from feedwell.testing.mutants import MUTANTS
from feedwell.testing.parity import Comparison, compare_readings, read_row, write_segments

DATA = Path(os.environ.get("FEEDWELL_DATA", Path(__file__).resolve().parents[1] / "../shared/data"))
SECOND = 1_000_000
Event = dict[str, Any]


def real_project(first: str, second: str) -> Project:
    """Features that any log of two event types has a use for; `second` carries a value where the log has one."""
    windows = ["1h", "1d", "7d", "30d"]
    ways = {
        "user": "user",
        "item": "item",
        "category": "category",
        "affinity": ["user", "category"],
        "pair": ["user", "item"],
    }
    features: dict[str, dict[str, Any]] = {}
    for name, entity in ways.items():
        features |= {
            f"{name}_n": {"entity": entity, "aggregate": "count", "events": [first], "windows": windows},
            f"{name}_all": {"entity": entity, "aggregate": "count", "events": [first, second]},
            f"{name}_sum": {"entity": entity, "aggregate": "sum", "events": [second], "windows": ["7d"]},
            f"{name}_mean": {"entity": entity, "aggregate": "mean", "events": [second]},
            f"{name}_rate": {
                "entity": entity,
                "aggregate": "rate",
                "events": [first],
                "numerator": [second],
                "windows": ["7d"],
            },
            f"{name}_last": {"entity": entity, "aggregate": "last_value", "events": [second]},
            f"{name}_since": {"entity": entity, "aggregate": "time_since_last", "events": [first]},
            f"{name}_age": {"entity": entity, "aggregate": "age"},
            f"{name}_warm": {"entity": entity, "aggregate": "decayed_count", "events": [first], "half_life": "1d"},
        }
    features |= {
        "recent": {"entity": "user", "aggregate": "last_n", "events": [first], "n": 20},
        "did": {"entity": ["user", "item"], "aggregate": "is_active", "events": [second]},
        "n_did": {"entity": "user", "aggregate": "active_count", "events": [second]},
        "fans": {"entity": "item", "aggregate": "active_count", "events": [second]},
        "year": {"entity": "item", "aggregate": "column", "column": "year"},
        "category_key": {"entity": "item", "aggregate": "column", "column": "category"},
    }
    return Project(
        project=ProjectSection(name="real"),
        event={first: EventSection(), second: EventSection()},
        entity={
            "item": EntitySection(columns={"year": "int", "category": "string"}),
            "category": EntitySection.model_validate({"from": "item.category"}),
        },
        feature={name: FeatureConfig.model_validate(body) for name, body in features.items()},
    )


def _event(kind: str, at: int, user: int, item: int, category: int, value: float | None = None) -> Event:
    return {
        "type": kind,
        "available_at": at,
        "ts": at,
        "user": user,
        "item": item,
        "category": category,
        "value": value,
        "value_scaled": None if value is None else round(value),
        "payload": {},
    }


def movielens() -> tuple[Project, list[Event]]:
    """ml-100k: a rating is a `rate`, and from 4 up also a `like`; the catalog holds from always."""
    with (DATA / "ml-100k/ml-100k.item").open(encoding="utf-8", errors="replace") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    names = {name: i for i, name in enumerate(sorted({row[3] for row in rows}))}
    events, category = [], {}
    for row in rows:
        item = int(row[0])
        category[item] = names[row[3]]
        made = _event("$item", 0, -1, item, category[item])
        made["payload"] = {"year": int(row[2])} if row[2].isdigit() else {}
        events.append(made)
    with (DATA / "ml-100k/ml-100k.inter").open() as file:
        ratings = [line.split() for line in list(file)[1:]]
    for user, film, rating, ts in sorted(ratings, key=lambda r: float(r[3])):
        at, key, value = int(float(ts)) * SECOND, int(film), float(rating)
        events.append(_event("rate", at, int(user), key, category.get(key, -1), value))
        if value >= 4:
            events.append(_event("like", at, int(user), key, category.get(key, -1), value))
    return real_project("rate", "like"), events


def retailrocket() -> tuple[Project, list[Event]]:
    """retailrocket: views and buys (carts stay out of the features), no catalog at all."""
    table = pq.read_table(DATA / "retailrocket/events.parquet")
    rows = zip(*(table.column(name).to_pylist() for name in ("event", "ts", "user", "item")), strict=True)
    return real_project("view", "buy"), [
        _event(kind, ts * SECOND, user, item, -1) for kind, ts, user, item in sorted(rows, key=lambda r: r[1])
    ]


def to_table(project: Project, events: Sequence[Event]) -> pa.Table:
    schema = event_schema(project.entities)
    fixed = {"origin": "history", "schema_version": 1, "payload": "{}"}
    columns = []
    for f in schema:
        if f.name == "payload":
            cells = [json.dumps(e["payload"]) for e in events]
        elif f.name == "event_id":
            cells = [e["offset"].to_bytes(16, "big") for e in events]
        else:
            cells = [e.get(f.name, fixed.get(f.name)) for e in events]
        columns.append(pa.array(cells, f.type))
    return pa.table(columns, schema=schema)


def replay(project: Project, events: list[Event], every: int, n_reference: int, folder: Path) -> Comparison:
    """The log folded whole, read beside `asof` at each `every`-th event; `hydrate` at its end, `reference` at a few."""
    for offset, event in enumerate(events):
        event["offset"] = offset
    features = FeatureSet.compile(project)
    table = to_table(project, events)
    segments = write_segments(table, folder, len(events))
    asked = [e for e in events[:: max(1, every)] if not e["type"].startswith("$")]
    rows = [{"t": e["available_at"], "user": e["user"], "item": e["item"]} for e in asked]
    last = events[-1]["available_at"] + 1
    at_end = [{**row, "t": last} for row in rows[-500:]]
    frame = pa.table({k: [r[k] for r in rows + at_end] for k in ("t", "user", "item")})
    batch = asof(features, segments, frame).to_pylist()
    found = Comparison()
    for row, reader, want in zip(rows, states(features, table, rows), batch, strict=False):
        found.check("fold", features, row, read_row(features, reader, row), want)
    state = MemoryState()
    hydrate(features, segments, state, epoch=1, upto_offset=len(events) - 1)
    with StateReader.open(features, state) as reader:
        for row, want in zip(at_end, batch[len(rows) :], strict=True):
            found.check("hydrate", features, row, read_row(features, reader, row), want)
    rng = np.random.default_rng(0)
    for i in rng.choice(len(rows), min(n_reference, len(rows)), replace=False).tolist():
        want = reference(features, events, [rows[i]])[0]
        found.check("reference", features, rows[i], {k: batch[i][k] for k in want}, want)
    return found


def states(features: FeatureSet, table: pa.Table, rows: Sequence[dict[str, int]]) -> Iterator[StateReader]:
    """The state as it stood at each row's t, folded forward."""
    state = MemoryState()
    fold = Fold([features], state)
    at = table.column("available_at").to_numpy()
    done = 0
    for row in rows:
        end = int(np.searchsorted(at, row["t"]))
        fold.fold(table.slice(done, end - done))
        done = max(done, end)
        with StateReader.open(features, state) as reader:
            yield reader


def generated(n_logs: int, folder: Path) -> Comparison:
    project, total = parity_project(), Comparison()
    for seed in range(math.ceil(n_logs / 25)):
        part = compare_readings(project, generate(seed + 10_000, 25), folder, seed)
        total.compared.update(part.compared)
        total.mismatches += part.mismatches
        for path in folder.glob("*.parquet"):
            path.unlink()
    return total


def show(title: str, found: Comparison, watch: Stopwatch) -> None:
    readings: Counter[str] = Counter()
    for (reading, _), n in found.compared.items():
        readings[reading] += n
    print(f"\n{title}: {sum(found.compared.values()):,} comparisons, {len(found.mismatches)} mismatches, {watch}")
    print("  by reading    " + ", ".join(f"{name} {n:,}" for name, n in readings.items()))
    print("  by aggregate  " + ", ".join(f"{name} {n:,}" for name, n in found.by_aggregate().items()))
    for mismatch in found.mismatches[:5]:
        print("  " + mismatch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=3000)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument(
        "--reference", type=int, default=40, help="rows of each real log that `reference` reads as well"
    )
    args = parser.parse_args()
    print(header("parity of asof, fold + latest, hydrate + latest and reference"))
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Stopwatch() as watch:
            found = generated(args.logs, folder)
        show(f"{math.ceil(args.logs / 25) * 25:,} generated logs", found, watch)
        failed += len(found.mismatches)
        for title, load in (("ml-100k", movielens), ("retailrocket", retailrocket)):
            if not (DATA / title).exists():
                print(f"\n{title}: not found under {DATA}; set FEEDWELL_DATA")
                continue
            with Stopwatch() as watch:
                project, events = load()
                found = replay(project, events, args.every, args.reference, folder)
            show(f"{title}, {len(events):,} events folded", found, watch)
            failed += len(found.mismatches)
        caught = 0
        for mutant in MUTANTS:
            with mutant.breaks():
                wrong = [
                    m
                    for s in range(3)
                    for m in compare_readings(parity_project(), generate(s, 15), folder, s).mismatches
                ]
            caught += bool(wrong) and {m.split()[0] for m in wrong} == {mutant.reading}
            print(f"mutant {mutant.rule:<10} in {mutant.reading:<5} {len(wrong):>6,} mismatches")
        print(f"{caught} of {len(MUTANTS)} mutants caught, {time.strftime('%H:%M')}")
    sys.exit(1 if failed or caught < len(MUTANTS) else 0)


if __name__ == "__main__":
    main()

"""100 publish / rollback cycles with catalog changes between, while requests run: nothing unknown, nothing mixed.

    python benchmarks/bench_releases.py [--cycles 100] [--threads 2]

Two releases that differ in their sources and objectives take turns in the champion channel. A worker's runtime follows
it; afterwards every SlateRecord must name one of the two, with its digest, only its sources and heads, and only
keys that the dictionary knows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from _report import header

import feedwell.workspace
from feedwell.core.clock import DAY, SECOND
from feedwell.core.event import RawEvent
from feedwell.core.slate import SlateRecord
from feedwell.pipeline.path import Wish
from feedwell.pipeline.record import UNCALIBRATED
from feedwell.serving.runtime import Runtime
from feedwell.workspace import Workspace

USERS, ITEMS, EVENTS = 300, 500, 12_000
PROJECT = """
[project]
name = "cycles"

[data]
events = "events.jsonl"
exposure = ["view"]

[entity.item]
path = "items.jsonl"
columns = { category = "string" }

[entity.category]
from = "item.category"

[event.view]
[event.buy]

[objective.<objective>]
events = ["buy"]
within = "1h"

[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]
windows = ["7d"]

[feature.user_category_views]
entity = ["user", "category"]
aggregate = "count"
events = ["view"]

[source.popular]
k = 50

[source.<source>]
k = 50

[filter.seen]
events = ["buy"]

[ranker]
kind = "logistic"

[slate]
kind = "top_k"
k = 10

[train]
max_requests = 300
"""
PROJECTOR = """
import sys, threading
import feedwell.workspace
feedwell.workspace.open(sys.argv[1]).projector.run_forever(threading.Event())
"""
RECIPES = {"one": {"source": "als", "objective": "buy"}, "two": {"source": "transitions", "objective": "purchase"}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(header(f"{arguments.cycles} publish / rollback cycles under load"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shop(folder)
        trained = [train(folder, recipe) for recipe in RECIPES.values()]
        with feedwell.workspace.open(folder) as workspace:
            workspace.publish(trained[0], force=True)
            records, moves_s = cycle(workspace, trained, arguments.cycles, arguments.threads)
            report(workspace, trained, records, moves_s)


def write_shop(folder: Path) -> None:
    rng = np.random.default_rng(3)
    now = time.time_ns() // 1000 - 2 * DAY
    t = np.sort(now - rng.integers(0, 20 * DAY, EVENTS)) // SECOND
    rows = []
    for at in t.tolist():
        user, item = int(rng.integers(USERS)), int(ITEMS * rng.random() ** 2)
        rows.append({"type": "view", "user": f"u{user}", "item": f"i{item}", "ts": at})
        if rng.random() < 0.2:
            rows.append({"type": "buy", "user": f"u{user}", "item": f"i{item}", "ts": at + 60})
    (folder / "events.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    items = [{"item_id": f"i{i}", "category": f"c{i % 7}"} for i in range(ITEMS)]
    (folder / "items.jsonl").write_text("".join(json.dumps(r) + "\n" for r in items))


def train(folder: Path, recipe: dict[str, str]) -> str:
    text = PROJECT
    for key, value in recipe.items():
        text = text.replace(f"<{key}>", value)
    (folder / "feedwell.toml").write_text(text)
    with feedwell.workspace.open(folder) as workspace:
        if workspace.log.high_water()[0] < 0:
            workspace.ingest(history=True)
        release_id = workspace.train(max_requests=50).release_id
        assert release_id is not None
        return release_id


def cycle(
    workspace: Workspace, trained: list[str], cycles: int, threads: int
) -> tuple[list[SlateRecord], dict[str, list[float]]]:
    stop = threading.Event()
    projector = subprocess.Popen([sys.executable, "-c", PROJECTOR, str(workspace.folder)])
    runtime = Runtime.open(workspace.folder)
    runtime.warm()
    runtime.watch()
    askers = [threading.Thread(target=ask, args=(runtime, stop, seed)) for seed in range(threads)]
    for asker in askers:
        asker.start()
    moves_s: dict[str, list[float]] = {"publish": [], "rollback": []}
    for i in range(cycles):
        change_catalog(workspace, i)
        for name in moves_s:
            begin = time.perf_counter()
            workspace.publish(trained[1], force=True) if name == "publish" else workspace.rollback()
            moves_s[name].append(time.perf_counter() - begin)
            wanted = workspace.releases.channel("champion")
            while runtime.path.compiled.release_id != wanted and time.perf_counter() - begin < 5:
                time.sleep(0.01)
    stop.set()
    for asker in askers:
        asker.join()
    projector.terminate()
    projector.wait()
    records = list(runtime.records.records())
    runtime.close()
    return records, moves_s


def ask(runtime: Runtime, stop: threading.Event, seed: int) -> None:
    rng = np.random.default_rng(seed)
    while not stop.is_set():
        path, served = runtime.prepare(Wish(user_id=f"u{rng.integers(USERS + 5)}"), 1000.0)
        path.keep(served)


def change_catalog(workspace: Workspace, i: int) -> None:
    """A new item with a view, an old one in another category."""
    now = time.time_ns() // 1000
    workspace.log.append(
        [
            RawEvent("$item", now, {"item": f"new{i}"}, payload={"category": f"c{i % 9}"}),
            RawEvent("$item", now, {"item": f"i{i % ITEMS}"}, payload={"category": f"c{(i + 1) % 7}"}),
            RawEvent("view", now, {"user": f"u{i % USERS}", "item": f"new{i}"}),
        ]
    )


def report(
    workspace: Workspace, trained: list[str], records: list[SlateRecord], moves_s: dict[str, list[float]]
) -> None:
    recipes = dict(zip(trained, RECIPES.values(), strict=True))
    digests = {release: workspace.releases.read(release).project_digest for release in trained}
    wrong: Counter[str] = Counter()
    for record in records:
        recipe = recipes.get(record.release_id)
        if recipe is None:
            wrong["unknown release"] += 1
            continue
        own = {"source.popular", f"source.{recipe['source']}", "newest"}
        wrong["digest of another release"] += record.project_digest != digests[record.release_id]
        wrong["source of another release"] += not set(record.source_names) <= own
        heads = {name.removeprefix(UNCALIBRATED) for name in record.predictions}
        wrong["head of another release"] += heads != {recipe["objective"], "value"}
        wrong["unknown key"] += None in workspace.ids.names("item", record.keys)
        wrong["degraded"] += bool(record.degraded)
        wrong["empty"] += not record.keys
    by_release = Counter(record.release_id for record in records)
    print(f"{len(records):,} slate records: " + ", ".join(f"{n:,} of {i}" for i, n in by_release.items()))
    for name, seconds in moves_s.items():
        print(f"{len(seconds)} × {name}: p50 {np.quantile(seconds, 0.5) * 1e3:.0f} ms, max {max(seconds) * 1e3:.0f} ms")
    print("violations: " + ", ".join(f"{name} {n}" for name, n in wrong.items()))


if __name__ == "__main__":
    main()

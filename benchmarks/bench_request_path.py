"""A whole feed request in process: 100k items, 4 sources, about 300 candidates scored by XGBoost; by stage.

    python benchmarks/bench_request_path.py [--items 100000] [--events 150000] [--requests 1500]

State in LMDB, records durable (SQLite, synchronous=FULL). The floor of the ranker is its own trees on the same matrix.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # as the supervisor sets them for its workers; read when numpy is loaded

import numpy as np
from _report import Stopwatch, header

from feedwell.core.clock import DAY, ManualClock
from feedwell.core.event import RawEvent
from feedwell.core.project import Project
from feedwell.core.protocols import Interactions, RankingRows
from feedwell.pipeline.ask import Ask
from feedwell.pipeline.compile import compile_features, make_part
from feedwell.pipeline.gather import Pace
from feedwell.pipeline.online import OnlineState
from feedwell.pipeline.overlays import Compiled
from feedwell.pipeline.path import RequestPath, Wish
from feedwell.pipeline.project_file import parse_project
from feedwell.pipeline.projector import Projector
from feedwell.stores.log import EventLog
from feedwell.stores.records import RecordStore

NOW = 1_790_000_000_000_000
N_USERS = 10_000
TEXT = """
[project]
name = "bench"
[data]
exposure = ["view"]
[event.view]
[event.buy]
[entity.item]
columns = { category = "string", price = "float" }
group = "category"
[entity.category]
from = "item.category"
[objective.buy]
events = ["buy"]
[source.popular]
k = 90
events = ["view"]
[source.fresh]
k = 90
[source.transitions]
k = 90
events = ["view"]
[source.als]
k = 90
events = ["view"]
[filter.seen]
events = ["buy"]
[ranker]
kind = "xgboost"
n_trees = 200
[slate]
k = 30
kind = "dpp"
[slate.cap]
per_group = 5
[serving]
deadline = "1s"
max_candidates = 300
trace_share = 0.0
"""
WINDOWS = '["1h", "1d", "7d"]'


def project() -> Project:
    features = [
        f'[feature.{"_".join(entity)}_{event}s]\nentity = {list(entity)!r}\naggregate = "count"\n'.replace("'", '"')
        + f'events = ["{event}"]\nwindows = {WINDOWS}\n'
        for entity in (("item",), ("user",), ("category",), ("user", "category"))
        for event in ("view", "buy")
    ]
    return parse_project(TEXT + "\n".join(features))


def fill(log: EventLog, n_items: int, n_events: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Appends catalog and events, newest last, and returns the events' users and items."""
    for start in range(0, n_items, 5_000):
        rows = range(start, min(start + 5_000, n_items))
        payloads = [{"category": f"c{i % 200}", "price": float(i % 90)} for i in rows]
        log.append([RawEvent("$item", NOW, {"item": f"i{i}"}, payload=p) for i, p in zip(rows, payloads, strict=True)])
    users = (N_USERS * rng.random(n_events) ** 2).astype(int)
    objects = (n_items * rng.random(n_events) ** 3).astype(int)
    for start in range(0, n_events, 5_000):
        part = range(start, min(start + 5_000, n_events))
        log.append(
            [
                RawEvent("buy" if i % 12 == 0 else "view", NOW, {"user": f"u{users[i]}", "item": f"i{objects[i]}"})
                for i in part
            ]
        )
    return users, objects


def fit_sources(p: Project, log: EventLog, folder: Path, pairs: tuple[Any, Any]) -> dict[str, Path]:
    users = log.ids.lookup("user", [f"u{u}" for u in pairs[0]])
    objects = log.ids.lookup("item", [f"i{i}" for i in pairs[1]])
    n = len(users)
    kinds = np.where(np.arange(n) % 12 == 0, 1, 0).astype(np.int16)
    data = Interactions(
        user_E=users, item_E=objects, at_E=np.arange(n) + NOW, type_E=kinds, types=("view", "buy"), until=NOW + DAY
    )
    folders = {}
    for name in ("source.transitions", "source.als"):
        part = make_part(p, name)
        part.fit(data)
        folders[name] = folder / name
        folders[name].mkdir()
        part.save(folders[name])
    return folders


def fit_ranker(p: Project, path: RequestPath, folder: Path, online: OnlineState) -> Path:
    """Trees over what the pipeline retrieves for 60 users; labels follow one feature and noise, so that trees grow."""
    rng = np.random.default_rng(2)
    pipeline, parts = path.compiled.base, []
    with online.reader(pipeline.features) as reader:
        for user in range(60):
            parts.append(pipeline.retrieve(Ask(user_id="", request_id=str(user), t=NOW + DAY, user=user), reader))
    features_NF = np.concatenate([c.features_NF for c in parts])
    n = len(features_NF)
    signal = np.nan_to_num(features_NF[:, 0]) + rng.normal(0, 3, n) + np.nan_to_num(features_NF[:, 3])
    rows = RankingRows(
        features_NF=features_NF,
        feature_names=parts[0].feature_names,
        labels={"buy": (signal > np.quantile(signal, 0.9)).astype(float)},
        group_N=np.repeat(np.arange(len(parts)), [len(c) for c in parts]).astype(np.int64),
        weight_N=np.ones(n),
        valid_N=np.zeros(n, bool),
    )
    ranker = make_part(p, "ranker")
    ranker.fit(rows)
    (folder / "ranker").mkdir()
    ranker.save(folder / "ranker")
    return folder / "ranker"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--items", type=int, default=100_000)
    arguments.add_argument("--events", type=int, default=150_000)
    arguments.add_argument("--requests", type=int, default=1_500)
    options = arguments.parse_args()
    print(header(f"request path: {options.items} items, {options.events} events, 4 sources, XGBoost, DPP with a cap"))
    rng, p, clock = np.random.default_rng(1), project(), ManualClock(NOW)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = EventLog.open(folder, p, clock)
        features = compile_features(p)
        with Stopwatch() as filling:
            pairs = fill(log, options.items, options.events, rng)
        projector = Projector(folder, log, lambda: [features])
        with Stopwatch() as folding:
            projector.catch_up()
        records, online = RecordStore.open(folder), OnlineState(projector.states)

        def path_of(folders: dict[str, Path]) -> RequestPath:
            compiled = Compiled(p, folders, features, allow_untrained=True)
            reader = lambda: online.reader(features)  # noqa: E731
            return RequestPath(
                compiled=compiled, log=log, open_reader=reader, records=records, clock=clock, secret=b"s"
            )

        folders = fit_sources(p, log, folder, pairs)
        folders["ranker"] = fit_ranker(p, path_of(folders), folder, online)
        path, pace = path_of(folders), Pace.of(1_000.0)
        print(f"# filled in {filling}; folded in {folding}")
        report(path, pace, options.requests, rng)
        report_ranking(path, options.items, options.requests // 3, rng)


def report(path: RequestPath, pace: Pace, n: int, rng: np.random.Generator) -> None:
    users = [f"u{int(u)}" for u in N_USERS * rng.random(n + 100) ** 2]
    for user in users[:100]:
        path.answer(Wish(user_id=user), pace)
    wall, kept, stages, scored = [], [], [], []
    cpu = time.process_time()
    for user in users[100:]:
        begin = time.perf_counter()
        served = path.prepare(Wish(user_id=user), pace)
        middle = time.perf_counter()
        path.keep(served)
        end = time.perf_counter()
        wall.append((end - begin) * 1e3)
        kept.append((end - middle) * 1e3)
        stages.append(served.record.stage_ms)
        scored.append(len(served.answer.scored))
    cpu = (time.process_time() - cpu) * 1e3 / n
    names = sorted({name for s in stages for name in s}, key=lambda name: -np.mean([s.get(name, 0.0) for s in stages]))
    print(f"{n} requests, {np.mean(scored):.0f} candidates scored, {len(served.record.feature_names)} item columns")
    print(f"{'':26}{'p50':>8}{'p99':>8}{'mean':>8}   ms")
    for label, values in [("whole request, durable", wall), ("  record (fsync)", kept)]:
        print(f"{label:26}{np.percentile(values, 50):8.2f}{np.percentile(values, 99):8.2f}{np.mean(values):8.2f}")
    for name in names:
        values = [s.get(name, 0.0) for s in stages]
        print(f"  {name:24}{np.percentile(values, 50):8.2f}{np.percentile(values, 99):8.2f}{np.mean(values):8.2f}")
    print(f"CPU {cpu:.2f} ms a request; {1000 / cpu:.0f} requests/s a core")
    trees = floor_of_trees(path, served)
    ranked = np.median([s["ranker"] for s in stages])  # as the floor is: a mean counts preemption by other processes
    print(f"floor: the trees alone on this matrix {trees:.2f} ms; the stage 'ranker' takes {ranked / trees:.2f} x that")


def report_ranking(path: RequestPath, n_items: int, n: int, rng: np.random.Generator) -> None:
    """`rank` of 300 items that the caller brings, beside the feed that retrieves its own: the same users in turn."""
    users = [f"u{int(u)}" for u in N_USERS * rng.random(n) ** 2]
    brought = [[f"i{int(i)}" for i in n_items * rng.random(300) ** 3] for _ in users]
    ms: dict[str, list[float]] = {"feed": [], "rank": []}
    n_scored = []
    for user, among in zip(users, brought, strict=True):
        for name, wish in (("feed", Wish(user_id=user)), ("rank", Wish(user_id=user, among=among))):
            begin = time.perf_counter()
            served = path.answer(wish)
            ms[name].append((time.perf_counter() - begin) * 1e3)
        n_scored.append(len(served.answer.scored))
    (feed, feed_99), (rank, rank_99) = (np.percentile(ms[name], [50, 99]) for name in ("feed", "rank"))
    print(
        f"rank of {len(brought[0])} brought items ({np.mean(n_scored):.0f} scored), durable: p50 {rank:.2f} ms, "
        f"p99 {rank_99:.2f} ms; the feed beside it {feed:.2f} and {feed_99:.2f}: {rank / feed:.2f} x"
    )


def floor_of_trees(path: RequestPath, served: Any) -> float:
    """ms of `inplace_predict` on the last request's matrix."""
    ranker: Any = path.compiled.base.ranker
    (booster,) = ranker._model.boosters.values()
    names = list(served.answer.scored.feature_names)
    rows = served.answer.scored.features_NF[:, [names.index(name) for name in ranker._model.names]]
    times = []
    for _ in range(200):
        begin = time.perf_counter()
        booster.inplace_predict(rows, missing=np.nan)
        times.append((time.perf_counter() - begin) * 1e3)
    return float(np.median(times))


if __name__ == "__main__":
    main()

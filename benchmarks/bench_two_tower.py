"""two_tower on ml-100k, on validation data: features on and off, cold items, the correction off, shuffled users, speed.

    FEEDWELL_DATA=... python benchmarks/bench_two_tower.py [--only known,cold,speed] [--curves FILE.svg]

Fitted on the first half of each user's time line, judged on the next 30 %; the last 20 % are not touched. One request
per user, at the first moment that is judged; relevant: what the user then rated 4 or more; what was rated before is
left out. Cold: a fifth of the items, by chance, has no event at all in what is fitted, and only these are ranked, for
what a user rated 4 or more at any time before the last 20 %. Intervals: 95 %, by bootstrap over users, paired.
"""

from __future__ import annotations

import argparse
import json
import unittest.mock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from _curves import write_curves
from _project import workspace_of
from _report import Stopwatch, cpu_s, header

from feedwell.core import registry
from feedwell.core.columns import USER, T
from feedwell.core.keys import contains
from feedwell.core.needs import HistoryNeed
from feedwell.core.protocols import Interactions
from feedwell.core.request import History, Keys, Request, UserSide
from feedwell.data.interactions import UserEvents, user_events
from feedwell.data.split import spans
from feedwell.features import asof
from feedwell.nn.config import Run
from feedwell.nn.curves import Curves
from feedwell.nn.two_tower import Towers
from feedwell.pipeline.compile import setting_of
from feedwell.sources import _two_tower_fit
from feedwell.training.fit_data import fit_data

K = 20
PEERS = ("als", "item_knn", "transitions")
FEATURES_OFF = {"embed": "", "item_columns": [], "user_columns": [], "user_features": []}
EXTRA = """
[entity.gender]
from = "user.gender"

[entity.occupation]
from = "user.occupation"

[source.two_tower]
k = 2000
"""
CHANGES = (('text = ["title"]', 'text = ["title", "genres"]'), ("\n[entity.genre]", EXTRA + "\n[entity.genre]"))


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is fitted on, and one request and its answers per user."""

    data: Interactions
    requests: list[Request]
    relevant: list[Keys]
    allowed: Keys | None
    count_I: dict[int, int]


class Bench:
    """The log of ml-100k, read once."""

    def __init__(self, workspace: Any) -> None:
        self.project = workspace.project
        inputs = workspace.training_inputs()
        self.view, self.features = inputs.view(), workspace.features.set
        self.events: UserEvents = user_events(self.view, self.project)
        self.cut = spans(self.view, self.project.split)
        self.span_E = self.cut.span(self.events.user_E, self.events.at_E)
        self.liked_E = self.events.positives(self.project.objective["like"])
        self.fitted_on = fit_data(inputs, self.events, self.cut, 1)
        self.setting = replace(setting_of(self.project, "source.two_tower"), name="source.two_tower")

    def part(self, seed: int = 0, **options: Any) -> Any:
        kind: Any = registry.find("source", "two_tower")
        config = kind.Config.model_validate({"k": 2000, "strangers": True, **options})
        return kind(config, replace(self.setting, seed=seed))

    def needs_of(self, name: str) -> list[HistoryNeed]:
        kind: Any = registry.find("source", name)
        return [n for n in kind(kind.Config(), self.setting).needs if isinstance(n, HistoryNeed)]

    def peer(self, name: str, data: Interactions) -> Any:
        """Another source, as it comes."""
        kind: Any = registry.find("source", name)
        part = kind(kind.Config(k=2000), replace(self.setting, name=name))
        part.fit(data)
        return part

    def known(self) -> Task:
        """Items that were rated before, or not: the catalog as it is."""
        return self._task(self.fitted_on, np.isin(self.span_E, (1, 2)), None, at_first=True)

    def cold(self, seed: int = 1) -> Task:
        """A fifth of the items is new."""
        items = np.unique(self.events.item_E)
        cold = np.sort(np.random.default_rng(seed).choice(items, len(items) // 5, replace=False))
        data = self.fitted_on
        keep = ~contains(cold, data.item_E)
        data = replace(
            data,
            user_E=data.user_E[keep],
            item_E=data.item_E[keep],
            at_E=data.at_E[keep],
            type_E=data.type_E[keep],
            value_E=None if data.value_E is None else data.value_E[keep],
            undone_E=None if data.undone_E is None else data.undone_E[keep],
            user_columns={name: v[keep] for name, v in data.user_columns.items()},
        )
        return self._task(data, (self.span_E < 3) & contains(cold, self.events.item_E), cold, at_first=False)

    def _task(self, data: Interactions, answer_E: Any, allowed: Keys | None, *, at_first: bool) -> Task:
        events = self.events
        # Each source asks for as many as it wants, and takes the last of what it is given.
        needs = sorted({n for s in ("two_tower", *PEERS) for n in self.needs_of(s)}, key=lambda n: -n.n)
        users, requests, relevant, times = [], [], [], []
        for user in np.unique(data.user_E).tolist():
            rows = events.rows_of(user)
            answers = rows[answer_E[rows] & self.liked_E[rows]]
            before = rows[
                (self.span_E[rows] == 0) & (True if allowed is None else ~contains(allowed, events.item_E[rows]))
            ]
            answers = answers[~np.isin(events.item_E[answers], events.item_E[before])]
            if not len(answers) or not len(before):
                continue
            t = int(events.at_E[answers].min()) if at_first else int(events.at_E[before].max()) + 1
            users.append(user)
            times.append(t)
            relevant.append(np.unique(events.item_E[answers]))
            last = before[-needs[0].n :]
            history = History(keys_L=events.item_E[last], at_L=events.at_E[last], type_L=np.zeros(len(last), np.int16))
            side = UserSide(histories=dict.fromkeys(needs, history))
            skip = np.unique(events.item_E[before])
            requests.append(Request(request_id="", user_id="", user=user, t=t, n=K, skip=skip, side=side))
        requests = self._with_users(requests, users, times)
        keys, counts = np.unique(data.item_E, return_counts=True)
        return Task(
            data=data,
            requests=requests,
            relevant=relevant,
            allowed=allowed,
            count_I=dict(zip(keys.tolist(), counts.tolist(), strict=True)),
        )

    def _with_users(self, requests: list[Request], users: list[int], times: list[int]) -> list[Request]:
        names = [f"user.{name}" for name in self.setting.user_columns]
        frame = pa.table({USER: pa.array(users, pa.int64()), T: pa.array(times, pa.int64())})
        read = asof(self.features, self.view.segments, frame, columns=names, sequences=False, engine=self.view)
        columns = {name: read[name].to_numpy() for name in names}
        return [
            replace(r, side=replace(r.side, features={name: float(v[b]) for name, v in columns.items()}))
            for b, r in enumerate(requests)
        ]


def ndcg_of(lists: list[Keys], relevant: list[Keys]) -> Any:
    found = []
    for keys, wanted in zip(lists, relevant, strict=True):
        hit = np.isin(keys[:K], wanted)
        ideal = (1 / np.log2(np.arange(2, 2 + min(K, len(wanted))))).sum()
        found.append((hit / np.log2(np.arange(2, 2 + len(hit)))).sum() / ideal)
    return np.array(found)


def recall_of(lists: list[Keys], relevant: list[Keys]) -> Any:
    return np.array([np.isin(k[:K], w).sum() / len(w) for k, w in zip(lists, relevant, strict=True)])


def interval(values: Any) -> str:
    rng = np.random.default_rng(0)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(2000)])
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def answers_of(task: Task, part: Any) -> list[Keys]:
    got = [r.keys_N for r in part.batch(task.requests)]
    return got if task.allowed is None else [keys[contains(task.allowed, keys)] for keys in got]


def by_count(task: Task, counts: Mapping[int, int], items: Keys) -> list[Keys]:
    order = np.array(sorted(items.tolist(), key=lambda i: (-counts.get(i, 0), i)), np.int64)
    return [order[~contains(r.skip, order)] for r in task.requests]


def table(task: Task, rows: Mapping[str, list[Keys]], base: str) -> None:
    print(f"{len(task.requests)} users; differences to '{base}', paired by user, 95 %")
    print(f"{'':34s} recall@{K}  ndcg@{K}  difference of ndcg")
    of_base = ndcg_of(rows[base], task.relevant)
    for name, lists in rows.items():
        ndcg = ndcg_of(lists, task.relevant)
        told = "" if name == base else interval(ndcg - of_base)
        print(f"{name:34s} {recall_of(lists, task.relevant).mean():9.4f} {ndcg.mean():8.4f}  {told}", flush=True)


def tail(task: Task, lists: list[Keys], *, alone: bool = False) -> Any:
    """recall@K of the relevant items outside the fifth with the most events; `alone`: that fifth is not ranked."""
    order = sorted(task.count_I, key=lambda i: -task.count_I[i])
    head = np.sort(np.array(order[: len(order) // 5], np.int64))
    wanted = [w[~contains(head, w)] for w in task.relevant]
    rows = [b for b, w in enumerate(wanted) if len(w)]
    shown = [lists[b][~contains(head, lists[b])] if alone else lists[b] for b in rows]
    return recall_of(shown, [wanted[b] for b in rows])


def fitted(bench: Bench, data: Interactions, curves: dict[str, Curves], name: str, **options: Any) -> Any:
    part = bench.part(**options)
    with Stopwatch() as watch:
        part.fit(data)
    curves[name] = part.curves
    print(f"# {name}: {len(part.curves.train)} epochs, best {part.curves.best}, {watch}", flush=True)
    return part


def known(bench: Bench, curves: dict[str, Curves], options: dict[str, Any]) -> None:
    task = bench.known()
    full = fitted(bench, task.data, curves, "two_tower", **options)
    rng = np.random.default_rng(0)
    mixed = replace(task.data, user_E=rng.permutation(task.data.user_E))
    mixed = replace(mixed, user_columns={k: rng.permutation(v) for k, v in mixed.user_columns.items()})
    parts = {
        "two_tower": full,
        "two_tower, content off": fitted(bench, task.data, curves, "content off", **{**options, "embed": ""}),
        "two_tower, features off": fitted(bench, task.data, curves, "features off", **{**options, **FEATURES_OFF}),
        "two_tower, log_q off": fitted(bench, task.data, curves, "log_q off", **{**options, "log_q": False}),
        "two_tower, shuffled users": fitted(bench, mixed, curves, "shuffled users", **options),
    }
    rows = {name: answers_of(task, part) for name, part in parts.items()}
    items = np.array(sorted(task.count_I), np.int64)
    for peer in PEERS:
        rows[peer] = answers_of(task, bench.peer(peer, task.data))
    rows["popular"] = by_count(task, task.count_I, items)
    table(task, rows, "two_tower")
    for alone, what in ((False, "among all items"), (True, "among themselves")):
        tails = {name: tail(task, found, alone=alone) for name, found in rows.items()}
        print(f"tail items (not the fifth with the most events) {what}, recall@{K}, {len(tails['popular'])} users:")
        for name, values in tails.items():
            print(f"{name:34s} {values.mean():9.4f}  {interval(values - tails['two_tower'])}")
    strangers(task, full)


def strangers(task: Task, part: Any) -> None:
    """The same users without their histories: their columns alone, against popularity."""
    blank = [replace(r, side=replace(r.side, histories={}), skip=r.skip[:0]) for r in task.requests]
    bare = replace(task, requests=blank)
    rows = {"columns alone": answers_of(bare, part)}
    rows["popular"] = by_count(bare, task.count_I, np.array(sorted(task.count_I), np.int64))
    print("users as if they were new (what they rated before may be shown):")
    table(bare, rows, "popular")


def cold(bench: Bench, curves: dict[str, Curves], options: dict[str, Any]) -> None:
    task = bench.cold()
    assert task.allowed is not None
    full = fitted(bench, task.data, curves, "cold items", **options)
    columns = fitted(bench, task.data, curves, "cold items, content off", **{**options, "embed": ""})
    # Popularity as it was known has no count of any of them: that is chance. Not by key, which is the order in which
    # the log first named them, so that it tells of what was yet to come.
    rng = np.random.default_rng(0)
    future: dict[int, int] = {}
    for item in bench.events.item_E[(bench.span_E < 3) & bench.liked_E].tolist():
        future[item] = future.get(item, 0) + 1
    rows = {
        "two_tower": answers_of(task, full),
        "two_tower, content off": answers_of(task, columns),
        "chance, as popularity without counts": [rng.permutation(task.allowed) for _ in task.requests],
        "popularity that knows the future": by_count(task, future, task.allowed),
    }
    print(f"{len(task.allowed)} cold items, of which only the towers' columns and content are known")
    table(task, rows, "two_tower")


def speed(bench: Bench, curves: dict[str, Curves], options: dict[str, Any]) -> None:
    """Training rows a CPU second beside a bare loop over the same network and loss, its tensors in memory."""
    seen: dict[str, Any] = {}
    trained = _two_tower_fit.train

    def noted(config: Any, items: Any, events: Any, run: Any) -> Any:
        seen.update(config=config, items=items, events=events)
        return trained(config, items, events, run)

    data = bench.known().data
    for batch_size in (1024, 2048):
        more = {**options, "batch_size": batch_size, "epochs": 2, "valid_share": 0.0}
        with unittest.mock.patch.object(_two_tower_fit, "train", noted):
            bench.part(**more).fit(data)
        rates = [rate(seen["config"], seen["items"], seen["events"]) for rate in (loop_rate, bare_rate)]
        print(
            f"batch {batch_size}: {rates[0]:,.0f} rows a CPU-s, bare loop {rates[1]:,.0f}: {rates[0] / rates[1]:.2f} ×"
        )


def loop_rate(config: Any, items: Any, events: Any) -> float:
    """Rows per CPU second of the whole training, its checks included."""
    n = _two_tower_fit._samples(config, events).n_rows
    with Stopwatch() as watch:
        _two_tower_fit.train(config, items, events, Run(name="speed"))
    return float(config.epochs * n / watch.cpu_s)


def bare_rate(config: Any, items: Any, events: Any) -> float:
    torch.set_num_threads(1)
    sizes = _two_tower_fit.sizes_of(config, items, events)
    network = Towers(sizes, config.temperature, config.dropout)
    samples = _two_tower_fit._samples(config, events)
    loss = _two_tower_fit.Loss(config, network, items, events, samples)
    sparse = [m.weight for m in network.modules() if isinstance(m, torch.nn.Embedding)]
    dense = [p for p in network.parameters() if all(p is not s for s in sparse)]
    optimisers = [torch.optim.Adagrad(sparse, lr=config.table_learning_rate), torch.optim.AdamW(dense, lr=1e-3)]
    columns = samples.take(torch.arange(samples.n_rows))
    begin = cpu_s()
    for _ in range(config.epochs):
        order = torch.randperm(samples.n_rows)
        for rows in torch.split(order, config.batch_size):
            for optimiser in optimisers:
                optimiser.zero_grad()
            torch.autograd.backward(loss({name: column[rows] for name, column in columns.items()}) / len(rows))
            for optimiser in optimisers:
                optimiser.step()
    return float(config.epochs * samples.n_rows / (cpu_s() - begin))


def options_of(pairs: Sequence[str]) -> dict[str, Any]:
    return {key: json.loads(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def grid(name: str, task: Task, bench: Bench, options: dict[str, Any], tried: Sequence[str]) -> None:
    """The figure of each setting."""
    for text in tried:
        part = fitted(bench, task.data, {}, text, **{**options, **options_of(text.split())})
        print(f"{name}: {text:60s} ndcg@{K} {ndcg_of(answers_of(task, part), task.relevant).mean():.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="known,cold,speed")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--grid", nargs="*", default=[], help="try each of these, as in 'temperature=0.2 dropout=0.5'")
    parser.add_argument("--curves", type=Path, default=None, help="an SVG file of the losses by epoch")
    arguments = parser.parse_args()
    options = options_of(arguments.set)
    print(header(f"two_tower on ml-100k, validation; {options or 'as it comes'}"))
    curves: dict[str, Curves] = {}
    begin = perf_counter()
    with workspace_of("ml-100k", CHANGES) as workspace:
        bench = Bench(workspace)
        if arguments.grid:
            for name in (n for n in arguments.only.split(",") if n != "speed"):
                grid(name, bench.known() if name == "known" else bench.cold(), bench, options, arguments.grid)
            return
        for name in arguments.only.split(","):
            print(f"\n## {name}")
            {"known": known, "cold": cold, "speed": speed}[name](bench, curves, options)
    if arguments.curves is not None:
        write_curves(arguments.curves, curves)
    print(f"# {perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()

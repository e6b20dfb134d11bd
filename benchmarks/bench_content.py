"""What catalog features are worth to two_tower where many items are rare or new, on validation data: on and off.

    FEEDWELL_DATA=... python benchmarks/bench_content.py [--data industrial,toys] [--seeds 3] [--set key=value ...]

Amazon Industrial and Scientific: an item's title, its description and its maker; fitted on each user's first history of
the validation file, asked for the answer of each of its rows. Toys and Games: an item's attributes as words; fitted on
all but the last two items of each user, asked for the last but one. Both have an order and no times. Test answers are
not read. Ranked over the whole catalog but the user's history; an answer that repeats the history is left out.
Intervals: 95 %, by bootstrap over users, paired; several seeds are averaged answer by answer.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _report import ROOT, Stopwatch, header

from feedwell.core import registry
from feedwell.core.catalog import CatalogTable
from feedwell.core.needs import HistoryNeed
from feedwell.core.protocols import Interactions, Setting
from feedwell.core.request import History, Keys, Request, UserSide

DATA = Path(os.environ.get("FEEDWELL_DATA", ROOT / "../shared/data"))
K, EVENT = 20, "interaction"
PEERS = ("popular", "transitions", "item_knn", "als")
CLASSES = {"no event": (0, 1), "1 or 2": (1, 3), "3 to 9": (3, 10), "10 or more": (10, 1 << 40)}
VARIANTS: dict[str, dict[str, Any]] = {
    "two_tower": {},
    "content off": {"embed": ""},
    "features off": {"embed": "", "item_columns": []},
    "log_q off": {"log_q": False},
    "with a table for histories": {"history_table": True},
}


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is fitted on, each question's history and answer, and who asks."""

    name: str
    data: Interactions
    setting: Setting
    history_Q: list[Keys]
    answer_Q: Keys
    user_Q: Keys

    @property
    def n_items(self) -> int:
        return len(self.data.catalog["item"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="industrial,toys")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], help="keys of two_tower, their values as JSON")
    given = parser.parse_args()
    options = {key: json.loads(value) for key, _, value in (pair.partition("=") for pair in given.set)}
    print(header(f"two_tower where items are rare, validation; {options or 'as it comes'}"))
    for name in given.data.split(","):
        task = {"industrial": industrial, "toys": toys}[name]()
        count_Q = np.bincount(task.data.item_E, minlength=task.n_items)[task.answer_Q]
        print(
            f"\n## {task.name}: {len(task.data.item_E):,} events, {task.n_items:,} items, {len(task.answer_Q):,} "
            f"answers of {len(np.unique(task.user_Q)):,} users"
        )
        hits = {
            told: np.mean([hits_of(task, "two_tower", {**options, **o}, seed) for seed in range(given.seeds)], axis=0)
            for told, o in VARIANTS.items()
            if told != "content off" or task.setting.item_columns
        }
        hits |= {peer: hits_of(task, peer, {}, 0) for peer in PEERS}
        report(task, hits, count_Q)


def industrial() -> Questions:
    """Titles, descriptions and makers; rows of `user, history, answer`, several of a user."""
    folder = DATA / "industrial-text"
    csv.field_size_limit(sys.maxsize)
    about = json.loads(_only(folder, "*.item.json").read_text(encoding="utf-8"))
    with _only(folder, "valid_*.csv").open(encoding="utf-8", newline="") as lines:
        rows = [
            (r["user_id"], ast.literal_eval(r["history_item_id"]), int(r["item_id"])) for r in csv.DictReader(lines)
        ]
    items = [about[str(key)] for key in range(len(about))]
    first: dict[str, list[int]] = {}
    for user, history, _ in rows:
        first[user] = min(first.get(user, history), history, key=len)
    makers = {name: m for m, name in enumerate(sorted({i["brand"] for i in items if i["brand"]}))}
    return _questions(
        "Industrial and Scientific",
        list(first.values()),
        rows,
        [f"{i['title']} {i['description']}" for i in items],
        {"maker": np.array([makers.get(i["brand"], np.nan) for i in items])},
    )


def toys() -> Questions:
    """Attributes (categories and makers, as numbers without a name), about four an item."""
    folder = DATA / "toys-and-games"
    about = json.loads(_only(folder, "*attributes.json").read_text(encoding="utf-8"))
    lines = _only(folder, "Toys_and_Games.txt").read_text(encoding="utf-8").splitlines()
    lists = [[int(word) for word in line.split()] for line in lines]
    n = 1 + max(item for _, *items in lists for item in items)
    rows = [(str(user), items[:-2], items[-2]) for user, *items in lists]
    text = [" ".join(f"a{a}" for a in about.get(str(key), ())) for key in range(n)]
    return _questions("Toys and Games", [history for _, history, _ in rows], rows, text, {})


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        sys.exit(f"skipped: no {pattern} in {folder}; set FEEDWELL_DATA to the folder that has the data sets")
    return found[0]


def _questions(
    name: str, fitted: Sequence[list[int]], rows: Sequence[Any], text: Sequence[str], numbers: dict[str, Any]
) -> Questions:
    n, n_events = len(text), sum(map(len, fitted))
    kept = [(user, history, answer) for user, history, answer in rows if answer not in history]
    _, user_Q = np.unique([user for user, _, _ in kept], return_inverse=True)
    return Questions(
        name=name,
        data=Interactions(
            user_E=np.repeat(np.arange(len(fitted)), [len(items) for items in fitted]),
            item_E=np.array([item for items in fitted for item in items], np.int64),
            at_E=np.zeros(n_events, np.int64),
            type_E=np.zeros(n_events, np.int16),
            types=(EVENT,),
            catalog={
                "item": CatalogTable(
                    keys_M=np.arange(n), at_M=np.zeros(n, np.int64), numbers=numbers, text_M=tuple(text)
                )
            },
        ),
        setting=Setting(
            name="two_tower",
            event_types=(EVENT,),
            item_columns=tuple(numbers),
            item_text=("text",),
            categories=frozenset(f"item.{column}" for column in numbers),
        ),
        history_Q=[np.array(history, np.int64) for _, history, _ in kept],
        answer_Q=np.array([answer for _, _, answer in kept], np.int64),
        user_Q=user_Q,
    )


def hits_of(task: Questions, name: str, options: dict[str, Any], seed: int) -> Any:
    """gain_2Q: whether each answer is among the K, and 1 / log2(1 + its place)."""
    kind: Any = registry.find("source", name)
    setting = Setting(**{**vars(task.setting), "name": name, "seed": seed})
    fixed = {"live": False} if "live" in kind.Config.model_fields else {}
    part = kind(kind.Config.model_validate({"k": K, **fixed, **options}), setting)
    with Stopwatch() as watch:
        part.fit(task.data)
    curves = getattr(part, "curves", None)
    told = f", {len(curves.train)} epochs, best {curves.best}" if curves else ""
    print(f"# {name} {options or ''} seed {seed}: {watch}{told}", flush=True)
    needs = [need for need in part.needs if isinstance(need, HistoryNeed)]
    gain_2Q = np.zeros((2, len(task.answer_Q)))
    for q, found in enumerate(part.batch([_request(history, needs) for history in task.history_Q])):
        place = np.flatnonzero(found.keys_N[:K] == task.answer_Q[q])
        if len(place):
            gain_2Q[:, q] = 1.0, 1 / np.log2(2 + place[0])
    return gain_2Q


def _request(history: Keys, needs: Sequence[HistoryNeed]) -> Request:
    def last(n: int) -> History:
        keys_L = history[-n:]
        return History(keys_L=keys_L, at_L=np.zeros(len(keys_L), np.int64), type_L=np.zeros(len(keys_L), np.int16))

    side = UserSide(histories={need: last(need.n) for need in needs})
    return Request(request_id="", user_id="", user=0, t=1, n=K, skip=np.unique(history), side=side)


def report(task: Questions, hits: dict[str, Any], count_Q: Any) -> None:
    """Each row's figures and what it is above two_tower; then recall by how many events the answer has."""
    base = hits["two_tower"]
    print(f"| | recall@{K} | ndcg@{K} | minus two_tower's ndcg |\n|---|---|---|---|")
    for name, gain_2Q in hits.items():
        told = "" if gain_2Q is base else interval(gain_2Q[1] - base[1], task.user_Q)
        print(f"| {name} | {gain_2Q[0].mean():.4f} | {gain_2Q[1].mean():.4f} | {told} |")
    of_class = {told: (count_Q >= low) & (count_Q < high) for told, (low, high) in CLASSES.items()}
    heads = [f"{told} ({inside.sum():,})" for told, inside in of_class.items()]
    print(f"\nrecall@{K} by the answer's events in what is fitted\n| | {' | '.join(heads)} |\n" + "|---" * 5 + "|")
    for name, gain_2Q in hits.items():
        cells = [f"{gain_2Q[0][inside].mean():.4f}" if inside.any() else "" for inside in of_class.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def interval(value_Q: Any, user_Q: Keys) -> str:
    """The mean and its 95 %, users drawn."""
    n_U, sum_U = np.bincount(user_Q).astype(float), np.bincount(user_Q, weights=value_Q)
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(n_U), size=(2000, len(n_U)))
    low, high = np.quantile(sum_U[drawn].sum(1) / n_U[drawn].sum(1), [0.025, 0.975])
    return f"{value_Q.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


if __name__ == "__main__":
    main()

"""Parts on one core and on two: factorisation, the transition counter, slates, rankers; each beside its floor.

python benchmarks/bench_parts.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from _report import header

from feedwell.core.candidates import Candidates, Retrieved, merge
from feedwell.core.project import ObjectiveConfig
from feedwell.core.protocols import Interactions, RankingRows, Setting
from feedwell.core.registry import find
from feedwell.core.request import Request
from feedwell.core.sampler import build_slate
from feedwell.core.slate import NO_EXPLORATION, Explore

SEED = 20261121
SETTING = Setting(name="bench", event_types=("like",), objectives={"click": ObjectiveConfig(events=("like",))})


def main() -> None:
    print(header("parts: fit and call"))
    data = interactions()
    n_pairs = len(np.unique(data.user_E * 10_000 + data.item_E))
    print(f"{len(data.user_E):,} events, {n_pairs:,} distinct pairs, 6,040 users, 3,706 items, popularity by 1 / rank")
    bench_als(data, n_pairs)
    bench_transitions(data)
    bench_slates()
    bench_rankers()


def interactions(n: int = 1_500_000) -> Interactions:
    """Events whose users and items are as uneven as on MovieLens-1M; about a million distinct pairs."""
    rng = np.random.default_rng(SEED)
    users = rng.gamma(0.8, size=6040)
    items = 1 / (np.arange(3706) + 80.0)
    user_E = rng.choice(6040, n, p=users / users.sum())
    item_E = rng.choice(3706, n, p=items / items.sum())
    zeros = np.zeros(n, np.int16)
    return Interactions(user_E=user_E, item_E=item_E, at_E=np.arange(n), type_E=zeros, types=("like",), until=n)


def bench_als(data: Interactions, n_pairs: int) -> None:
    als: Any = find("source", "als")
    one, three = (seconds(partial(als(als.Config(epochs=epochs), SETTING).fit, data), 1) for epochs in (1, 3))
    an_epoch = (three - one) / 2
    # The floor: the products h hᵀ of both sides, as one matrix product each, without a solve.
    x = np.random.default_rng(SEED).normal(size=(n_pairs, 64)).astype(np.float32)
    floor = 2 * seconds(lambda: x.T @ x, 3)
    print(f"als, D = 64: {an_epoch:.2f} s an epoch; one Gram product per side {floor:.3f} s: {an_epoch / floor:.1f} x")


def bench_transitions(data: Interactions) -> None:
    part: Any = find("source", "transitions")
    floor = seconds(lambda: np.argsort(data.user_E, kind="stable"), 3)
    fit_s = seconds(lambda: part(part.Config(), SETTING).fit(data), 1)
    print(f"transitions, window 3: fit {fit_s:.2f} s; sorting the events by user {floor:.3f} s: {fit_s / floor:.1f} x")


def bench_slates() -> None:
    rows = candidates(500)
    floor = seconds(lambda: np.argsort(-rows.value_N)[:30], 200)
    request, explore = Request(request_id="", user_id="", t=0, n=30), Explore(first=3, last=10)
    kinds: tuple[tuple[str, dict[str, Any], Explore], ...] = (
        ("top_k", {}, NO_EXPLORATION),
        ("dpp", {}, NO_EXPLORATION),
        ("dpp", {"cap": {"per_group": 2}}, explore),
    )
    for kind, config, how in kinds:
        part: Any = find("slate", kind)
        made, rng = part(part.Config(**config), SETTING), np.random.default_rng(SEED)

        def build(made: Any = made, rng: np.random.Generator = rng, how: Explore = how) -> object:
            return build_slate(made.begin(request, rows), rows.keys_N, 30, rng, how)

        took = seconds(build, 200)
        print(f"{kind} 500 -> 30 {config} explore {how.covers(3)}: {took * 1e3:.2f} ms; argsort {floor * 1e3:.3f} ms")


def bench_rankers() -> None:
    rng = np.random.default_rng(SEED)
    x_NF = rng.normal(size=(50_000, 60)).astype(np.float32)
    y_N = (rng.random(50_000) < 1 / (1 + np.exp(-x_NF[:, 0] * x_NF[:, 1]))).astype(np.float64)
    rows = RankingRows(
        features_NF=x_NF,
        feature_names=tuple(f"f{i}" for i in range(60)),
        labels={"click": y_N},
        group_N=np.arange(50_000),
        weight_N=np.ones(50_000),
        valid_N=np.zeros(50_000, np.bool_),
    )
    asked = rows.take(np.arange(500))
    for kind in ("logistic", "xgboost"):
        part: Any = find("scorer", kind)
        made = part(part.Config(), SETTING)
        fit_s = seconds(partial(made.fit, rows), 1)
        call_ms = seconds(partial(made.predict, asked), 200) * 1e3
        print(f"{kind}: fit 50,000 x 60 {fit_s:.1f} s; predict 500 x 60 {call_ms:.2f} ms, one thread")


def candidates(n: int) -> Candidates:
    rng = np.random.default_rng(SEED)
    rows = merge([("one", Retrieved(keys_N=rng.permutation(n), scores_N=np.zeros(n)))])
    return rows.with_columns(value_N=rng.normal(size=n), group_N=rng.integers(0, 40, n))


def seconds(work: Callable[[], object], times: int) -> float:
    """The median of the wall-clock times."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return float(np.median(took))


if __name__ == "__main__":
    main()

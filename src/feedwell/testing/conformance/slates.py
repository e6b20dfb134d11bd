"""What holds of slate policies."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from feedwell.core.needs import ColumnNeed
from feedwell.core.sampler import build_slate
from feedwell.core.slate import Explore
from feedwell.testing import sample
from feedwell.testing.conformance._tried import SEEDS, ensure, made_of


def _builds_distinct_slates(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    for seed, explore in itertools.product(SEEDS, (Explore(), Explore(last=5, pool=4))):
        rows, request = sample.candidates(seed), sample.request(made.needs, seed)
        rows = rows.dropped(np.arange(len(rows)) % 6 == 0, "a test")
        built = [
            build_slate(made.begin(request, rows), rows.keys_N, 10, np.random.default_rng(seed), explore) for _ in "ab"
        ]
        ensure(built[0].rows_n.tolist() == built[1].rows_n.tolist(), "one seed, two slates")
        ensure(len(np.unique(built[0].rows_n)) == len(built[0].rows_n), "a row is chosen twice")
        ensure(bool(rows.alive_N[built[0].rows_n].all()), "a dropped row is chosen")
        ensure(bool(((built[0].propensity_n > 0) & (built[0].propensity_n <= 1)).all()), "a propensity outside (0, 1]")


def _ignores_the_order_of_candidates(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    for seed, explore in itertools.product(SEEDS, (Explore(), Explore(last=5, pool=4))):
        rows, request = sample.candidates(seed), sample.request(made.needs, seed)
        chosen = []
        for order in (np.arange(len(rows)), np.random.default_rng(seed).permutation(len(rows))):
            moved = rows.take(order)
            step = made.begin(request, moved)
            slate = build_slate(step, moved.keys_N, 8, np.random.default_rng(seed), explore)
            chosen.append(moved.keys_N[slate.rows_n].tolist())
        ensure(chosen[0] == chosen[1], f"the order of the candidates changes the slate: {chosen}")


def _utilities_are_a_function_of_the_prefix(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    rows, request = sample.candidates(1), sample.request(made.needs, 1)
    step = made.begin(request, rows)
    for _ in range(5):
        u_N = step.utilities()
        ensure(u_N.shape == (len(rows),), "one utility per candidate")
        ensure(np.array_equal(u_N, step.utilities(), equal_nan=True), "asked twice, the utilities differ")
        row = int(np.flatnonzero(np.isfinite(u_N))[0])
        step.choose(row)
        ensure(step.utilities()[row] == -np.inf, "a chosen candidate is still feasible")


def _fills_unscored_in_retrieval_order(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    rows = sample.candidates(1)
    rows = rows.with_columns(value_N=np.full(len(rows), np.nan), group_N=np.full(len(rows), -1))
    if any(need for need in made.needs if isinstance(need, ColumnNeed) and need.column not in ("created_at",)):
        return
    slate = build_slate(made.begin(sample.request(()), rows), rows.keys_N, 5, np.random.default_rng(1), Explore(last=5))
    ensure(slate.rows_n.tolist() == [0, 1, 2, 3, 4] and slate.unscored, "unscored rows are not in retrieval order")


def _ends_short_on_nothing(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    rows = sample.candidates(1, n=0)
    slate = build_slate(made.begin(sample.request(()), rows), rows.keys_N, 5, np.random.default_rng(1))
    ensure(not len(slate.rows_n) and bool(slate.short), "no candidates, but a slate, or no word why it is short")


CHECKS = [
    _builds_distinct_slates,
    _ignores_the_order_of_candidates,
    _utilities_are_a_function_of_the_prefix,
    _fills_unscored_in_retrieval_order,
    _ends_short_on_nothing,
]

"""What holds of sources."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from feedwell.core.candidates import Retrieved
from feedwell.core.keys import avoided, contains, union
from feedwell.core.protocols import learns
from feedwell.testing import sample
from feedwell.testing.conformance._tried import SEEDS, answer, ensure, ensure_same, made_of, trained


def _retrieves_distinct_known_keys_best_first(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    for seed, width in itertools.product(SEEDS, (1.0, 0.3, 1e-9)):
        request = sample.request(made.needs, seed, width=width)
        got: Retrieved = made(request)
        ensure(got.keys_N.dtype == np.int64 and got.scores_N.dtype == np.float64, "keys are int64, scores float64")
        ensure(len(got.keys_N) == len(got.scores_N), "as many scores as keys")
        ensure(len(np.unique(got.keys_N)) == len(got.keys_N), "a key comes twice")
        live = () if learns(made) else (h.keys_L for h in request.side.histories.values())
        known = union(sample.KEYS, *live)
        ensure(bool(contains(known, got.keys_N).all()), "a key that is neither in the catalog nor in a live history")
        ensure(not contains(avoided(request), got.keys_N).any(), "k is spent on what will be dropped")
        scored = got.scores_N[~np.isnan(got.scores_N)]
        ensure(bool((np.diff(scored) <= 0).all()), "not best first")
        k = made.config.k
        ensure(len(got.keys_N) <= max(1, np.ceil(k * width)), f"{len(got.keys_N)} keys at k = {k}, width {width}")


def _serves_a_stranger(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    got = made(sample.stranger())
    ensure(len(got.keys_N) == len(got.scores_N) <= made.config.k, "a stranger's list is malformed")


def _serves_one_whose_items_are_unknown(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    request = sample.request(made.needs, 1)
    histories = {
        need: replace(h, keys_L=np.resize(sample.UNKNOWN, len(h.keys_L))) for need, h in request.side.histories.items()
    }
    made(replace(request, side=replace(request.side, histories=histories)))


def _learns_from_nothing(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    if not learns(made):
        return
    made.fit(sample.interactions(n=0))
    ensure(len(answer(made, 1).keys_N) == 0, "fitted on no event, it retrieves something")
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder))
        made_of(part, options).load(Path(folder))


def _batch_equals_call(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    if not hasattr(made, "batch"):
        return
    requests = [sample.stranger(), *(sample.request(made.needs, seed) for seed in range(40)), sample.stranger()]
    together = made.batch(requests)
    ensure(len(together) == len(requests), "batch answers another number of requests")
    for request, got in zip(requests, together, strict=True):
        ensure_same(got, made(request), "in a batch and alone")
    ensure(list(made.batch([])) == [], "an empty batch has no answers")


CHECKS = [
    _retrieves_distinct_known_keys_best_first,
    _serves_a_stranger,
    _serves_one_whose_items_are_unknown,
    _learns_from_nothing,
    _batch_equals_call,
]

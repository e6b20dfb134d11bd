"""What holds of filters and scorers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from feedwell.core.keys import contains
from feedwell.core.protocols import learns
from feedwell.testing import sample
from feedwell.testing.conformance._tried import SEEDS, ensure, made_of, near, trained


def _permutes_with_the_candidates(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    for seed in SEEDS:
        rows, request = sample.candidates(seed, needs=made.needs), sample.request(made.needs, seed)
        order = np.random.default_rng(seed).permutation(len(rows))
        before, after = made(request, rows), made(request, rows.take(order))
        if isinstance(before, np.ndarray):
            before, after = {"": before}, {"": after}
        for name, column in before.items():
            message = f"column '{name}' does not follow the order of the candidates"
            ensure(near(column[order], after[name]), message)


def _takes_no_candidates(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    got = made(sample.request(made.needs), sample.candidates(1, n=0, needs=made.needs))
    for column in got.values() if isinstance(got, Mapping) else [got]:
        ensure(column.shape == (0,), "no candidates, but a column with rows")


def _keeps_by_a_mask(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    for seed in SEEDS:
        rows, request = sample.candidates(seed, needs=made.needs), sample.request(made.needs, seed)
        keep_N = made(request, rows)
        ensure(keep_N.dtype == np.bool_ and keep_N.shape == (len(rows),), "a filter returns a bool per candidate")
        if hasattr(made, "skips"):
            skips = made.skips(request)
            ensure(bool((np.diff(skips) > 0).all()), "skips are not sorted and distinct")
            ensure(not keep_N[contains(skips, rows.keys_N)].any(), "it keeps what `skips` says it would drop")
    made(sample.stranger(), sample.candidates(1, needs=made.needs))


def _scores_as_columns(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    for seed in SEEDS:
        rows = sample.candidates(seed, needs=made.needs)
        for request in (sample.request(made.needs, seed), sample.stranger()):
            got = made(request, rows)
            ensure(len(got) > 0, "no column")
            for name, column in got.items():
                good = column.dtype == np.float64 and column.shape == (len(rows),)
                ensure(good, f"column '{name}' is not float64 with a row per candidate")
                ensure(not np.isinf(column).any(), f"column '{name}' holds an infinity")


def _fits_where_nothing_varies(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    if not learns(made):
        return
    rows = sample.ranking_rows(made.needs)
    flat = replace(
        rows,
        features_NF=np.full_like(rows.features_NF, np.nan),
        labels={name: np.zeros_like(y) if name == "hide" else np.ones_like(y) for name, y in rows.labels.items()},
    )
    made.fit(flat)
    for name, column in made(sample.request(made.needs), sample.candidates(1, needs=made.needs)).items():
        ensure(bool(np.isfinite(column).all()), f"column '{name}' is not a number though every label was alike")


def _predicts_what_it_serves(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    if not hasattr(made, "predict"):
        return
    for seed in SEEDS:
        request, rows = sample.request(made.needs, seed), sample.candidates(seed, needs=made.needs)
        served, predicted = made(request, rows), made.predict(sample.rows_of(request, rows))
        ensure(list(served) == list(predicted), "`predict` has other columns than a call")
        for name, column in served.items():
            same = np.allclose(column, predicted[name], rtol=1e-4, atol=1e-6, equal_nan=True)
            ensure(same, f"column '{name}': `predict` on a request's rows is not what the request is given")


FILTER_CHECKS = [
    _keeps_by_a_mask,
    _permutes_with_the_candidates,
    _takes_no_candidates,
]
SCORER_CHECKS = [
    _scores_as_columns,
    _permutes_with_the_candidates,
    _takes_no_candidates,
    _fits_where_nothing_varies,
    _predicts_what_it_serves,
]

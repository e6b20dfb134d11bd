"""Ranking metrics against a slow, obvious reading of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedwell.metrics import Lists
from feedwell.metrics.ranking import NAMES, Ranking, ranking_values

lists = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.lists(st.integers(0, 12), unique=True, max_size=8),
        st.lists(st.integers(0, 12), max_size=6),
    ),
    min_size=1,
    max_size=12,
)


def slow(ranked: list[int], relevant: list[int], k: int) -> dict[str, float]:
    right = set(relevant)
    if not right:
        return dict.fromkeys(NAMES, math.nan)
    top = ranked[:k]
    slots = [i + 1 for i, key in enumerate(top) if key in right]
    ideal = sum(1 / math.log2(1 + s) for s in range(1, min(len(right), k) + 1))
    return {
        "recall": len(slots) / len(right),
        "ndcg": sum(1 / math.log2(1 + s) for s in slots) / ideal,
        "mrr": 1 / slots[0] if slots else 0.0,
        "hit_rate": float(bool(slots)),
    }


@given(lists, st.integers(1, 10))
@settings(max_examples=200, deadline=None)
def test_equals_the_definition(rows, k):
    units, ranked, relevant = zip(*rows, strict=True)
    got = ranking_values(Lists.of(units, ranked, relevant, k), k)
    want = [[slow(r, y, k)[name] for name in NAMES] for r, y in zip(ranked, relevant, strict=True)]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert np.nanmin(np.append(got, 0)) >= 0
    assert np.nanmax(np.append(got, 0)) <= 1 + 1e-12


def test_a_perfect_list_scores_one():
    values = ranking_values(Lists.of([0], [[4, 2]], [[2, 4]], 2), 2)
    np.testing.assert_allclose(values, 1)


def test_requests_without_a_relevant_item_are_not_counted():
    stats = Ranking()(Lists.of([0, 1], [[1], [1]], [[1], []], 10), bootstrap=50)
    assert stats.value("recall") == 1
    assert stats.interval("recall").n_units == 1


def test_short_lists_never_hit_a_missing_slot():
    lists = Lists.of([0], [[]], [[0]], 3)
    assert not lists.hits_RK(3).any()


@given(lists)
@settings(max_examples=50, deadline=None)
def test_taking_requests_keeps_their_relevant_items(rows):
    units, ranked, relevant = zip(*rows, strict=True)
    whole = Lists.of(units, ranked, relevant, 5)
    keep = np.arange(len(rows)) % 2 == 0
    np.testing.assert_array_equal(ranking_values(whole.take(keep), 5), ranking_values(whole, 5)[keep])


def test_registered_under_its_file_name():
    from feedwell.core.registry import find, names

    assert find("metric", "ranking") is Ranking
    assert names("metric", ()) == ["beyond_accuracy", "calibration", "exposure", "quantity", "ranking"]
    with pytest.raises(ValueError):
        Ranking.Config(k=0)

"""Coverage, Gini, diversity and exposure against plain loops."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedwell.core.errors import UsageError
from feedwell.metrics import Lists
from feedwell.metrics.beyond_accuracy import BeyondAccuracy, Shown, diversity_values
from feedwell.metrics.exposure import Exposure


@given(
    st.lists(st.lists(st.integers(0, 7), unique=True, max_size=5), min_size=1, max_size=6),
    st.lists(st.integers(-1, 2), min_size=8, max_size=8),
)
@settings(max_examples=150, deadline=None)
def test_diversity_counts_pairs(ranked, groups):
    lists = Lists.of(range(len(ranked)), ranked, [[]] * len(ranked), 5)
    got = diversity_values(lists.ranked_RK, np.array(groups))
    for keys, value in zip(ranked, got, strict=True):
        pairs = [groups[a] != groups[b] or groups[a] < 0 for a, b in combinations(keys, 2)]
        assert value == pytest.approx(np.mean(pairs)) if pairs else np.isnan(value)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_gini_is_the_mean_absolute_difference(keys):
    shown = Shown.of(np.array([keys]), np.arange(10))
    count = np.bincount(keys, minlength=10)
    assert shown.gini == pytest.approx(np.abs(count[:, None] - count[None, :]).mean() / (2 * count.mean()))
    assert shown.coverage == len(set(keys)) / 10


def test_items_outside_the_catalog_and_parts():
    parts = [Shown.of(np.array([[1, 5, -1]]), np.array([1, 2, 3])), Shown.of(np.array([[2, 1]]), np.array([1, 2, 3]))]
    assert parts[0].merge(parts[1]).count_I.tolist() == [2, 1, 0]
    with pytest.raises(UsageError):
        parts[0].merge(Shown.of(np.array([[1]]), np.array([1])))
    assert np.isnan(Shown.of(np.empty((0, 3), np.int64), np.array([1])).gini)
    assert np.isnan(Shown.of(np.empty((0, 3), np.int64), np.empty(0, np.int64)).coverage)


def test_diversity_of_no_catalog_groups():
    stats = BeyondAccuracy()(Lists.of([0], [[1, 2]], [[1]], 10), np.empty(0, np.int64), bootstrap=20)
    assert np.isnan(stats.value("diversity"))


def test_exposure_is_discounted_by_slot_and_compared_with_merit():
    group = np.array([0, 0, 1])
    lists = Lists.of([0, 1], [[0, 2], [1, 2]], [[0], [2]], 2)
    found = Exposure()(lists, group, 2)
    second = 1 / np.log2(3)
    np.testing.assert_allclose(found.share_G, np.array([1, second]) / (1 + second))
    assert found.distance == pytest.approx(1 / (1 + second) - 0.5)
    np.testing.assert_allclose(found.merge(found).share_G, found.share_G)

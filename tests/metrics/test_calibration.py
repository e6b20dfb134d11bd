"""Log loss, AUC and ECE against pairwise definitions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from feedwell.metrics.calibration import Calibration, Histogram, Reliability, auc, auc_interval, grouped_auc

rows = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0]), st.sampled_from([0.1, 0.25, 0.5, 0.9])),
    min_size=1,
    max_size=25,
)


def slow_auc(y, p):
    pairs = [
        (a > b) + (a == b) / 2 for a, ya in zip(p, y, strict=True) if ya for b, yb in zip(p, y, strict=True) if not yb
    ]
    return np.mean(pairs) if pairs else np.nan


@given(rows)
@settings(max_examples=150, deadline=None)
def test_auc_counts_pairs(data):
    group, y, p = (np.array(c) for c in zip(*data, strict=True))
    np.testing.assert_allclose(auc(y, p), slow_auc(y, p))
    first, got, positives = grouped_auc(group, y, p)
    want = {g: slow_auc(y[group == g], p[group == g]) for g in np.unique(group)}
    want = {g: v for g, v in want.items() if not np.isnan(v)}
    np.testing.assert_allclose(got, [want[g] for g in sorted(want)])
    assert group[first].tolist() == sorted(want)
    assert positives.tolist() == [y[group == g].sum() for g in sorted(want)]


def test_agrees_with_scikit_learn_also_weighted():
    rng = np.random.default_rng(0)
    p = rng.random(500)
    y = (rng.random(500) < p).astype(float)
    w = rng.integers(0, 4, 500).astype(float)
    assert auc(y, p) == pytest.approx(roc_auc_score(y, p))
    assert auc(y, p, w) == pytest.approx(roc_auc_score(y, p, sample_weight=w))
    stats = Calibration()(np.arange(500), np.zeros(500, np.int64), y, p, bootstrap=20)
    assert stats.value("log_loss") == pytest.approx(log_loss(y, p))
    assert stats.value("grouped_auc") == pytest.approx(auc(y, p))


def test_open_windows_are_left_out():
    y, p = np.array([1.0, 0.0, np.nan]), np.array([0.8, 0.2, 0.9])
    stats = Calibration()(np.arange(3), np.zeros(3, np.int64), y, p, bootstrap=20)
    assert stats.den_M[0] == 2
    assert auc_interval(np.arange(3), y, p, bootstrap=20).value == 1


def test_one_class_has_no_auc():
    assert np.isnan(auc(np.ones(4), np.arange(4.0)))
    assert np.isnan(auc(np.empty(0), np.empty(0)))
    assert len(grouped_auc(np.empty(0, np.int64), np.empty(0), np.empty(0))[1]) == 0


def test_auc_interval_moves_users_whole():
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 100).astype(float), rng.random(100)
    by_row = auc_interval(np.arange(900), np.tile(y, 9), np.tile(p, 9), bootstrap=150)
    by_user = auc_interval(np.tile(np.arange(100), 9), np.tile(y, 9), np.tile(p, 9), bootstrap=150)
    assert by_user.value == by_row.value
    assert by_user.high - by_user.low > 2 * (by_row.high - by_row.low)


def test_histograms_merge_and_approach_the_exact_auc():
    rng = np.random.default_rng(4)
    p = rng.random(4_000)
    y = (rng.random(4_000) < p).astype(float)
    parts = [Histogram.of(y[s], p[s], 500) for s in (slice(0, 1_000), slice(1_000, None))]
    merged, whole = parts[0].merge(parts[1]), Histogram.of(y, p, 500)
    assert merged.ece == pytest.approx(whole.ece)
    assert merged.auc == pytest.approx(auc(y, p), abs=2e-3)
    assert Histogram.of(y, p, 10).ece < 0.03 < Histogram.of(y, p**3, 10).ece


def test_reliability_has_bins_of_equal_mass_and_keeps_ties_together():
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 20, 20_000)
    y = (rng.random(20_000) < p).astype(float)
    found = Reliability.of(y, p, bins=10)
    assert found.n_B.tolist() == pytest.approx([2000] * 10, rel=0.01)
    assert (np.diff(found.p_B) > 0).all()
    assert found.n_B @ found.y_B == pytest.approx(y.sum())
    assert found.ece < 0.005 < 0.02 < Reliability.of(y, np.sqrt(p)).ece
    assert len(Reliability.of(y, np.full(20_000, 0.5), bins=10).n_B) == 1
    assert np.isnan(Reliability.of(np.full(3, np.nan), np.ones(3)).ece)


def test_reliability_weighs_rows_by_what_they_stand_for():
    p, y = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0])
    times = np.array([3, 1, 2, 0])
    one = Reliability.of(y, p, times.astype(float), bins=2)
    other = Reliability.of(np.repeat(y, times), np.repeat(p, times), bins=2)
    assert one.p_B.tolist() == pytest.approx(other.p_B.tolist())
    assert one.ece == pytest.approx(other.ece)

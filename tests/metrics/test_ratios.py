"""The bootstrap: weights are Poisson, merge is addition, intervals cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedwell.core.errors import UsageError
from feedwell.metrics import Interval, Ratios, difference, poisson_weights, smallest_detectable


def test_weights_have_the_moments_of_poisson_1_and_are_independent():
    w = poisson_weights(np.arange(2_000), np.arange(500), seed=3)
    assert abs(w.mean() - 1) < 0.01
    assert abs(w.var() - 1) < 0.01
    assert abs(np.corrcoef(w[:, 0], w[:, 1])[0, 1]) < 0.2
    assert abs(np.corrcoef(w[0], w[1])[0, 1]) < 0.1
    shares = np.bincount(w.astype(int).ravel())[:4] / w.size
    np.testing.assert_allclose(shares, [0.3679, 0.3679, 0.1839, 0.0613], atol=0.003)


def test_weights_depend_on_unit_replicate_and_seed_alone():
    units = np.array([7, -1, 2**62])
    whole = poisson_weights(units, [0, 5], seed=1)
    assert np.array_equal(whole[1:, 1:2], poisson_weights(units[1:2], [5], seed=1))
    assert not np.array_equal(poisson_weights(np.arange(99), [0], 1), poisson_weights(np.arange(99), [0], 2))


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1) | st.just(float("nan"))), min_size=2, max_size=20))
@settings(max_examples=60, deadline=None)
def test_parts_add_up_to_the_whole(rows):
    unit, value = np.array([u for u, _ in rows]), np.array([[v] for _, v in rows])
    half = unit < 3
    whole = Ratios.of(["m"], unit, value, bootstrap=30)
    parts = [Ratios.of(["m"], unit[s], value[s], bootstrap=30) for s in (half, ~half)]
    merged = parts[0].merge(parts[1])
    np.testing.assert_allclose(merged.num_BM, whole.num_BM)
    np.testing.assert_allclose(merged.replicates("m"), whole.replicates("m"))
    assert merged.interval("m").n_units == whole.interval("m").n_units
    assert np.isnan(whole.value("m")) or whole.value("m") == pytest.approx(np.nanmean(value))


def test_intervals_cover_the_truth_with_correlated_rows():
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        mean_of_user = rng.normal(0, 1, 60)
        unit = np.repeat(np.arange(60), 8)
        value = mean_of_user[unit] + rng.normal(0, 0.5, 480)
        found = Ratios.of(["m"], unit, value[:, None], bootstrap=300, seed=trial).interval("m")
        covered += found.low <= 0 <= found.high
    assert 0.90 <= covered / 200 <= 0.99  # rows taken as independent would cover about 0.5


def test_a_paired_difference_is_narrower_than_the_parts():
    rng = np.random.default_rng(2)
    unit, base = np.arange(400), rng.normal(0, 1, 400)
    ours = Ratios.of(["m"], unit, (base + 0.05 + rng.normal(0, 0.1, 400))[:, None], bootstrap=400)
    theirs = Ratios.of(["m"], unit, base[:, None], bootstrap=400)
    gap = difference(ours, theirs, "m")
    assert gap.low > 0
    assert gap.high - gap.low < 0.3 * (ours.interval("m").high - ours.interval("m").low)
    assert 0.005 < smallest_detectable(ours, theirs, "m") < 0.03


def test_a_difference_over_other_requests_is_refused():
    a = Ratios.of(["m"], np.arange(5), np.ones((5, 1)), bootstrap=30)
    b = Ratios.of(["m"], np.arange(6), np.ones((6, 1)), bootstrap=30)
    with pytest.raises(UsageError, match="same requests"):
        difference(a, b, "m")


def test_one_user_has_no_interval_and_the_text_says_so():
    one = Ratios.of(["m"], np.zeros(9, np.int64), np.ones((9, 1)), bootstrap=100)
    found = one.interval("m")
    assert found.value == 1
    assert np.isnan(found.low)
    assert found.to_dict()["low"] is None
    assert str(found) == "1.0000, interval not known: one user"
    assert found.signed() == "+1.0000, interval not known: one user"
    assert np.isnan(smallest_detectable(one, one, "m"))


def test_an_interval_reads_with_its_bounds_where_they_are_known_and_with_the_reason_where_not():
    found = Interval(value=-0.25, low=-0.5, high=0.125, n_units=7)
    assert str(found) == "-0.2500 [-0.5000, 0.1250]"
    assert found.signed() == "-0.2500 [-0.5000, +0.1250]"
    nan = float("nan")
    assert str(replace(found, low=nan, high=nan)) == "-0.2500, interval not known: too few replicates"
    assert str(Interval(value=nan, low=nan, high=nan, n_units=0)) == "not known: no user"

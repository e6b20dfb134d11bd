"""Amounts: each value against a plain formula, and parts that merge to the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_poisson_deviance

from feedwell.metrics.quantity import NAMES, Quantity, rank_correlations, root


def sample(n=400, users=20, seed=3):
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, n)
    y = rng.poisson(1.5, n).astype(float)
    return user, y, np.round(y + rng.normal(0, 1, n) ** 2 + 0.1, 1)


def test_values_are_those_of_the_formulas():
    user, y, m = sample()
    weight = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    found = Quantity()(user, user, y, m, weight_N=weight, bootstrap=50)
    assert found.value("poisson_deviance") == pytest.approx(mean_poisson_deviance(y, m, sample_weight=weight))
    assert found.value("absolute_error") == pytest.approx(np.average(np.abs(y - m), weights=weight))
    rmse = root(found.interval("squared_error"))
    assert rmse.value == pytest.approx(np.sqrt(np.average((y - m) ** 2, weights=weight)))
    assert rmse.low < rmse.value < rmse.high
    each = [(spearmanr(y[user == u], m[user == u]).statistic, (user == u).sum()) for u in np.unique(user)]
    rho, n = zip(*each, strict=True)
    assert found.value("rank_correlation") == pytest.approx(np.average(rho, weights=n))


def test_a_constant_ranks_nothing_and_groups_without_variety_say_nothing():
    group = np.array([0, 0, 0, 1, 1, 2])
    first, rho, n = rank_correlations(group, np.array([1.0, 2, 3, 5, 5, 1]), np.ones(6))
    assert (first.tolist(), rho.tolist(), n.tolist()) == ([0], [0.0], [3.0])


def test_what_lies_below_zero_has_no_deviance_but_has_errors():
    found = Quantity()(np.arange(3), np.zeros(3, int), np.array([-1.0, 2, np.nan]), np.array([1.0, 2, 3]), bootstrap=20)
    assert found.value("poisson_deviance") == 0
    assert found.value("absolute_error") == 1


def test_nothing_to_judge_is_nan():
    empty = np.empty(0)
    found = Quantity()(empty.astype(int), empty.astype(int), empty, empty, bootstrap=20)
    assert all(np.isnan(found.value(name)) for name in NAMES)


def test_parts_merge_to_the_whole():
    user, y, m = sample()
    whole = Quantity()(user, user, y, m, bootstrap=30)
    parts = [Quantity()(user[k], user[k], y[k], m[k], bootstrap=30) for k in (user < 7, user >= 7)]
    merged = parts[0].merge(parts[1])
    for name in NAMES:
        assert merged.value(name) == pytest.approx(whole.value(name))
        np.testing.assert_allclose(merged.replicates(name), whole.replicates(name))

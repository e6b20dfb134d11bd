"""What is said about a difference, whether scores moved, and when a gate says no."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feedwell.core.project import GatesSection, Project
from feedwell.metrics import Ratios
from feedwell.training.compare import differences, score_shift, statements
from feedwell.training.gates import Refit, compare_walks, refit_gates
from feedwell.training.metric_set import MetricSet
from feedwell.training.parts import Parts
from feedwell.training.report import ScoreShift
from feedwell.training.walk import PIPELINE, Walked

PROJECT = Project.model_validate({"project": {"name": "p"}})


def ratios(values):
    value = np.stack([values] * 4, axis=1)
    return Ratios.of(("recall", "ndcg", "mrr", "hit_rate"), np.arange(len(values)), value, bootstrap=300)


def test_only_what_is_not_won_is_said_and_in_plain_words():
    rng = np.random.default_rng(0)
    base = rng.random(300)
    found = {"pipeline": ratios(base), "better": ratios(base + 0.1), "same": ratios(base + rng.normal(0, 0.2, 300)),
             "worse": ratios(base - 0.1 - rng.random(300) * 0.01)}  # fmt: skip
    said = statements(
        [d for d in differences("pipeline", found, ["better", "same", "worse"], 10) if d.metric == "ndcg@10"]
    )
    assert len(said) == 2
    assert said[0].startswith("pipeline is worse than better on ndcg@10: difference -0.1000")
    assert said[1].startswith("pipeline does not beat same on ndcg@10")
    assert "would have been seen" in said[1]


def test_scores_that_stay_in_order_and_level_have_not_moved():
    rng = np.random.default_rng(1)
    before = rng.uniform(0.01, 0.2, 4_000)
    same = score_shift(before, before)
    assert (same.rank_correlation, same.mean_ratio) == (pytest.approx(1), pytest.approx(1))
    doubled = score_shift(before, 2 * before)
    assert (doubled.rank_correlation, doubled.mean_ratio) == (pytest.approx(1), pytest.approx(2))
    assert score_shift(2 * before, before) == doubled
    assert abs(score_shift(before, rng.permutation(before)).rank_correlation) < 0.05
    assert score_shift(before, -before).rank_correlation == pytest.approx(-1)
    assert doubled.within(0.5, 3)
    assert not doubled.within(0.5, 1.9)
    assert not score_shift(before, rng.permutation(before)).within(0.5, 3)


def test_a_head_that_became_constant_has_no_order_any_more():
    before = np.linspace(0.01, 0.2, 50)
    assert score_shift(before, np.full(50, 0.1)).rank_correlation == 0
    constant = score_shift(np.full(50, 0.1), np.full(50, 0.9))
    assert (constant.rank_correlation, constant.mean_ratio) == (1, pytest.approx(9))


def test_a_level_that_is_not_above_zero_is_told_in_deviations():
    before = np.array([-1.0, 1.0])
    assert score_shift(before, before + 3).mean_ratio == pytest.approx(4)


def test_nothing_to_compare_is_nan_and_within_no_bound():
    for other in (np.empty(0), np.full(3, np.nan)):
        shift = score_shift(np.full(len(other), 0.5), other)
        assert not shift.measured
        assert not shift.within(-1, 1e9)


NOT_MEASURED = ScoreShift(rank_correlation=float("nan"), mean_ratio=float("nan"))
STAYED = ScoreShift(rank_correlation=0.9, mean_ratio=1.1)


@pytest.mark.parametrize("shift", [{}, {"buy": STAYED}, {"buy": STAYED, "like": NOT_MEASURED}])
def test_an_objective_without_scores_to_compare_is_a_no(shift):
    refit = Refit(parts=Parts(project=PROJECT, features=None, fitted={}, cost={}), n_rows=10,
                  positives={"buy": 3, "like": 2}, shift=shift)  # fmt: skip
    gate = refit_gates(PROJECT, refit)[1]
    assert not gate.passed
    assert "to compare: " + ("like" if shift else "buy, like") in gate.why
    assert refit_gates(PROJECT, replace(refit, shift={"buy": STAYED, "like": STAYED}))[1].passed


def judged(ours, theirs, margin):
    return compare_walks(ours, theirs, GatesSection(margin=margin), MetricSet(k=5), 200)


def walked(hit_share, n=200, seed=0):
    rng = np.random.default_rng(seed)
    made = Walked(k=5, user_R=list(range(n)), t_R=[1] * n, relevant=[np.array([1])] * n)
    for hit in rng.random(n) < hit_share:
        made.add(PIPELINE, "pipeline", np.array([1 if hit else 2]))
    return made


@pytest.mark.parametrize(
    ("ours", "theirs", "margin", "passes"),
    [(0.8, 0.3, 0.0, True), (0.3, 0.8, 0.0, False), (0.5, 0.52, 0.2, True), (0.5, 0.52, 0.0, False)],
)
def test_the_lower_bound_decides(ours, theirs, margin, passes):
    gate = judged(walked(ours), walked(theirs, seed=1), margin)
    assert gate.passed is passes
    assert "200 users" in gate.why


def test_only_what_is_relevant_to_both_counts():
    ours, theirs = walked(1.0), walked(1.0)
    theirs.relevant = [np.array([1, 2, 3])] * 200
    assert "+0.0000 [+0.0000, +0.0000]" in judged(ours, theirs, 0.0).why
    swapped = judged(theirs, ours, 0.0)
    assert "+0.0000 [+0.0000, +0.0000]" in swapped.why


def test_other_requests_are_no_comparison():
    assert not judged(walked(0.9), walked(0.1, n=100), 0.5).passed


def test_where_there_is_one_user_the_interval_is_said_to_be_unknown():
    gate = judged(walked(1.0, n=1), walked(0.0, n=1), 1.0)
    assert not gate.passed
    assert gate.why.startswith("ndcg@5 minus the champion's: +1.0000, interval not known: one user; the lower bound")
    found = {"pipeline": ratios(np.ones(1)), "other": ratios(np.zeros(1))}
    said = statements([d for d in differences("pipeline", found, ["other"], 10) if d.metric == "ndcg@10"])
    assert said == ("pipeline does not beat other on ndcg@10: difference +1.0000, interval not known: one user",)

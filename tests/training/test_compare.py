"""What is said about a difference, whether scores moved, and when a gate says no."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feedwell.core.project import GatesSection, Project
from feedwell.metrics import Ratios
from feedwell.training.compare import differences, psi, statements
from feedwell.training.gates import Refit, compare_walks, refit_gates
from feedwell.training.metric_set import MetricSet
from feedwell.training.parts import Parts
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


def test_psi_is_zero_for_equal_scores_and_grows_with_a_shift():
    rng = np.random.default_rng(1)
    before = rng.normal(0, 1, 20_000)
    assert psi(before, rng.normal(0, 1, 20_000)) < 0.01
    assert psi(before, rng.normal(0.3, 1, 20_000)) > 0.05
    assert psi(before, rng.normal(2, 1, 20_000)) > 1
    assert np.isnan(psi(before, np.empty(0)))


@pytest.mark.parametrize("to", [0.9, 0.01])
def test_a_constant_head_has_moved_whichever_way_it_left(to):
    before = np.full(4_000, 0.1)
    assert psi(before, np.full(4_000, to)) > 10
    assert psi(before, before) == 0
    assert psi(before, np.full(4_000, 0.105)) == 0, "a base rate that moved by a twentieth is no other head"
    half = np.where(np.arange(4_000) % 2, 0.1, np.linspace(0.2, 0.3, 4_000))
    assert psi(half, np.where(half == 0.1, to, half)) > 1
    assert abs(psi(np.zeros(50), np.ones(50)) - psi(np.zeros(50), -np.ones(50))) < 1e-12


@pytest.mark.parametrize("drift", [{}, {"buy": 0.1}, {"buy": 0.1, "like": float("nan")}])
def test_an_objective_without_scores_to_compare_is_a_no(drift):
    refit = Refit(parts=Parts(project=PROJECT, features=None, fitted={}, cost={}), n_rows=10,
                  positives={"buy": 3, "like": 2}, drift=drift)  # fmt: skip
    gate = refit_gates(PROJECT, refit)[1]
    assert not gate.passed
    assert "to compare: " + ("like" if drift else "buy, like") in gate.why
    assert refit_gates(PROJECT, replace(refit, drift={"buy": 0.1, "like": 0.2}))[1].passed


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

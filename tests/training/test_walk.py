"""Baselines and relevance against plain loops."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feedwell.core.project import Project
from feedwell.core.telemetry import Telemetry
from feedwell.data.interactions import UserEvents
from feedwell.data.split import NEVER, Spans
from feedwell.training.walk import Popularity, Relevance, Walked, _answer_of, moments_of, relevant_name

events = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 9), st.booleans()), max_size=30)


def of(rows):
    rows = sorted(rows, key=lambda r: r[2])
    user, item, at = (np.array([r[i] for r in rows], np.int64) for i in range(3))
    made = UserEvents(
        user_E=user,
        item_E=item,
        at_E=at,
        ts_E=at,
        type_E=np.zeros(len(rows), np.int16),
        value_E=np.full(len(rows), np.nan),
        undone_at_E=np.full(len(rows), NEVER),
        types=("view",),
    )
    return made, np.array([r[3] for r in rows], bool), rows


@given(events, st.lists(st.integers(0, 11), min_size=1, max_size=6), st.sets(st.integers(0, 5)))
@settings(max_examples=100, deadline=None)
def test_popularity_counts_what_was_visible(data, times, without):
    made, positive, rows = of(data)
    baseline = Popularity(made, positive, 6)
    skip = np.array(sorted(without), np.int64)
    for t in sorted(times):
        baseline.advance(t)
        count = Counter(r[1] for r in rows if r[3] and r[2] < t and r[1] not in without)
        want = [key for key, _ in sorted(count.items(), key=lambda kv: (-kv[1], kv[0]))][:3]
        assert baseline.best(3, skip).tolist() == want


@given(events, st.integers(0, 2), st.integers(0, 10), st.sampled_from([None, 3]), st.sets(st.integers(0, 5)))
@settings(max_examples=100, deadline=None)
def test_relevant_are_later_positives_that_may_still_be_shown(data, user, t, horizon, without):
    made, positive, rows = of(data)
    keys, known = Relevance(made, positive, horizon).at(user, t, np.array(sorted(without), np.int64))
    end = 99 if horizon is None else t + horizon
    want = {r[1] for r in rows if r[3] and r[0] == user and t <= r[2] < end} - without
    assert keys.tolist() == sorted(want)
    assert known == sum(r[0] == user and r[2] < t for r in rows)


def test_moments_are_one_per_user_second_and_the_same_sample_each_time():
    made, _, _ = of([(0, 1, 5, True), (0, 2, 5, True), (1, 1, 5, True), (0, 1, 7, True), (0, 1, 1, True)])
    cut = Spans(by="time", user_U=np.empty(0, np.int64), cut_U3=np.array([[2, 3, 4]]), end=9, n_S=np.zeros(4, np.int64))
    found = moments_of(made, cut, [3], None, "s")
    assert list(zip(found.user_R.tolist(), found.t_R.tolist(), strict=True)) == [(0, 5), (1, 5), (0, 7)]
    assert len(moments_of(made, cut, [3], 2, "s")) == 2
    assert np.array_equal(moments_of(made, cut, [3], 2, "s").t_R, moments_of(made, cut, [3], 2, "s").t_R)


def test_what_was_served_is_a_request_and_the_acts_that_follow_are_not():
    made, _, _ = of([(0, 1, 1, True), (0, 2, 4, True), (0, 3, 8, True), (1, 1, 5, True)])
    spans = Spans(by="time", user_U=np.empty(0, np.int64), cut_U3=np.array([[0, 0, 0]]), end=20, n_S=np.zeros(4))
    slates = np.array([0, 0, 0], np.int64), np.array([3, 3, 7], np.int64)
    found = moments_of(made, spans, [3], None, "x", slates)
    assert list(zip(found.user_R.tolist(), found.t_R.tolist(), strict=True)) == [(0, 1), (0, 3), (1, 5), (0, 7)]
    assert len(moments_of(made, spans, [3], None, "x")) == 4


class _Failing:
    config = None

    def __call__(self, request):
        raise ValueError("no")


@dataclass
class _Asked:
    width: float = 1.0


def test_a_source_that_fails_alone_brings_nothing_and_is_noted():
    walked = Walked(k=5)
    found = _answer_of("mine", _Failing(), _Asked(), Telemetry(), walked)
    assert found.tolist() == []
    assert sum(walked.degraded.values()) == 1
    assert "mine" in next(iter(walked.degraded))


def test_relevant_by_default_is_the_first_objective_to_raise():
    objective = {"hide": {"events": ["hide"], "direction": "down"}, "buy": {"events": ["buy"]}}
    assert relevant_name(Project.model_validate({"project": {"name": "p"}, "objective": objective})) == "buy"

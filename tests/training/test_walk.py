"""Baselines and relevance against plain loops."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import feedwell.workspace as workspace
from feedwell.core.clock import DAY, SECOND, ManualClock
from feedwell.core.project import Project
from feedwell.data.interactions import UserEvents, user_events
from feedwell.data.split import NEVER, Spans, spans
from feedwell.training.measure import measure
from feedwell.training.walk import (
    PIPELINE,
    Outcomes,
    Popularity,
    Relevance,
    moments_of,
    relevant_name,
    relevant_outcomes,
    situations,
)

events = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 9), st.booleans()), max_size=30)


def of(rows):
    rows = sorted(rows, key=lambda r: r[2])
    user, item, at = (np.array([r[i] for r in rows], np.int64) for i in range(3))
    made = UserEvents(
        user_E=user,
        item_E=item,
        at_E=at,
        moment_E=at,
        type_E=np.zeros(len(rows), np.int16),
        value_E=np.full(len(rows), np.nan),
        undone_at_E=np.full(len(rows), NEVER),
        types=("view",),
    )
    return made, np.array([r[3] for r in rows], bool), rows


outcomes = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 9), st.sampled_from([0, 1, 3, None])), max_size=30
)


def outcomes_of(rows):
    """(user, item, since when, taken back how long after) → Outcomes."""
    rows = sorted(rows, key=lambda r: r[2])
    user, item, at = (np.array([r[i] for r in rows], np.int64) for i in range(3))
    back = np.array([NEVER if r[3] is None else r[2] + r[3] for r in rows], np.int64)
    return Outcomes(user_O=user, item_O=item, at_O=at, back_O=back), rows


@given(outcomes, st.lists(st.integers(0, 14), min_size=1, max_size=6), st.sets(st.integers(0, 5)))
@settings(max_examples=100, deadline=None)
def test_popularity_counts_what_was_visible(data, times, without):
    """An undo too counts only once it was visible."""
    made, rows = outcomes_of(data)
    baseline = Popularity(made, 6)
    skip = np.array(sorted(without), np.int64)
    for t in sorted(times):
        baseline.advance(t)
        stood = [r for r in rows if r[2] < t and (r[3] is None or r[2] + r[3] >= t)]
        assert made.counts_before(np.full(len(rows), t), 6).tolist() == baseline.count_I.tolist()
        count = Counter(r[1] for r in stood if r[1] not in without)
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


def asked_in(call) -> int:
    """The most bytes that a call held at once, whatever it set up before."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("horizon", [None, 50])
def test_a_request_does_not_look_through_a_long_history(horizon):
    """A user with a hundred times the events, on the same items: each request reads no more of them."""
    held = {}
    for n in (2_000, 200_000):
        made, positive, _ = of([(0, e % 50, e, e % 3 == 0) for e in range(n)])
        relevance = Relevance(made, positive, horizon)
        held[n] = asked_in(lambda relevance=relevance, n=n: relevance.at(0, n // 2, np.empty(0, np.int64)))
    assert held[200_000] < 3 * held[2_000]


def test_moments_are_one_per_user_second_and_the_same_sample_each_time():
    made, _, _ = of([(0, 1, 5, True), (0, 2, 5, True), (1, 1, 5, True), (0, 1, 7, True), (0, 1, 1, True)])
    cut = Spans(by="time", user_U=np.empty(0, np.int64), cut_U3=np.array([[2, 3, 4]]), end=9, n_S=np.zeros(4, np.int64))
    asked = situations(made, shown_of([]))
    found = moments_of(asked, cut, [3], None, "s")
    assert list(zip(found.user_R.tolist(), found.t_R.tolist(), strict=True)) == [(0, 5), (1, 5), (0, 7)]
    assert len(moments_of(asked, cut, [3], 2, "s")) == 2
    assert np.array_equal(moments_of(asked, cut, [3], 2, "s").t_R, moments_of(asked, cut, [3], 2, "s").t_R)


def shown_of(rows):
    """(user, moment, origin) → exposures, as far as moments are concerned."""
    user, moment, origin = ([row[i] for row in rows] for i in range(3))
    return pa.table({"user": pa.array(user, pa.int64()), "moment": pa.array(moment, pa.int64()), "origin": origin})


def test_what_was_served_or_shown_elsewhere_is_a_request_and_other_acts_after_a_slate_are_not():
    made, _, _ = of([(0, 1, 1, True), (0, 2, 4, True), (0, 3, 8, True), (0, 4, 9, True), (1, 1, 5, True)])
    slates = [(0, 3, "slate"), (0, 3, "slate"), (0, 7, "slate"), (-1, 2, "slate")]
    shown = shown_of([(0, 1, "event"), *slates, (0, 9, "event"), (1, 5, "event")])
    user_R, t_R = situations(made, shown)
    assert sorted(zip(user_R.tolist(), t_R.tolist(), strict=True)) == [(0, 1), (0, 3), (0, 7), (0, 9), (1, 5)]


def test_what_is_taken_back_later_was_popular_until_then():
    made, _, _ = of([(0, 1, 1, True), (0, 2, 1, True), (0, 2, 2, True)])
    made = replace(made, undone_at_E=np.array([4, NEVER, 30]))
    objective = {"like": {"events": ["view"], "within": 10}}
    found = relevant_outcomes(Project.model_validate({"project": {"name": "p"}, "objective": objective}), made)
    assert found.back_O.tolist() == [4, NEVER, NEVER]
    baseline = Popularity(found, 3)
    baseline.advance(4)
    assert baseline.count_I.tolist() == [0, 1, 2]
    baseline.advance(5)
    assert baseline.count_I.tolist() == [0, 0, 2]


def test_relevant_by_default_is_the_first_objective_to_raise():
    objective = {"hide": {"events": ["hide"], "direction": "down"}, "buy": {"events": ["buy"]}}
    assert relevant_name(Project.model_validate({"project": {"name": "p"}, "objective": objective})) == "buy"


EXPIRING = """
[project]
name = "p"
[data]
events = "events.jsonl"
[event.buy]
[entity.item]
path = "items.jsonl"
expires_at = "expires_at"
[objective.buy]
events = ["buy"]
within = "1h"
[source.popular]
k = 10
half_life = "1d"
[filter.expired]
[evaluate]
k = 5
bootstrap = 20
"""


def test_what_has_expired_is_on_no_list_of_baselines_or_sources(tmp_path):
    """The old are bought most and expire before the test; more are old than one look at the baseline takes."""
    start, n = 1_700_000_000 * SECOND, 30
    items = [{"item": f"i{i}", "expires_at": (start + (4 if i < n else 60) * DAY) // SECOND} for i in range(2 * n)]
    rows = [
        {
            "type": "buy",
            "user": f"u{u}",
            "item": f"i{(u + e) % n + (n if d > 3 else 0)}",
            "ts": start + d * DAY + u * 60,
        }
        for d in range(8)
        for u in range(15)
        for e in range(6 if d < 4 else 2)
    ]
    for name, lines in (("events", rows), ("items", items)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "feedwell.toml").write_text(EXPIRING)
    with workspace.open(tmp_path, clock=ManualClock(start + 30 * DAY)) as ws:
        ws.ingest(history=True)
        inputs = ws.training_inputs()
        view = inputs.view()
        cut = spans(view, ws.project.split)
        walked = measure(inputs, user_events(view, ws.project), cut, max_requests=10).walked
        old = set(ws.ids.lookup("item", [f"i{i}" for i in range(n)]).tolist())
    assert min(walked.t_R) > start + 4 * DAY
    for name, lists in walked.ranked.items():
        assert not [key for keys in lists for key in keys.tolist() if key in old], name
        assert name == PIPELINE or all(len(keys) for keys in lists), name

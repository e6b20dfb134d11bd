"""Spans: fractions are met, one (user, ts) is never divided, the order of time holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedwell.core.clock import HOUR, MINUTE
from feedwell.core.project import Project, SplitSection
from feedwell.data.interactions import user_events
from feedwell.data.split import NEVER, Spans, spans

events = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 12), st.sampled_from([0, 0, 0, 1, 5])), min_size=1, max_size=40
)
slack = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows_of(data):
    rows = [{"type": "view", "user": u, "item": 1, "ts": ts, "available_at": ts + late} for u, ts, late in data]
    return sorted(rows, key=lambda r: r["available_at"])


@pytest.mark.parametrize("by", ["time", "user"])
@given(events)
@slack
def test_no_user_second_is_divided_and_spans_follow_each_other(log_of, by, data):
    rows = rows_of(data)
    found = spans(log_of(rows), SplitSection(by=by))
    user, at = np.array([r["user"] for r in rows]), np.array([r["available_at"] for r in rows])
    span = found.span(user, at)
    by_group = {}
    for row, s in zip(rows, span, strict=True):
        assert by_group.setdefault((row["user"], row["ts"]), s) == s
    for u in np.unique(user):
        assert (np.diff(span[user == u]) >= 0).all()
    if by == "time":
        assert (np.diff(span) >= 0).all()
    assert found.n_S.tolist() == np.bincount(span, minlength=4).tolist()
    ends = found.span_end(user, at)
    assert (ends > at).all()
    for s, end, u in zip(span, ends, user, strict=True):
        later = at[(span > s) & (user == u)] if by == "user" else at[span > s]
        assert (later >= end).all()


@pytest.mark.parametrize("by", ["time", "user"])
def test_fractions_are_met_where_nothing_stands_in_the_way(log_of, by):
    rows = [{"type": "view", "user": i % 2, "item": 1, "ts": i} for i in range(200)]
    rows += [{"type": "$item", "item": 1, "ts": 200 + i} for i in range(100)]
    found = spans(log_of(rows), SplitSection(by=by))
    assert found.n_S.tolist() == [100, 40, 20, 40]
    assert bool(found.note) == (by == "user")
    assert found.end == 300


def test_a_declared_cut_is_exact_in_spite_of_rounding(log_of):
    found = spans(log_of([{"type": "view", "user": 1, "item": 1, "ts": i} for i in range(10)]), SplitSection())
    assert found.cut_U3.tolist() == [[5, 7, 8]]


def test_a_late_twin_pulls_the_cut_to_one_side(log_of):
    rows = [{"type": "view", "user": 1, "item": 1, "ts": i, "available_at": i} for i in range(8)]
    rows.append({"type": "view", "user": 1, "item": 1, "ts": 3, "available_at": 9})
    found = spans(log_of(rows), SplitSection(fractions=(0.5, 0.2, 0.1, 0.2)))
    assert found.span(np.ones(2, np.int64), np.array([3, 9])).tolist() == [0, 0]


@pytest.mark.parametrize("by", ["time", "user"])
def test_one_event_that_comes_late_does_not_hold_the_log_together(log_of, by):
    rows = [{"type": "view", "user": 1, "item": 1, "ts": i * HOUR, "available_at": i * HOUR} for i in range(10)]
    rows.append({"type": "view", "user": 1, "item": 2, "ts": HOUR, "available_at": 30 * HOUR})
    found = spans(log_of(rows), SplitSection(by=by))
    assert found.n_S.tolist() == [6, 2, 1, 2]


def test_stretches_that_follow_each_other_for_hours_are_cut_all_the_same(log_of):
    quarter = MINUTE // 4
    rows = [
        {"type": "view", "user": user, "item": 1, "ts": t, "available_at": t + wait}
        for user in range(4)
        for i in range(100)
        for t in (i * MINUTE + user * quarter,)
        for wait in (0, 2 * quarter + 1)
    ]
    found = spans(log_of(sorted(rows, key=lambda r: r["available_at"])), SplitSection())
    assert found.n_S.tolist() == [400, 160, 80, 160]


@pytest.mark.parametrize("by", ["time", "user"])
def test_an_empty_log_has_spans(log_of, by):
    found = spans(log_of([]), SplitSection(by=by))
    assert found.span(np.array([3]), np.array([7])).tolist() == [0]
    assert found.end == 0


def test_what_was_served_moves_no_cut_and_is_no_act(log_of):
    did = [{"type": "view", "user": 1, "item": 1, "ts": i, "available_at": 10 * i} for i in range(10)]
    shown = [{"type": "served", "user": 1, "item": 2, "ts": 500, "available_at": 85 + i} for i in range(40)]
    section = SplitSection(fractions=(0.5, 0.2, 0.1, 0.2))
    both = log_of(sorted([*did, *shown], key=lambda e: e["available_at"]))
    assert spans(both, section).cut_U3.tolist() == spans(log_of(did), section).cut_U3.tolist()
    assert spans(both, section).n_S.sum() == 10
    project = Project.model_validate({"project": {"name": "p"}, "event": {"view": {}}})
    assert user_events(both, project).types == ("view",)


def test_users_never_seen_are_in_the_first_span():
    found = Spans(by="user", user_U=np.array([4]), cut_U3=np.array([[1, 2, NEVER]]), end=9, n_S=np.zeros(4, np.int64))
    assert found.span(np.array([4, 5, 3]), np.array([8, 8, 8])).tolist() == [2, 0, 0]

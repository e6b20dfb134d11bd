"""The funnel on requests small enough to count by hand; Lorenz points against the Gini coefficient that they draw."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from feedwell.core.candidates import NOT_SELECTED, Retrieved, merge
from feedwell.metrics.beyond_accuracy import Shown
from feedwell.training.funnel import ALL_SOURCES, Funnel, lorenz_points


def answer(user, retrieved, seen, shown):
    """What a request leaves: `seen` goes by a filter, what is neither that nor shown is not selected."""
    rows = merge([(name, Retrieved(keys_N=np.array(k), scores_N=np.zeros(len(k)))) for name, k in retrieved.items()])
    rows = rows.dropped(np.isin(rows.keys_N, seen), "filter.seen")
    rows = rows.dropped(~np.isin(rows.keys_N, shown), NOT_SELECTED)
    return SimpleNamespace(candidates=rows, request=SimpleNamespace(user=user))


@pytest.fixture
def funnel():
    made = Funnel()
    made.add(answer(1, {"source.a": [1, 2, 3], "source.b": [3, 4]}, seen=[2], shown=[1, 3]), np.array([3, 4, 9]))
    made.add(answer(2, {"source.a": [5], "source.b": [6, 7]}, seen=[], shown=[6]), np.array([6]))
    made.add(answer(3, {"source.a": [5]}, seen=[], shown=[5]), np.array([], np.int64))
    return made


def test_every_candidate_and_everything_wanted_is_accounted_for(funnel):
    rows = {row.step: row for row in funnel.rows()}
    assert list(rows) == ["retrieved", "filter.seen", "scored", NOT_SELECTED, "shown"]
    assert {step: round(row.candidates * 3) for step, row in rows.items()} == {
        "retrieved": 8,
        "filter.seen": 1,
        "scored": 7,
        NOT_SELECTED: 3,
        "shown": 4,
    }
    assert {step: row.wanted * 4 for step, row in rows.items()} == pytest.approx(
        {"retrieved": 3, "filter.seen": 0, "scored": 3, NOT_SELECTED: 1, "shown": 2}
    )


def test_sources_are_credited_with_what_they_bring_and_what_only_they_bring(funnel):
    together, a, b = funnel.sources(bootstrap=0)
    assert (together.name, a.name, b.name) == (ALL_SOURCES, "source.a", "source.b")
    assert together.recall.value == pytest.approx((2 / 3 + 1) / 2)
    assert (a.recall.value, b.recall.value) == pytest.approx((1 / 6, (2 / 3 + 1) / 2))
    assert (a.recall_alone.value, b.recall_alone.value) == pytest.approx((0, (1 / 3 + 1) / 2))
    assert (a.shown, a.shown_alone, b.shown, b.shown_alone) == pytest.approx((3 / 4, 2 / 4, 2 / 4, 1 / 4))
    assert (together.candidates, a.candidates, b.candidates) == pytest.approx((8 / 3, 5 / 3, 4 / 3))


def test_no_request_no_rows():
    assert Funnel().rows() == ()
    assert Funnel().sources(bootstrap=10) == ()
    assert lorenz_points([]) == lorenz_points([0, 0]) == ()


def test_the_area_above_a_lorenz_curve_is_the_gini_coefficient():
    count_I = np.random.default_rng(0).zipf(1.7, 4000)
    points = np.array(lorenz_points(count_I))
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    assert (np.diff(points[:, 1]) >= 0).all()
    area = 1 - 2 * np.trapezoid(points[:, 1], points[:, 0])
    assert area == pytest.approx(Shown(catalog_I=np.arange(4000), count_I=count_I).gini, abs=0.02)
    assert dict(lorenz_points([1] * 100))[0.5] == pytest.approx(0.5)

"""Calibration on rows whose truth is planted: it recovers it, keeps every order, and leaves what is right alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from feedwell.core import registry
from feedwell.core.errors import CorruptArtifact
from feedwell.core.project import ObjectiveConfig
from feedwell.core.protocols import RankingRows, Setting
from feedwell.metrics.calibration import Reliability

Part = registry.find("scorer", "calibration")
OBJECTIVES = {
    "click": ObjectiveConfig(events=("click",)),
    "buy": ObjectiveConfig(events=("buy",), given="click"),
    "dwell": ObjectiveConfig(events=("dwell",), kind="duration"),
    "refund": ObjectiveConfig(events=("refund",), kind="amount"),
}
METHODS = ["isotonic", "beta", "platt", "scale"]


def rows_of(labels, predictions, weight=None):
    n = len(next(iter(labels.values())))
    return RankingRows(
        features_NF=np.zeros((n, 1), np.float32),
        feature_names=("f",),
        labels=labels,
        group_N=np.arange(n),
        weight_N=np.ones(n) if weight is None else weight,
        valid_N=np.zeros(n, np.bool_),
        predictions=predictions,
    )


def fitted(rows, **config):
    part = Part(Part.Config(**config), Setting(name="calibration", objectives=OBJECTIVES))
    part.fit(rows)
    return part


def coins(true_N, seed):
    return (np.random.default_rng(seed).random(len(true_N)) < true_N).astype(float)


def truth(n=40_000, seed=0):
    """Probabilities as a feed has them: most are small."""
    return np.random.default_rng(seed).beta(0.6, 8.0, n)


def ece(y_N, p_N):
    return Reliability.of(y_N, p_N).ece


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bend", ["odds times 5", "overconfident"])
def test_recovers_a_planted_miscalibration(method, bend):
    """What was planted is in the family of every curve, except that `scale` cannot undo a wrong slope."""
    wrong = {"odds times 5": lambda p: expit(logit(p) + np.log(5)), "overconfident": lambda p: expit(1.6 * logit(p))}[
        bend
    ]
    true_N, new_N = truth(), truth(seed=1)
    part = fitted(rows_of({"click": coins(true_N, 2)}, {"click": wrong(true_N)}), method=method)
    given_N, found_N = wrong(new_N), part.calibrated({"click": wrong(new_N)})["click"]
    before, after = np.abs(given_N - new_N).mean(), np.abs(found_N - new_N).mean()
    limit = 1.0 if method == "scale" and bend == "overconfident" else 0.15
    assert after < limit * before
    assert part.methods == {"click": method}


def test_weights_stand_for_rows_that_are_not_there():
    """Of what was not chosen every twentieth row is kept, with weight 20: the curve is that of all rows."""
    true_N = truth()
    y_N, p_N = coins(true_N, 3), expit(logit(true_N) + 1)
    kept = (y_N > 0) | (np.arange(len(y_N)) % 20 == 0)
    weight = np.where(y_N > 0, 1.0, 20.0)[kept]
    for method in METHODS:
        whole = fitted(rows_of({"click": y_N}, {"click": p_N}), method=method)
        sampled = fitted(rows_of({"click": y_N[kept]}, {"click": p_N[kept]}, weight), method=method)
        blind = fitted(rows_of({"click": y_N[kept]}, {"click": p_N[kept]}), method=method)
        a, b, c = (part.calibrated({"click": p_N})["click"] for part in (whole, sampled, blind))
        assert np.abs(a - b).mean() < 0.01 < 0.1 < np.abs(a - c).mean()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_calibrated_stays_so(method):
    """The error on new rows grows by no more than the noise that perfect predictions show."""
    true_N, new_N = truth(), truth(seed=1)
    part = fitted(rows_of({"click": coins(true_N, 4)}, {"click": true_N}), method=method)
    after = part.calibrated({"click": new_N})["click"]
    assert np.abs(after - new_N).mean() < 0.006
    assert ece(coins(new_N, 5), after) < 2 * ece(coins(new_N, 5), new_N) + 0.001


def test_a_few_outcomes_move_little_and_many_choose_isotonic():
    few_N = truth(600)
    part = fitted(rows_of({"click": coins(few_N, 6)}, {"click": few_N}))
    assert part.methods == {"click": "beta"}
    assert np.abs(part.calibrated({"click": few_N})["click"] - few_N).mean() < 0.02
    assert fitted(rows_of({"click": coins(truth(), 7)}, {"click": truth()})).methods == {"click": "isotonic"}


predictions = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=60)


@given(predictions, st.integers(0, 10_000), st.sampled_from(METHODS))
@settings(max_examples=60, deadline=None)
def test_order_never_changes_and_ties_stay_ties(p, seed, method):
    """Whatever the labels say, even that the ranker has it backwards: never swapped, and apart where they were."""
    p_N = np.array(p)
    rng = np.random.default_rng(seed)
    y_N = (rng.random(len(p)) < 0.5).astype(float)
    part = fitted(rows_of({"click": y_N}, {"click": p_N}, rng.random(len(p)) + 0.1), method=method, min_outcomes=2)
    grid = np.unique(np.concatenate([np.linspace(0.001, 0.999, 400), np.round(p_N, 3)]))
    inside = part.calibrated({"click": grid})["click"]
    assert (np.diff(inside) > 0).all()
    assert ((inside >= 0) & (inside <= 1)).all()
    order = np.argsort(p_N, kind="stable")
    after = part.calibrated({"click": p_N})["click"][order]
    assert (np.diff(after) >= -1e-15).all()
    assert (after[1:] == after[:-1])[np.diff(p_N[order]) == 0].all()


@pytest.mark.parametrize("method", METHODS)
def test_a_ranker_that_is_certain_is_believed_as_much_as_it_was_right(method):
    """Of what it was sure of, half happened; of what it excluded, a tenth: neither 1 nor 0 passes unchanged."""
    p_N = np.repeat([0.0, 1.0], 4000)
    part = fitted(rows_of({"click": coins(0.1 + 0.4 * p_N, 11)}, {"click": p_N}), method=method, min_outcomes=2)
    near_N = np.array([0.0, 1e-9, 1e-6, 0.5, 1 - 1e-6, 1 - 1e-9, 1.0])
    after = part.calibrated({"click": near_N})["click"]
    assert (np.diff(after) > 0).all()
    assert after[2] - after[0] < 1e-4
    assert after[-1] - after[-3] < 1e-4
    tiny_N = np.unique(np.random.default_rng(1).uniform(-27, -13, 2000).astype(np.float32))
    for sure_N in (np.exp(tiny_N), (1 - np.exp(tiny_N[tiny_N > -15]))):
        distinct_N = np.unique(sure_N).astype(float)
        assert (np.diff(part.calibrated({"click": distinct_N})["click"]) > 0).all()
    if method != "scale":  # one factor of the odds cannot mend both ends
        assert (after[0], after[-1]) == (pytest.approx(0.1, abs=0.03), pytest.approx(0.5, abs=0.03))


def test_given_objectives_are_calibrated_where_the_other_happened():
    """p(buy | click): rows without a click say nothing about it."""
    click_N, true_N = coins(np.full(20_000, 0.2), 8), truth(20_000)
    buy_N = coins(true_N, 9) * click_N
    part = fitted(rows_of({"click": click_N, "buy": buy_N}, {"buy": expit(logit(true_N) + 1)}))
    assert part.methods == {"buy": "beta"}
    assert part.calibrated({"buy": expit(logit(true_N) + 1)})["buy"].mean() == pytest.approx(true_N.mean(), rel=0.1)


@pytest.mark.parametrize("method", ["auto", "isotonic"])
def test_durations_keep_their_mean_and_may_be_zero(method):
    mean_N = np.random.default_rng(0).gamma(2.0, 5e6, 20_000)
    y_N = np.random.default_rng(1).exponential(mean_N) * coins(np.full(20_000, 0.5), 10)
    part = fitted(rows_of({"dwell": y_N}, {"dwell": 3 * mean_N}), method=method, isotonic_from=50_000)
    found_N = part.calibrated({"dwell": 3 * mean_N})["dwell"]
    assert found_N.mean() == pytest.approx(y_N.mean(), rel=0.03)
    assert part.calibrated({"dwell": np.array([0.0, 1e12])})["dwell"].tolist()[0] == 0
    assert part.methods == {"dwell": {"auto": "scale"}.get(method, method)}


def test_amounts_that_may_be_negative_are_shifted():
    rng = np.random.default_rng(0)
    p_N = rng.normal(5, 10, 5000)
    part = fitted(rows_of({"refund": p_N - 7 + rng.normal(size=5000)}, {"refund": p_N}), method="isotonic")
    assert part.methods == {"refund": "shift"}
    assert part.calibrated({"refund": p_N})["refund"] == pytest.approx(p_N - 7, abs=0.1)


def test_nothing_to_learn_from_leaves_predictions_to_the_bit_and_says_so():
    p_N = np.random.default_rng(0).random(100)
    none_N, unknown_N = np.zeros(100), np.full(100, np.nan)
    part = fitted(rows_of({"click": none_N, "buy": unknown_N, "dwell": none_N}, dict.fromkeys(OBJECTIVES, p_N)))
    assert all(np.array_equal(c_N, p_N) for c_N in part.calibrated(dict.fromkeys(OBJECTIVES, p_N)).values())
    assert [w.split(":")[0] for w in part.warnings] == [f"calibration of '{n}'" for n in ("click", "buy", "dwell")]
    assert "nothing happened in the 100 rows" in part.warnings[0]
    assert "nothing happened in the 0 rows" in part.warnings[1]
    always = fitted(rows_of({"click": np.ones(100)}, {"click": p_N}))
    assert "nothing else happened" in always.warnings[0]
    assert "are no probabilities" in fitted(rows_of({"click": coins(p_N, 1)}, {"click": 2 * p_N})).warnings[0]
    assert fitted(rows_of({"click": none_N}, {"click": p_N}), method="none").warnings == ()


def test_missing_predictions_stay_missing():
    true_N = truth(5000)
    for method in METHODS:
        part = fitted(rows_of({"click": coins(true_N, 1)}, {"click": true_N}), method=method)
        assert np.isnan(part.calibrated({"click": np.array([np.nan, 0.2])})["click"]).tolist() == [True, False]


def test_saved_and_loaded_it_is_the_same_to_the_bit(tmp_path):
    true_N = truth()
    rows = rows_of({"click": coins(true_N, 1), "dwell": true_N * 9}, {"click": true_N, "dwell": true_N})
    for method in (*METHODS, "none"):
        part = fitted(rows, method=method)
        part.save(tmp_path)
        loaded = Part(part.config, Setting(name="calibration", objectives=OBJECTIVES))
        loaded.load(tmp_path)
        one, other = (p.calibrated({"click": true_N, "dwell": true_N, "new": true_N}) for p in (part, loaded))
        assert all(np.array_equal(one[name], other[name]) for name in one)
        assert one["new"] is true_N
        assert loaded.methods == part.methods
    (tmp_path / "calibration.json").write_text('{"click": {"method": "beta", "link": "spline"}}')
    with pytest.raises(CorruptArtifact, match=r"spline.*train again"):
        loaded.load(tmp_path)


def test_switched_off_at_serving_it_passes_predictions_on():
    true_N = truth(5000)
    rows = rows_of({"click": coins(true_N, 1)}, {"click": true_N**2})
    off = fitted(replace(rows), enabled=False)
    assert np.array_equal(off.calibrated({"click": true_N})["click"], true_N)

"""The tables of heads: every model of a table learns from the same rows, and each figure is what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feedwell.core.project import Project
from feedwell.core.protocols import RankingRows
from feedwell.metrics import Interval
from feedwell.pipeline.compile import compile_features
from feedwell.training.calibrate import stopping_marked
from feedwell.training.heads import head_rows, models_of
from feedwell.training.parts import Parts
from feedwell.training.quantities import quantity_rows
from feedwell.training.report import HeadRow
from feedwell.training.rows import Rows, servable
from feedwell.training.statements import head_statements

PROJECT = Project.model_validate(
    {
        "project": {"name": "p"},
        "objective": {
            "click": {"events": ["click"]},
            "plays": {"events": ["play"], "kind": "count"},
            "profit": {"events": ["pay"], "kind": "amount"},
        },
    }
)


NOTHING_MARKED = np.zeros(600, np.bool_)
"""No span of calibration: the last fifth of the requests serves for it."""


def made(seed, n=600):
    """Clicks, plays and profit rise with the feature."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).astype(np.float32)
    x[:, 1] = np.where(rng.random(n) < 0.8, 1.0, np.nan)  # the retrieval score: a fifth was not retrieved
    labels = {
        "click": (rng.random(n) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(float),
        "plays": rng.poisson(np.exp(x[:, 0])).astype(float),
        "profit": 3.0 * np.sign(x[:, 0]) * np.log1p(np.abs(x[:, 0])) + rng.normal(0, 0.1, n),
    }
    keys = np.arange(n)
    ranking = RankingRows(
        features_NF=x,
        feature_names=("f", "retrieval.s"),
        labels=labels,
        group_N=np.arange(n) // 5,
        weight_N=np.ones(n),
        valid_N=np.zeros(n, np.bool_),
        user_N=keys % 30,
        item_N=keys % 7,
        t_N=keys,
    )
    return Rows(ranking=ranking, exposed_N=keys % 2 == 0)


def tables(train, test):
    parts = Parts(project=PROJECT, features=compile_features(PROJECT), fitted={}, cost={})
    models = models_of(parts, train, test, NOTHING_MARKED)
    return head_rows(PROJECT, models, train, test, bootstrap=20), quantity_rows(
        PROJECT, models, train, test, bootstrap=20
    )


def test_no_model_of_a_table_learns_from_rows_kept_back():
    train, test = made(0), made(1)
    train = stopping_marked(train, servable(train)[0], NOTHING_MARKED[train.retrieved_N])
    assert 60 < train.ranking.valid_N.sum() < 120  # a fifth of four fifths
    labels = train.ranking.labels
    lies = {name: np.where(train.ranking.valid_N, 9.0 * (name != "click") + 1, y) for name, y in labels.items()}
    assert tables(replace(train, ranking=replace(train.ranking, labels=lies)), test) == tables(train, test)


def test_nothing_is_said_of_an_outcome_that_all_rows_have():
    test = made(1)
    always = {"click": np.ones(len(test.exposed_N))}
    heads, _ = tables(made(0), replace(test, ranking=replace(test.ranking, labels=test.ranking.labels | always)))
    assert all(np.isnan(h.auc.value) for h in heads)
    assert "AUC" not in "".join(head_statements(heads))
    worse = replace(heads[0], auc=replace(heads[0].auc, value=0.4), log_loss=replace(heads[0].log_loss, value=np.nan))
    assert len(head_statements([worse, replace(worse, name="constant", auc=replace(worse.auc, value=0.5))])) == 1
    unknown = replace(worse, auc=replace(worse.auc, value=np.nan))
    assert "AUC (not known)" in head_statements([unknown, replace(worse, name="constant")])[0]


def told(name, over, values, minus=(), rate=0.1):
    """A row with those AUC, AUC by user and log loss; `minus`: the bounds of the ranker's figures minus these."""
    auc, by_user, loss = (Interval(value=v, low=v - 0.1, high=v + 0.1, n_units=265) for v in values)
    paired = dict(zip(("auc", "grouped_auc", "log_loss"), minus, strict=True)) if minus else {}
    return HeadRow(
        name=name,
        objective="cart",
        over=over,
        n=1598,
        positives=155,
        rate=rate,
        auc=auc,
        grouped_auc=by_user,
        log_loss=loss,
        ece=0.01,
        ranker_minus={m: Interval(value=(a + b) / 2, low=a, high=b, n_units=265) for m, (a, b) in paired.items()},
    )


def test_one_user_shows_nothing_whatever_the_figures():
    alone = [(np.nan, np.nan)] * 3
    for better in ((0.9, 0.9, 0.1), (0.1, 0.1, 0.9)):
        ours, other = told("xgboost", "candidates", (0.5, 0.5, 0.5)), told("constant", "candidates", better, alone)
        [said] = head_statements([ours, other])
        assert said.count("is not shown to be better than that of constant") == 3
        assert "worse" not in said


def test_one_sentence_says_on_what_a_head_does_not_beat_what_and_one_why_rates_are_unlike():
    exposed = [
        told("xgboost", "exposures", (0.5959, 0.4401, 0.7425), rate=0.097),
        told("logistic", "exposures", (0.5730, 0.5027, 0.7696), [(-0.01, 0.05), (-0.2, 0.02), (-0.09, -0.01)]),
        told("constant", "exposures", (0.5, 0.5, 0.3185), [(0.03, 0.17), (-0.12, -0.01), (0.2, 0.6)]),
    ]
    among = [
        told("xgboost", "candidates", (0.69, 0.63, 0.0073), rate=0.00094),
        told("constant", "candidates", (0.5, 0.5, 0.0075), [(0.1, 0.2), (0.1, 0.2), (-0.0003, -0.0001)], rate=0.00094),
    ]
    said = head_statements([*exposed, *among])
    assert said == (
        "over exposures, xgboost on cart (265 users): AUC (0.5959) is not shown to be better than that of logistic"
        " (0.5730); AUC by user (0.4401) is worse than that of constant (0.5000), and not shown to be better than that"
        " of logistic (0.5027); log loss (0.7425) is worse than that of constant (0.3185)",
        "log loss over exposures compares unlike rates: the ranker predicts for candidates, while the constant and"
        " popularity know how often exposures have the outcome (of exposures and of candidates: cart 9.7 % and"
        " 0.094 %); read AUC over exposures, and log loss over candidates",
    )
    assert not head_statements(among)
    alike = [replace(row, rate=0.09) for row in among]
    assert head_statements([*exposed, *alike]) == said[:1]


def test_differences_to_the_ranker_are_paired_by_user():
    heads, _ = tables(made(0), made(1))
    for over in ("exposures", "candidates"):
        ours, *others = [h for h in heads if h.over == over]
        assert not ours.ranker_minus
        for other in others:
            for measure, found in other.ranker_minus.items():
                value = getattr(ours, measure).value - getattr(other, measure).value
                assert found.value == pytest.approx(value)
                assert found.low <= value <= found.high
        constant = others[-1].ranker_minus
        assert constant["auc"].low == pytest.approx(ours.auc.low - 0.5)
        assert constant["grouped_auc"].high == pytest.approx(ours.grouped_auc.high - 0.5)
        assert constant["log_loss"].high < 0
        assert not [said for said in head_statements([ours, others[-1]]) if ours.objective in said]


def test_a_model_that_leaves_rows_out_is_compared_by_its_figures():
    train, test = made(0), made(1)
    p_N = np.full(len(test), 0.5)
    models = {"half": {"click": np.where(test.item_N == 0, np.nan, p_N)}, "all": {"click": p_N}}
    heads = head_rows(PROJECT, models, train, test, bootstrap=20)
    assert all(not h.ranker_minus for h in heads)
    assert "is not shown to be better than that of all (0.5000)" in head_statements(heads)[0]


def test_each_outcome_is_in_its_own_table_with_a_linear_model_that_sees_the_feature():
    heads, quantities = tables(made(0), made(1))
    assert {h.objective for h in heads} == {"click"}
    assert {h.name for h in heads} == {"logistic", "popularity", "constant"}
    assert {(q.objective, q.name) for q in quantities} == {
        (o, m) for o in ("plays", "profit") for m in ("linear", "item mean", "constant")
    }
    for objective in ("plays", "profit"):
        linear, items, constant = (q for q in quantities if (q.objective, q.over) == (objective, "exposures"))
        assert linear.loss.value < 0.8 * constant.loss.value
        assert linear.rank_correlation.value > 0.5
        assert constant.rank_correlation.value == 0
        assert abs(items.rmse.value / constant.rmse.value - 1) < 0.1  # items say nothing here


def test_the_constant_is_the_mean_of_the_rows_of_that_kind():
    train, test = made(0), made(1)
    _, quantities = tables(train, test)
    for over, inside in (("exposures", train.exposed_N), ("candidates", train.retrieved_N)):
        judged = test.exposed_N if over == "exposures" else test.retrieved_N
        mean = train.ranking.labels["profit"][inside].mean()
        y = test.ranking.labels["profit"][judged]
        row = next(q for q in quantities if (q.objective, q.over, q.name) == ("profit", over, "constant"))
        assert row.mae.value == pytest.approx(np.abs(y - mean).mean())
        assert row.rmse.value == pytest.approx(np.sqrt(((y - mean) ** 2).mean()))
        assert np.isnan(row.poisson_deviance.value)

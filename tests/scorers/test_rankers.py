"""What both rankers must get right on rows whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

from feedwell.core import registry
from feedwell.core.errors import CorruptArtifact, DataError
from feedwell.core.needs import ColumnNeed, FeatureNeed
from feedwell.core.project import ObjectiveConfig
from feedwell.core.protocols import RankingRows, Setting
from feedwell.core.request import Request, UserSide
from feedwell.scorers._rows import gather
from feedwell.testing import sample

RANKERS = ["logistic", "xgboost"]
KINDS = {
    "click": ObjectiveConfig(events=("click",)),
    "buy": ObjectiveConfig(events=("buy",), given="click"),
    "plays": ObjectiveConfig(events=("play",), kind="count"),
    "dwell": ObjectiveConfig(events=("dwell",), kind="duration"),
    "paid": ObjectiveConfig(events=("pay",), kind="amount"),
}


def made(name, objectives=KINDS, **config):
    part = registry.find("scorer", name)
    config = {"n_trees": 60, "threads": 1} | config if name == "xgboost" else config
    return part(part.Config(**config), Setting(name="ranker", objectives=objectives))


def world(n=6000, seed=0, **labels):
    """p(click) rises with f0 and is higher where `kind` is 3 or 5; missing f1 means something; buys follow clicks."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[:, 2] = rng.integers(0, 8, n)
    gone = rng.random(n) < 0.3
    logit = 1.5 * x[:, 0] + 1.5 * np.isin(x[:, 2], [3, 5]) + 1.0 * gone - 1
    x[gone, 1] = np.nan
    click = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    found = {
        "click": click,
        "buy": click * (rng.random(n) < 0.3),
        "plays": rng.poisson(np.exp(0.5 * x[:, 0])).astype(float),
        "dwell": rng.exponential(30e6 * np.exp(0.5 * x[:, 0])) * (rng.random(n) < 0.5),
        "paid": rng.exponential(1999.0, n) * (rng.random(n) < 0.1),
    }
    return RankingRows(
        features_NF=x,
        feature_names=("f0", "f1", "kind"),
        labels=found | labels,
        group_N=np.arange(n) // 10,
        weight_N=np.ones(n),
        valid_N=np.arange(n) % 5 == 4,
    )


def auc(y, p):
    rank = rankdata(p)
    n = y.sum()
    return (rank[y > 0].sum() - n * (n + 1) / 2) / (n * (len(y) - n))


@pytest.mark.parametrize("name", RANKERS)
def test_ranks_new_rows_nearly_as_well_as_they_can_be(name):
    part = made(name, categorical=("kind",))
    part.fit(world())
    new = world(seed=1)
    assert auc(new.labels["click"], part.predict(new)["click"]) > 0.81
    without = made(name, features=("f0",))
    without.fit(world())
    assert auc(new.labels["click"], without.predict(new)["click"]) < 0.8


@pytest.mark.parametrize("name", RANKERS)
def test_keeps_the_mean_of_every_kind_of_outcome(name):
    part = made(name)
    part.fit(world())
    new = world(seed=1)
    p = part.predict(new)
    for objective in ("click", "plays", "dwell", "paid"):
        assert p[objective].mean() == pytest.approx(new.labels[objective].mean(), rel=0.12), objective
    clicked = new.labels["click"] > 0
    assert p["buy"][clicked].mean() == pytest.approx(new.labels["buy"][clicked].mean(), rel=0.12)


@pytest.mark.parametrize("name", RANKERS)
def test_unknown_categories_are_missing_and_no_error(name):
    part = made(name, categorical=("kind",))
    part.fit(world())
    x = np.array([[0, 0, 3], [0, 0, 0], [0, 0, -1], [0, 0, 999], [0, 0, np.nan]], np.float32)
    p = part.predict(replace(world(5), features_NF=x))["click"]
    assert p[0] > p[1] + 0.1
    assert p[2] == p[3]
    if name == "xgboost":
        assert p[3] == p[4]


@pytest.mark.parametrize("name", RANKERS)
def test_only_the_most_frequent_categories_are_kept(name):
    part = made(name, categorical=("kind",), max_categories=2)
    part.fit(world())
    values = part._model.vocabulary.values["kind"]
    kind_N = world().features_NF[:, 2].astype(int)
    assert len(values) == 2
    assert np.bincount(kind_N)[values.astype(int)].min() >= np.sort(np.bincount(kind_N))[-2]


@pytest.mark.parametrize("name", RANKERS)
def test_rows_with_unknown_labels_teach_nothing(name):
    known = np.arange(6000) < 3000
    click = world().labels["click"]
    lies = world(click=np.where(known, click, 1 - click))
    hidden = world(click=np.where(known, click, np.nan))
    part, fooled = made(name, {"click": KINDS["click"]}), made(name, {"click": KINDS["click"]})
    part.fit(replace(hidden, labels={"click": hidden.labels["click"]}))
    fooled.fit(replace(lies, labels={"click": lies.labels["click"]}))
    new = world(seed=1)
    assert auc(new.labels["click"], part.predict(new)["click"]) > 0.75
    assert auc(new.labels["click"], fooled.predict(new)["click"]) < 0.7


def test_a_linear_ranker_does_not_learn_from_rows_kept_back():
    """Others stop by them: compared with those, it would have seen more."""
    rows, new = world(2000), world(500, seed=1)
    lies = {name: np.where(rows.valid_N, y.max() - y, y) for name, y in rows.labels.items()}
    honest, fooled = made("logistic"), made("logistic")
    honest.fit(rows)
    fooled.fit(replace(rows, labels=lies))
    for name, p in honest.predict(new).items():
        np.testing.assert_array_equal(p, fooled.predict(new)[name])
    everything = made("logistic", {"click": KINDS["click"]})
    everything.fit(replace(rows, labels={"click": rows.labels["click"]}, valid_N=np.ones(2000, bool)))
    assert auc(rows.labels["click"], everything.predict(rows)["click"]) > 0.75


@pytest.mark.parametrize("name", RANKERS)
def test_weights_count_rows_more(name):
    rows = world(2000)
    click = rows.labels["click"]
    part = made(name, {"click": KINDS["click"]})
    weight_N = np.where(click > 0, 9.0, 1.0)
    part.fit(replace(rows, labels={"click": click}, weight_N=weight_N))
    weighted = np.average(part.predict(rows)["click"], weights=weight_N)
    assert weighted == pytest.approx(np.average(click, weights=weight_N), abs=0.03)
    assert weighted > click.mean() + 0.2


@pytest.mark.parametrize("name", RANKERS)
def test_an_objective_without_a_label_is_named(name):
    with pytest.raises(DataError, match="objective 'click' has no labelled row among 100"):
        made(name).fit(replace(world(100), labels={"click": np.full(100, np.nan)}))
    never = world(100, click=np.zeros(100))
    with pytest.raises(DataError, match="objective 'buy' has no labelled row in which 'click' happened"):
        made(name).fit(never)
    with pytest.raises(DataError, match="no objective"):
        made(name).fit(replace(world(100), labels={}))
    with pytest.raises(DataError, match="no feature 'f9'; the rows have f0, f1, kind"):
        made(name, features=("f9",)).fit(world(100))


def test_amounts_below_zero_need_trees():
    rows = world(500, paid=np.random.default_rng(0).normal(size=500))
    with pytest.raises(DataError, match="'paid' of kind amount has the label -"):
        made("logistic").fit(rows)
    part = made("xgboost")
    part.fit(rows)
    assert abs(part.predict(rows)["paid"].mean()) < 0.2


def test_growth_stops_where_held_back_rows_gain_nothing():
    rows = world(1500)
    rows = replace(rows, labels={"click": np.random.default_rng(5).integers(0, 2, 1500).astype(float)})
    part = made("xgboost", n_trees=400, patience=5)
    part.fit(rows)
    assert part._model.boosters["click"].num_boosted_rounds() < 60
    part.fit(replace(rows, valid_N=np.zeros(1500, bool)))
    assert part._model.boosters["click"].num_boosted_rounds() == 400


@pytest.mark.parametrize("name", RANKERS)
def test_all_rows_held_back_still_fits(name):
    part = made(name)
    part.fit(replace(world(300), valid_N=np.ones(300, bool)))
    assert np.isfinite(part.predict(world(5))["click"]).all()


@pytest.mark.parametrize("name", RANKERS)
def test_a_damaged_artifact_is_refused(name, tmp_path):
    part = made(name)
    part.fit(world(300))
    part.save(tmp_path)
    (tmp_path / f"{name}.json").write_text("{")
    with pytest.raises(CorruptArtifact, match="train again"):
        made(name).load(tmp_path)
    with pytest.raises(CorruptArtifact):
        made(name).load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", RANKERS)
def test_needs_what_it_was_fitted_on(name):
    rows = world(300)
    part = made(name)
    assert part.needs == ()
    part.fit(replace(rows, feature_names=("item_views_7d", "retrieval.als", "item.price")))
    assert part.needs == (FeatureNeed("item_views_7d"), ColumnNeed("item", "price"))
    assert made(name, features=("a", "retrieval.x")).needs == (FeatureNeed("a"),)


def test_gather_finds_every_kind_of_column():
    rows = sample.candidates(2)
    names = ("user_age_years", "f1", "retrieval.two", "item.created_at", "retrieval.skipped", "no_such")
    request = Request(request_id="", user_id="", t=0, n=5, side=UserSide(features={"user_age_years": 41.0}))
    x = gather(request, rows, names)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, 0], 41)
    np.testing.assert_array_equal(x[:, 1], rows.feature("f1"))
    np.testing.assert_array_equal(x[:, 2], rows.retrieval_NS[:, 1].astype(np.float32))
    np.testing.assert_array_equal(x[:, 3], rows.columns["item.created_at"].astype(np.float32))
    assert np.isnan(x[:, 4:]).all()

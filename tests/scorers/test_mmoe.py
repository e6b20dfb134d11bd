"""The neural ranker on rows whose truth is known: what it learns, and that what it wrote is what it learned."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from feedwell.core import registry
from feedwell.core.candidates import Retrieved, merge
from feedwell.core.catalog import CatalogAsOf, CatalogTable
from feedwell.core.errors import CheckFailed, CorruptArtifact, DataError
from feedwell.core.needs import FeatureNeed, HistoryNeed
from feedwell.core.project import ObjectiveConfig
from feedwell.core.protocols import Histories, RankingRows, Setting
from feedwell.core.request import History, Request, UserSide
from feedwell.nn import columns as columns_module
from feedwell.scorers._inputs import Normaliser, age_buckets
from tests.nn.kills import counted, kill

KINDS = {
    "click": ObjectiveConfig(events=("view",)),
    "buy": ObjectiveConfig(events=("buy",), given="click"),
    "dwell": ObjectiveConfig(events=("view",), kind="duration"),
}
NEED = HistoryNeed(("buy", "view"), 5)
CONFIG = {
    "epochs": 4,
    "patience": 4,
    "batch_size": 512,
    "learning_rate": 0.02,
    "table_learning_rate": 0.3,
    "history": 5,
    "expert_layers": (16,),
    "experts": 2,
    "cross_layers": 1,
    "embedding_dim": 16,
    "user_dim": 8,
    "item_min_users": 2,
}


def made(objectives=KINDS, **config):
    part = registry.find("scorer", "mmoe")
    setting = Setting(
        name="ranker",
        objectives=objectives,
        event_types=("buy", "view", "unview"),
        undone_by={"view": "unview"},
        item_text=("title",),
    )
    return part(part.Config(**CONFIG | config), setting)


def world(n_requests=600, seed=0, first=0):
    """Items have one of four colours. A click is likelier with f0, where the user is young, and where the last items of
    the history have the candidate's colour; no feature tells the colour."""
    rng = np.random.default_rng(seed)
    per, n = 10, n_requests * 10
    group_N = np.repeat(np.arange(n_requests), per)
    item_N = (first + rng.integers(0, 80, n)) * 3 + 1
    taste_R = rng.integers(0, 4, n_requests)
    length_R = rng.integers(0, 7, n_requests)
    history = np.repeat(taste_R, length_R) + 4 * rng.integers(0, 20, int(length_R.sum()))
    age_R = rng.normal(size=n_requests).astype(np.float32)
    f0_N = rng.normal(size=n).astype(np.float32)
    fits_N = ((item_N - 1) // 3 % 4 == taste_R[group_N]) & (length_R[group_N] > 0)
    logit = 1.0 * f0_N - 0.7 * age_R[group_N] + 2.5 * fits_N - 1.0
    click = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    return RankingRows(
        features_NF=np.stack([np.where(rng.random(n) < 0.1, np.nan, f0_N), age_R[group_N]], axis=1).astype(np.float32),
        feature_names=("f0", "age"),
        user_features=("age",),
        labels={
            "click": click,
            "buy": np.where(click > 0, rng.random(n) < 0.3, np.nan).astype(float),
            "dwell": rng.exponential(30e6 * np.exp(0.5 * f0_N)),
        },
        group_N=group_N,
        weight_N=np.ones(n),
        valid_N=group_N >= n_requests * 4 // 5,
        user_N=group_N,
        item_N=item_N,
        t_N=np.full(n, 10**15),
        histories={
            NEED: Histories(
                indptr_R=np.concatenate([[0], np.cumsum(np.minimum(length_R, 5))]),
                keys_E=np.concatenate([h[-5:] for h in np.split(history, np.cumsum(length_R)[:-1])]) * 3 + 1,
                at_E=np.full(int(np.minimum(length_R, 5).sum()), 10**15 - 10**9),
                type_E=np.ones(int(np.minimum(length_R, 5).sum()), np.int16),
            )
        },
        items=catalog((first + np.arange(80)) * 3 + 1),
    )


def catalog(keys):
    """Each item says a word of its own and one that it shares."""
    texts = tuple(f"thing no{key} kind{key % 5}" for key in keys.tolist())
    table = CatalogTable(keys_M=keys, at_M=np.full(len(keys), 10**14), text_M=texts)
    return CatalogAsOf(table=table, until=10**15, offset=77)


def auc(y, p):
    n = y.sum()
    return (rankdata(p)[y > 0].sum() - n * (n + 1) / 2) / (n * (len(y) - n))


def request_of(rows, r):
    """(request, candidates) of the rows of one group, as the request path would hand them over."""
    at = np.flatnonzero(rows.group_N == r)
    h = rows.histories[NEED]
    inside = slice(h.indptr_R[r], h.indptr_R[r + 1])
    history = History(keys_L=h.keys_E[inside], at_L=h.at_E[inside], type_L=h.type_E[inside])
    side = UserSide(features={"age": float(rows.features_NF[at[0], 1])}, histories={NEED: history})
    request = Request(request_id="r", user_id="u", t=int(rows.t_N[at[0]]), n=5, side=side)
    keys, first = np.unique(rows.item_N[at], return_index=True)
    candidates = merge([("one", Retrieved(keys_N=keys, scores_N=np.zeros(len(keys))))])
    return (
        request,
        candidates.with_columns(features_NF=rows.features_NF[at[first], :1], feature_names=("f0",)),
        at[first],
    )


@pytest.fixture(scope="module")
def fitted():
    part = made()
    part.fit(world())
    return part


def test_learns_from_features_and_history(fitted):
    new, rows = world(200, seed=1), world(800)
    rows = replace(rows, labels={"click": rows.labels["click"]})
    found = []
    for config in ({}, {"history": 0}, {"history": 0, "features": ("f0",)}):
        part = made({"click": KINDS["click"]}, learning_rate=0.03, **config)
        part.fit(rows)
        found.append(auc(new.labels["click"], part.predict(new)["click"]))
    assert found[0] > 0.77, found
    assert found[1] < found[0] - 0.03, found
    assert found[2] < found[1] - 0.03, found
    blind = made(history=0)
    blind.fit(world(50))
    assert blind.needs == (FeatureNeed("f0"), FeatureNeed("age"))
    assert fitted.needs == (FeatureNeed("f0"), FeatureNeed("age"), NEED)


def test_keeps_the_mean_of_every_kind_of_outcome(fitted):
    new = world(200, seed=1)
    p = fitted.predict(new)
    for name in ("click", "dwell"):
        assert p[name].mean() == pytest.approx(new.labels[name].mean(), rel=0.12), name
    clicked = new.labels["click"] > 0
    assert p["buy"][clicked].mean() == pytest.approx(0.3, abs=0.05)


def test_curves_tell_of_training_and_of_the_best_epoch(fitted):
    curves = fitted.curves
    assert len(curves.train) == len(curves.valid) == 4
    assert curves.train[-1] < curves.train[0]
    assert curves.valid[curves.best] == min(curves.valid)


def test_a_request_gets_what_its_rows_predict(fitted):
    rows = world(30, seed=3)
    p = fitted.predict(rows)
    for r in range(30):
        request, candidates, at = request_of(rows, r)
        for name, column in fitted(request, candidates).items():
            np.testing.assert_allclose(column, p[name][at], rtol=1e-4)


def test_what_is_written_computes_what_was_learned(written):
    folder, before, part = written
    loaded = made(epochs=2, embed="text")
    loaded.load(folder)
    rows = world(40, seed=2, first=500)
    after, own = loaded.predict(rows), part.predict(rows)
    for name, column in before.items():
        np.testing.assert_allclose(after[name], column, rtol=1e-4)
        assert np.array_equal(after[name], own[name])
    untold = loaded.predict(replace(rows, items=catalog(np.empty(0, np.int64))))
    assert not np.allclose(untold["click"], after["click"], rtol=1e-3), "what the new items say counts"
    assert loaded.curves == part.curves
    assert loaded.catalog_offset == part.catalog_offset == 77
    assert {path.name for path in folder.iterdir()} == {
        "mmoe.json",
        "mmoe.safetensors",
        "content.safetensors",
        "text.json",
        "text.safetensors",
        "encode_user.onnx",
        "score.onnx",
        "curves.json",
    }


def test_an_artifact_that_differs_from_the_network_is_refused(written, tmp_path, monkeypatch):
    part = made(epochs=1, embed="text")
    part.fit(world(60))
    graphs = iter([(written[0] / name).read_bytes() for name in ("encode_user.onnx", "score.onnx")])
    monkeypatch.setattr("feedwell.scorers._mmoe_training.to_onnx", lambda *_: next(graphs))
    with pytest.raises(CheckFailed, match=r"ONNX Runtime and torch differ by .*not written"):
        part.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_artifact_is_refused(written, tmp_path):
    folder, _, _ = written
    for name in ("mmoe.json", "score.onnx", "mmoe.safetensors", "content.safetensors", "curves.json"):
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / name).write_bytes(b"{")
        with pytest.raises(CorruptArtifact, match="train again"):
            made(epochs=2, embed="text").load(tmp_path)


def test_an_artifact_of_an_earlier_version_is_refused_by_that_name(written, tmp_path):
    for path in written[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    file = tmp_path / "mmoe.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "format"}))
    with pytest.raises(CorruptArtifact, match=r"another version of feedwell.*train again"):
        made(epochs=2, embed="text").load(tmp_path)


def test_serving_imports_no_torch(written):
    folder, _, _ = written
    program = (
        "import sys, json\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from feedwell.core import registry\n"
        "from feedwell.core.project import ObjectiveConfig\n"
        "from feedwell.core.protocols import Setting\n"
        "from feedwell.testing import sample\n"
        "part = registry.find('scorer', 'mmoe')\n"
        "setting = Setting(name='ranker', event_types=('buy', 'view'), item_text=('title',))\n"
        f"made = part(part.Config(**json.loads({json.dumps(json.dumps(CONFIG))}), embed='text'), setting)\n"
        f"made.load(Path({str(folder)!r}))\n"
        "got = made(sample.request(made.needs), sample.candidates(1))\n"
        "assert list(got) == ['click', 'buy', 'dwell'] and np.isfinite(got['click']).all()\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_rows_with_unknown_labels_teach_nothing():
    rows, new = world(300), world(200, seed=1)
    known = rows.group_N < 150
    click = rows.labels["click"]
    results = []
    for lies in (np.where(known, click, np.nan), np.where(known, click, 1 - click)):
        part = made({"click": KINDS["click"]}, history=0, learning_rate=0.01, epochs=10)
        part.fit(replace(rows, labels={"click": lies}, valid_N=np.zeros(len(rows), bool)))
        results.append(auc(new.labels["click"], part.predict(new)["click"]))
    assert results[0] > 0.68
    assert results[1] < 0.6


def test_items_have_vectors_from_so_many_people_on():
    """One busy user is one, however often: what is known of an item is how different people took it."""
    rows = world(20)
    n_events = len(rows.histories[NEED].keys_E)
    held = rows.group_N >= 16

    def known(user_N, item, of_history, **config):
        histories = {NEED: replace(rows.histories[NEED], keys_E=np.full(n_events, of_history))}
        part = made(epochs=1, **config)
        part.fit(replace(rows, user_N=user_N, item_N=np.full(200, item), histories=histories))
        return part._model.inputs.items_I.tolist()

    assert known(np.zeros(200, np.int64), 7, 9, item_min_users=2) == []
    assert known(rows.group_N % 3, 7, 9, item_min_users=2) == [7, 9]
    assert known(rows.group_N % 3, 7, 9, item_min_users=4) == []
    assert known(rows.group_N % 3, 7, 9, item_min_users=2, history=0) == [7]
    assert known(rows.group_N % 3, 7, -1, item_min_users=4) == [], "an event about no item counts for none"
    assert known(1 + held, 7, 9, item_min_users=2) == [], "who is held back is as new as a request"


def test_rows_that_do_not_say_whose_they_are_are_told():
    with pytest.raises(DataError, match=r"no user_N, item_N, t_N or history of \('buy', 'view'\)"):
        made().fit(replace(world(20), histories={}))
    with pytest.raises(DataError, match="no user_N, item_N"):
        made(history=0).fit(replace(world(20), user_N=np.empty(0, np.int64)))
    with pytest.raises(DataError, match="no feature 'f9'"):
        made(features=("f9",)).fit(world(20))
    with pytest.raises(DataError, match="no labelled row"):
        made().fit(replace(world(20), labels={"click": np.full(200, np.nan)}))


def test_rows_whose_windows_are_open_cannot_tell_when_to_stop():
    rows = world(100)
    late = rows.group_N >= 80
    labels = {name: np.where(late, np.nan, y) for name, y in rows.labels.items()}
    part = made(epochs=2)
    part.fit(replace(rows, labels=labels, valid_N=late, t_N=rows.t_N + rows.group_N))
    curves = part.curves
    assert curves.rows == 640
    assert len(curves.valid) == 2
    assert min(curves.valid) > 0.1


def test_training_tells_how_far_it_is():
    part, told = made(epochs=2), []
    part.progress = lambda *args: told.append(args)
    part.fit(world(60))
    assert told[-1] == ("fit ranker; at most 0 s left", 2, 2)


def test_a_fit_that_was_killed_goes_on_and_ends_with_the_same_weights(tmp_path, monkeypatch):
    rows, whole = world(200), made(epochs=3)
    whole.fit(rows)
    part, each = made(epochs=3), whole.curves.steps[-1] // 3
    part.work = tmp_path / "ranker"
    kill(monkeypatch, 2 * each, lambda: part.fit(rows))
    steps = counted(monkeypatch)
    part.fit(rows)
    assert steps[0] == each, "what was done is not done again"
    weights = whole._model.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in part._model.network.state_dict().items())
    part.fit(replace(rows, labels={**rows.labels, "dwell": rows.labels["dwell"][::-1]}))
    assert steps[0] == 4 * each, "other labels are another fit"


def test_rows_that_are_mapped_teach_the_same(tmp_path, monkeypatch):
    rows, parts = world(100), (made(epochs=1), made(epochs=1))
    parts[0].fit(rows)
    monkeypatch.setattr(columns_module, "MAPPED_ROWS", 1000)
    parts[1].work = tmp_path
    parts[1].fit(rows)
    p, again = (part.predict(rows) for part in parts)
    assert all(np.array_equal(p[name], again[name]) for name in p)


def test_equal_trainings_make_equal_artifacts(tmp_path):
    for name in "ab":
        part = made(epochs=1)
        part.fit(world(50))
        (tmp_path / name).mkdir()
        part.save(tmp_path / name)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"]
    assert files[0] == files[1]
    assert "curves.json" in files[0]


def test_loss_weights_shift_what_is_learned():
    rows = world(200)
    losses = []
    for weight in (0.0, 1.0):
        part = made(epochs=3, loss_weights={"dwell": weight})
        part.fit(rows)
        losses.append(part.predict(rows)["dwell"].std())
    assert losses[0] < losses[1]


@pytest.mark.parametrize("transform", ["quantile", "log"])
def test_numbers_are_normalised_whatever_their_size(transform):
    rng = np.random.default_rng(0)
    x_NF = np.stack(
        [rng.exponential(1e6, 5000), np.full(5000, 3.0), rng.integers(0, 2, 5000), -rng.exponential(0.01, 5000)], axis=1
    ).astype(np.float32)
    x_NF[::7, 3] = np.nan
    normaliser = Normaliser.fit(x_NF, ("a", "b", "c", "d"), transform)
    z_NG = normaliser(x_NF)
    assert z_NG.shape == (5000, 5)
    assert np.isfinite(z_NG).all()
    assert np.abs(z_NG[:, :4]).max() < 6
    assert (z_NG[:, 1] == 0).all()
    assert np.array_equal(z_NG[:, 4], np.isnan(x_NF[:, 3]))
    assert (z_NG[np.isnan(x_NF[:, 3]), 3] == 0).all()
    order = np.argsort(x_NF[:, 0])
    assert (np.diff(z_NG[order, 0]) >= 0).all()
    assert 0.3 < z_NG[:, 0].std() < 1.5
    extreme = np.array([[1e30, np.inf, -1e30, np.nan]], np.float32)
    assert np.isfinite(normaliser(extreme)).all()


def test_ages_fall_into_buckets_that_double():
    minutes = np.array([0, 1, 3, 7, 60 * 24, 10**9]) * 60_000_000
    assert age_buckets(minutes).tolist() == [0, 2, 4, 6, 20, 47]
    assert age_buckets(np.array([-5])).tolist() == [0]

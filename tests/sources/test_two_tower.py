"""Two towers in a shop of four tastes, where the truth is known: what a user likes, and what a new item is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from feedwell.core import registry
from feedwell.core.catalog import CatalogTable, FollowsCatalog
from feedwell.core.clock import DAY, HOUR, MINUTE
from feedwell.core.errors import CheckFailed, CorruptArtifact, NotTrained, UsageError
from feedwell.core.protocols import Interactions, Setting
from feedwell.core.request import History, Request, UserSide
from feedwell.nn import columns as columns_module
from feedwell.nn.two_tower import AGES, PLACES, Bags, Sizes
from feedwell.nn.two_tower import Towers as Network
from feedwell.sources import _two_tower_fit
from feedwell.sources._towers import Columns, ages, places
from tests.nn.kills import counted, kill

TwoTower = registry.find("source", "two_tower")
N_ITEMS, N_USERS, NOW = 80, 120, 1_700_000_000_000_000
WORDS = ("red shoes sport", "blue novel book", "green tea leaf", "old guitar song")
SMALL = {
    "embedding_dim": 16,
    "hidden_dim": 16,
    "batch_size": 128,
    "negatives": 64,
    "epochs": 12,
    "history": 10,
    "k": 10,
    "id_dropout": 0.3,
    "dropout": 0.2,
    "temperature": 0.1,
    "table_learning_rate": 0.05,
}
SETTING = Setting(
    name="source.two_tower",
    seed=5,
    event_types=("view",),
    item_columns=("price", "maker", "available"),
    item_text=("title",),
    user_columns=("taste",),
    categories=frozenset({"item.maker", "user.taste"}),
    embedders={},
    extra={"available": "available"},
)


def catalog(keys, at=0):
    keys = np.asarray(keys, np.int64)
    taste = keys % 4
    return CatalogTable(
        keys_M=keys,
        at_M=np.full(len(keys), at),
        numbers={"price": keys % 7 * 1.0, "maker": taste * 1.0, "available": np.ones(len(keys))},
        text_M=tuple(WORDS[t] for t in taste),
    )


def interactions(seed=0, n_seen=N_ITEMS, columns=True):
    """Four of five events are on the user's own taste, on the first `n_seen` items."""
    rng = np.random.default_rng(seed)
    user_E = np.repeat(np.arange(N_USERS), 12)
    own = rng.random(len(user_E)) < 0.8
    item_E = rng.integers(0, n_seen // 4, len(user_E)) * 4 + np.where(own, user_E % 4, rng.integers(0, 4, len(user_E)))
    at_E = NOW - rng.integers(1, 20 * DAY, len(user_E))
    order = np.argsort(at_E, kind="stable")
    return Interactions(
        user_E=user_E[order],
        item_E=item_E[order],
        at_E=at_E[order],
        type_E=np.zeros(len(order), np.int16),
        types=("view",),
        until=NOW,
        catalog={"item": catalog(np.arange(N_ITEMS))},
        catalog_offset=77,
        user_columns={"user.taste": (user_E[order] % 4) * 1.0} if columns else {},
    )


def fitted(data=None, setting=SETTING, **options):
    made = TwoTower(TwoTower.Config(**{**SMALL, **options}), setting)
    made.fit(interactions() if data is None else data)
    return made


def steps_of(part):
    """How many steps its training took."""
    return part.curves.steps[-1]


@pytest.fixture(scope="module")
def trained():
    return fitted()


def ask(part, history=(), *, taste=None, deltas=None, **more):
    need = part.needs[0]
    keys_L = np.array(history, np.int64)
    at_L = NOW - HOUR - np.arange(len(keys_L))[::-1] * MINUTE
    side = UserSide(
        histories={need: History(keys_L=keys_L, at_L=at_L, type_L=np.zeros(len(keys_L), np.int16))},
        features={} if taste is None else {"user.taste": float(taste)},
    )
    named = {} if deltas is None else {"source.two_tower": deltas}
    return Request(request_id="", user_id="", t=NOW, n=10, side=side, deltas=named, **more)


def share(keys, taste):
    return float(np.mean(keys % 4 == taste)) if len(keys) else float("nan")


def test_a_history_brings_its_own_taste(trained):
    for taste in range(4):
        got = trained(ask(trained, [taste, taste + 4, taste + 8]))
        assert share(got.keys_N, taste) > 0.7


def test_columns_alone_serve_a_stranger_where_that_is_wanted(trained):
    ready = TwoTower(TwoTower.Config(**SMALL, strangers=True), SETTING)
    ready._model = trained._model
    for taste in range(4):
        assert share(ready(ask(ready, taste=taste)).keys_N, taste) > 0.7
    assert not len(ready(ask(ready)).keys_N)
    assert not len(trained(ask(trained, taste=1)).keys_N)


def test_items_that_nobody_touched_are_found_by_what_they_are():
    made = fitted(interactions(n_seen=60), k=80)
    cold, shares = np.arange(60, 80), []
    for taste in range(4):
        keys = made(ask(made, [taste, taste + 4])).keys_N
        assert np.isin(cold, keys).all()
        shares.append(share(keys[np.isin(keys, cold)][:5], taste))
    assert np.mean(shares) > 0.75


def test_without_columns_and_content_a_cold_item_says_nothing():
    made = fitted(interactions(n_seen=60), k=80, embed="", item_columns=())
    got = made(ask(made, [1, 5]))
    assert len(set(got.scores_N[np.isin(got.keys_N, np.arange(60, 80))].round(5))) == 1


def test_shuffled_histories_teach_nothing():
    data = interactions(columns=False)
    mixed = replace(data, user_E=np.random.default_rng(1).permutation(data.user_E))
    right, wrong = fitted(data), fitted(mixed)
    shares = [np.mean([share(p(ask(p, [t, t + 4, t + 8])).keys_N, t) for t in range(4)]) for p in (right, wrong)]
    assert shares[0] > 0.7 > 0.5 > shares[1]
    assert right.curves.valid[right.curves.best] < wrong.curves.valid[wrong.curves.best]


@pytest.mark.parametrize("timed", [True, False])
def test_lists_without_an_order_are_watched_on_users_that_training_does_not_see(monkeypatch, timed):
    seen = {}

    def noted(network, loss, data, config, run):
        seen.update({k: part.take(torch.arange(part.n_rows))["start"] for k, part in vars(data).items()})
        return fit_network(network, loss, data, config, run)

    fit_network = _two_tower_fit.fit_network
    monkeypatch.setattr(_two_tower_fit, "fit_network", noted)
    data = interactions()
    fitted(data if timed else replace(data, at_E=np.zeros_like(data.at_E)), context="others", epochs=1)
    train, valid = (np.unique(seen[name].numpy()) for name in ("train", "valid"))
    assert not np.isin(valid, train).any()
    assert 0 < len(valid) <= 0.15 * N_USERS


@pytest.mark.parametrize("sizes", [[6] * 99 + [600], [5] * 100 + [1500], [300, 300], [250] * 3, [600]])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_there_is_always_something_to_watch_however_long_the_lists(sizes, seed):
    config = TwoTower.Config(context="others")
    list_N = np.repeat(np.arange(len(sizes)), sizes)
    valid_N = _two_tower_fit._valid(config, np.arange(len(list_N)), list_N, seed)
    assert 50 <= valid_N.sum() <= round(config.valid_share * len(list_N))


def test_a_new_item_is_found_at_once_and_a_changed_one_by_its_new_row(trained):
    assert isinstance(trained, FollowsCatalog)
    assert trained.catalog_offset == 77
    rows = catalog([1002, 1003], at=NOW + 1)
    delta = trained.grown(rows, None)
    got = trained(ask(trained, [2, 6, 10], deltas=delta))
    assert 1002 in got.keys_N
    assert 1003 not in got.keys_N
    moved = catalog([2, 1002], at=NOW + 2)
    moved = replace(moved, text_M=(WORDS[3],) * 2, numbers={**moved.numbers, "maker": np.array([3.0, 3.0])})
    both = trained.grown(moved, delta)
    every = TwoTower(TwoTower.Config(**{**SMALL, "k": 200}), SETTING)
    every._model = trained._model
    before, after = (every(ask(every, [6, 10], deltas=d)) for d in (delta, both))
    was, now = (dict(zip(got.keys_N.tolist(), got.scores_N, strict=True)) for got in (before, after))
    # What has no embedding of its own is what its row says; of what has one the row is a part.
    assert now[1002] < was[1002] - 1
    assert now[2] != was[2]
    assert now[6] == was[6]
    assert len(after.keys_N) == len(before.keys_N) == N_ITEMS + 2


def test_growing_in_steps_is_growing_at_once_and_changes_nothing_before(trained):
    one, two = catalog([1001, 1005], at=NOW + 1), catalog([1000, 1005], at=NOW + 2)
    first = trained.grown(one, None)
    kept = first.shelf.vectors_MD.copy()
    steps = trained.grown(two, first)
    whole = trained.grown(catalog([1000, 1001, 1005], at=NOW + 2), None)
    assert steps.shelf.keys_M.tolist() == whole.shelf.keys_M.tolist() == [1000, 1001, 1005]
    np.testing.assert_allclose(steps.shelf.vectors_MD, whole.shelf.vectors_MD, rtol=1e-6)
    np.testing.assert_array_equal(first.shelf.vectors_MD, kept)


def test_rows_that_an_artifact_of_an_earlier_time_has_make_no_delta():
    """A replay tells it all rows in their order."""
    part = fitted(replace(interactions(), catalog={"item": catalog(np.arange(N_ITEMS), at=5)}, catalog_offset=-1))
    assert part.grown(catalog(np.arange(N_ITEMS), at=5), None) is None
    assert part.grown(catalog(np.arange(N_ITEMS), at=2), None) is None
    assert part.grown(catalog([3, 1001], at=5), None).shelf.keys_M.tolist() == [1001]


def test_a_row_that_comes_late_counts_by_its_time():
    """What is loaded later may have been available earlier: after the artifact's row, and before its last event."""
    data = interactions()
    without = catalog(np.arange(1, N_ITEMS), at=5)
    part = fitted(replace(data, catalog={"item": without}))
    late = replace(catalog([0, 1, 2], at=NOW - DAY), at_M=np.array([0, 4, 5]))
    # Of item 0 only events were known; the artifact's row of item 1 is newer; that of item 2 is corrected.
    assert part.grown(late, None).shelf.keys_M.tolist() == [0, 2]
    assert part.grown(catalog([1], at=NOW - DAY), None).shelf.keys_M.tolist() == [1]


def test_the_newest_row_counts_in_whatever_order_rows_come(trained):
    new, old = (replace(catalog([1002], at=at), text_M=(WORDS[w],)) for at, w in ((NOW + 2, 2), (NOW + 1, 3)))
    once = trained.grown(new, None)
    for first, second in ((new, old), (old, new)):
        both = trained.grown(second, trained.grown(first, None))
        np.testing.assert_array_equal(both.shelf.vectors_MD, once.shelf.vectors_MD)
    again = trained.grown(replace(new, text_M=(WORDS[3],)), once)
    assert not np.array_equal(again.shelf.vectors_MD, once.shelf.vectors_MD), "of one time the later one counts"


def test_what_was_undone_stands_in_histories_and_is_not_learned_to_be_found(monkeypatch):
    seen = {}

    def noted(config, items, events, run):
        seen.update(vars(events))
        seen["samples"] = _two_tower_fit._samples(config, events)["self"].numpy()
        return train(config, items, events, run)

    train = _two_tower_fit.train
    monkeypatch.setattr(_two_tower_fit, "train", noted)
    data = interactions()
    undone_E = np.zeros(len(data.user_E), np.bool_)
    undone_E[::3] = True
    gone = replace(data, item_E=np.where(undone_E & (data.item_E == 7), 2000, data.item_E), undone_E=undone_E)
    part = fitted(gone, epochs=1)
    order = np.argsort(seen["user_E"], kind="stable")
    assert 2000 not in part._model.shelf.keys_M
    assert len(seen["row_E"]) == (gone.item_E != 2000).sum()
    assert seen["undone_E"].sum() == (undone_E & (gone.item_E != 2000)).sum() > 100
    assert not seen["undone_E"][order][seen["samples"]].any()
    standing = len(np.unique(np.stack([gone.user_E, gone.item_E])[:, ~undone_E], axis=1).T)
    assert 0.8 * standing < len(seen["samples"]) <= standing


def test_where_there_is_nothing_to_learn_nothing_is_found():
    data = interactions(columns=False)
    first_E = np.unique(data.user_E, return_index=True)[1]
    once = replace(
        data,
        **{name: getattr(data, name)[np.sort(first_E)] for name in ("user_E", "item_E", "at_E", "type_E")},
    )
    part = fitted(once)
    assert not len(part(ask(part, [1, 5])).keys_N)
    assert part.grown(catalog([1002], at=NOW + 1), None) is None


@pytest.mark.parametrize(("known", "expected"), [(SETTING.item_columns, "expected some of price"), ((), "it has none")])
def test_an_item_column_that_is_none_is_refused(known, expected):
    with pytest.raises(UsageError, match=rf"two_tower.item_columns: 'nope' is no number.*{expected}"):
        TwoTower(TwoTower.Config(item_columns=("nope",)), replace(SETTING, item_columns=known))


def test_a_history_of_new_items_counts(trained):
    delta = trained.grown(catalog([1003, 1007], at=NOW + 1), None)
    assert not len(trained(ask(trained, [1003, 1007])).keys_N)
    assert share(trained(ask(trained, [1003, 1007], deltas=delta)).keys_N, 3) > 0.7


def test_what_is_avoided_is_left_out_of_both(trained):
    delta = trained.grown(catalog([1002], at=NOW + 1), None)
    got = trained(ask(trained, [2, 6], deltas=delta, skip=np.array([10, 1002]), exclude=np.array([14])))
    assert len(got.keys_N) == 10
    assert not np.isin([10, 14, 1002], got.keys_N).any()


def test_requests_with_other_deltas_are_answered_together(trained):
    deltas = [None, trained.grown(catalog([1002], at=NOW + 1), None), trained.grown(catalog([1006], at=NOW + 1), None)]
    asks = [ask(trained, [2, 6, 10], deltas=d) for d in deltas]
    for one, got in zip(asks, trained.batch(asks), strict=True):
        assert trained(one).keys_N.tolist() == got.keys_N.tolist()


def test_serving_does_not_load_torch(trained, tmp_path):
    trained.save(tmp_path)
    want = trained(ask(trained, [1, 5, 9], taste=1)).keys_N.tolist()
    code = f"""
import json, sys
sys.path.insert(0, {str(__file__.rpartition("/tests/")[0])!r})
from tests.sources.serve_two_tower import answer
print(json.dumps([answer({str(tmp_path)!r}), "torch" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [want, False]


def test_a_table_for_histories_is_served_too(tmp_path):
    made, loaded = (TwoTower(TwoTower.Config(**SMALL, history_table=True), SETTING) for _ in range(2))
    made.fit(interactions())
    made.save(tmp_path)
    loaded.load(tmp_path)
    want = made(ask(made, [1, 5]))
    assert share(want.keys_N, 1) > 0.7
    assert loaded(ask(loaded, [1, 5])).keys_N.tolist() == want.keys_N.tolist()
    weights = made._model.towers.weights
    without = replace(made._model.towers, weights={n: w for n, w in weights.items() if n != "history.weight"})
    of_item = np.array([3]), np.zeros((1, weights["history_static.weight"].shape[1]), np.float32)
    category = np.zeros((1, 1), np.int64)
    (own, in_history), (own_too, bare) = (towers.item(*of_item, category) for towers in (made._model.towers, without))
    np.testing.assert_array_equal(own, own_too)
    np.testing.assert_allclose(in_history - bare, weights["history.weight"][[3]], atol=1e-5)
    assert np.abs(weights["history.weight"][1:]).max() > 0.05  # of a first size of .01: it was trained


@pytest.mark.parametrize("table", [False, True])
def test_an_item_that_does_without_its_id_stands_in_a_history_as_one_that_has_none(table):
    rng = torch.Generator().manual_seed(0)
    sizes = Sizes(
        n_ids=5,
        embedding_dim=4,
        hidden_dim=3,
        item_static=2,
        item_categories=(3,),
        user_numbers=0,
        user_categories=(),
        history_table=table,
    )
    network = Network(sizes, temperature=0.2, dropout=0.0)
    for p in network.parameters():
        torch.nn.init.normal_(p, generator=rng)
    id_U, of_BL = torch.tensor([0, 2, 4, 5]), torch.tensor([[0, 1, 1], [3, 2, 0]])
    nameless_BL = torch.tensor([[False, True, False], [True, True, False]])
    static_US, category_UC = torch.randn(4, 2, generator=rng), torch.tensor([[0], [1], [2], [1]])
    bags = Bags(id_U=id_U, static_US=static_US, category_UC=category_UC, of_BL=of_BL, nameless_BL=nameless_BL)
    there_BL, step_BL = torch.tensor([[True, True, True], [True, True, False]]), torch.zeros(2, 3, dtype=torch.long)
    weight_BL = network.weights_BL(bags, step_BL, step_BL, there_BL)
    places = torch.arange(6).view(2, 3)  # the same histories, each place an item of its own
    each = Bags(
        id_U=id_U[of_BL].masked_fill(nameless_BL, 0).flatten(),
        static_US=static_US[of_BL].view(6, 2),
        category_UC=category_UC[of_BL].view(6, 1),
        of_BL=places,
        nameless_BL=None,
    )
    want_BL = network.weights_BL(each, step_BL, step_BL, there_BL)
    torch.testing.assert_close(weight_BL, want_BL)
    torch.testing.assert_close(weight_BL.sum(1), torch.ones(2))
    torch.testing.assert_close(network.pooled(bags, weight_BL), network.pooled(each, want_BL))


def test_equal_trainings_make_equal_artifacts(tmp_path):
    files = []
    for name in "ab":
        (tmp_path / name).mkdir()
        fitted(epochs=2).save(tmp_path / name)
        files.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert {"two_tower.safetensors", "two_tower.json", "text.safetensors", "text.json"} == set(files[0])


DAMAGE = {
    "empty": lambda meta: {},
    "no object": lambda meta: [],
    "no offset": lambda meta: {n: v for n, v in meta.items() if n != "catalog_offset"},
    "no columns": lambda meta: meta | {"item": []},
    "no number": lambda meta: meta | {"temperature": "x"},
    "no curves": lambda meta: meta | {"curves": []},
    "other arrays": lambda meta: meta | {"shapes": meta["shapes"] | {"weight.history.weight": [81, 16]}},
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_artifact_is_refused(trained, tmp_path, how):
    trained.save(tmp_path)
    file = tmp_path / "two_tower.json"
    file.write_text(json.dumps(DAMAGE[how](json.loads(file.read_text()))))
    with pytest.raises(CorruptArtifact, match="train again"):
        TwoTower(TwoTower.Config(**SMALL), SETTING).load(tmp_path)


def test_an_artifact_of_an_earlier_version_is_refused_by_that_name(trained, tmp_path):
    trained.save(tmp_path)
    file = tmp_path / "two_tower.json"
    file.write_text(json.dumps({n: v for n, v in json.loads(file.read_text()).items() if n != "format"}))
    with pytest.raises(CorruptArtifact, match=r"another version of feedwell.*train again"):
        TwoTower(TwoTower.Config(**SMALL), SETTING).load(tmp_path)


def test_a_fit_that_was_killed_goes_on_and_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = fitted(epochs=3)
    part = TwoTower(TwoTower.Config(**{**SMALL, "epochs": 3}), SETTING)
    part.work = tmp_path / "source.two_tower"
    kill(monkeypatch, steps_of(whole) * 2 // 3, lambda: part.fit(interactions()))
    steps = counted(monkeypatch)
    part.fit(interactions())
    assert steps[0] == steps_of(whole) // 3, "what was done is not done again"
    for name, value in whole._model.towers.weights.items():
        np.testing.assert_array_equal(part._model.towers.weights[name], value)
    part.fit(interactions(seed=1))
    assert steps[0] == steps_of(whole) // 3 + steps_of(part), "other data is another fit"
    folders = [path.name for path in part.work.iterdir()]
    assert len(folders) == 2


def test_samples_that_are_mapped_teach_the_same(tmp_path, monkeypatch):
    whole = fitted(epochs=1)
    monkeypatch.setattr(columns_module, "MAPPED_ROWS", 100)
    part = TwoTower(TwoTower.Config(**{**SMALL, "epochs": 1}), SETTING)
    part.work = tmp_path
    part.fit(interactions())
    for name, value in whole._model.towers.weights.items():
        np.testing.assert_array_equal(part._model.towers.weights[name], value)


def test_towers_that_serve_otherwise_than_trained_are_refused(monkeypatch):
    right = _two_tower_fit._towers

    def off(network):
        made = right(network)
        return replace(made, weights={**made.weights, "age": made.weights["age"] + np.arange(AGES, dtype=np.float32)})

    monkeypatch.setattr(_two_tower_fit, "_towers", off)
    with pytest.raises(CheckFailed, match="differ by"):
        fitted(epochs=1)


def test_distances_and_ages_are_read_as_in_training():
    for n in (1, 2, 9, 60):
        torch_L = torch.log2(torch.arange(1, n + 1).float()).long().clamp(max=PLACES - 1)
        assert places(n, PLACES).tolist() == torch_L.tolist()[::-1]
    age_us = np.array([0, 1, 59_999_999, 60_000_000, 180_000_000, 10 * DAY, 10**18])
    torch_age = torch.log2(torch.from_numpy(age_us).clamp(min=1).double() / 60_000_000 + 1).long().clamp(0, AGES - 1)
    assert ages(age_us, AGES).tolist() == torch_age.tolist() == [0, 0, 0, 1, 2, 13, 23]


def test_columns_are_read_as_fitted():
    made = Columns.fit(
        {"price": np.array([1.0, 2, 3, np.nan, 100]), "maker": np.array([7.0, 9, 7, np.nan, 9])}, ["maker"]
    )
    numbers, categories = made.read(
        {"price": np.array([1.0, 100, 1e9, np.nan]), "maker": np.array([7, 9, 8, np.nan])}, 4
    )
    assert numbers.tolist() == [[-1, 0], [1, 0], [1, 0], [0, 1]]
    assert categories[:, 0].tolist() == [1, 2, 0, 0]
    nothing, none = made.read({}, 2)
    assert nothing.tolist() == [[0, 1], [0, 1]]
    assert none.tolist() == [[0], [0]]


def test_events_of_one_moment_do_not_know_of_each_other():
    config = TwoTower.Config(**SMALL)
    events = _two_tower_fit.Events(
        user_E=np.array([1, 1, 1, 2, 1]),
        row_E=np.array([4, 5, 6, 7, 4]),
        at_E=np.array([10, 20, 20, 20, 30]),
        undone_E=np.zeros(5, np.bool_),
        numbers_EF=np.zeros((5, 0), np.float32),
        category_EC=np.zeros((5, 0), np.int64),
        category_sizes=(),
    )
    samples = _two_tower_fit._samples(config, events)
    told = {name: samples[name].tolist() for name in ("self", "start", "stop")}
    # The first has no past, the last is a repeat; both of moment 20 know of moment 10 only.
    assert told == {"self": [1, 2], "start": [0, 0], "stop": [1, 1]}
    undone = replace(events, undone_E=np.array([True, False, True, False, False]))
    samples = _two_tower_fit._samples(config, undone)
    told = {name: samples[name].tolist() for name in ("self", "start", "stop")}
    # The first was taken back: in histories it stands, and the last is the first that was not.
    assert told == {"self": [1, 3], "start": [0, 0], "stop": [1, 3]}


def test_untrained_it_follows_nothing():
    made = TwoTower(TwoTower.Config(), SETTING)
    assert made.catalog_offset == -1
    with pytest.raises(NotTrained):
        made.grown(catalog([1]), None)

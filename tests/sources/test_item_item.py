"""Neighbours and EASE beside their formulas written out densely, in float64."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_array

from feedwell.core import registry
from feedwell.core.errors import CorruptArtifact, DataError
from feedwell.core.protocols import Interactions, Setting
from feedwell.core.request import History, Request, UserSide
from feedwell.sources import item_knn
from feedwell.sources._item_item import Incidence, ItemWeights, strongest
from feedwell.sources.ease import pruned

ItemKnn, Ease = registry.find("source", "item_knn"), registry.find("source", "ease")
KEYS = np.arange(30) * 5 + 2


def setting(name="part"):
    return Setting(name=name, event_types=("like",))


def interactions(user_E, item_E, undone_E=None):
    n = len(user_E)
    return Interactions(
        user_E=np.array(user_E),
        item_E=np.array(item_E),
        at_E=np.arange(n),
        type_E=np.zeros(n, np.int16),
        types=("like",),
        undone_E=undone_E,
    )


def world(n_users=80, n=900, seed=0):
    rng = np.random.default_rng(seed)
    user_E = rng.integers(0, n_users, n)
    return interactions(user_E, KEYS[np.minimum(rng.geometric(0.12, n) - 1, len(KEYS) - 1)])


def dense(data):
    """X as ones and zeros, with the users as rows."""
    users, user_E = np.unique(data.user_E, return_inverse=True)
    x_UI = np.zeros((len(users), len(KEYS)))
    x_UI[user_E, (data.item_E - 2) // 5] = 1
    return x_UI[:, x_UI.any(axis=0)]


def fitted(part, data, **options):
    made = part(part.Config(**options), setting())
    made.fit(data)
    return made


def ask(part, keys, **fields):
    keys_L = np.array(keys, np.int64)
    made = History(keys_L=keys_L, at_L=keys_L, type_L=np.zeros(len(keys_L), np.int16))
    side = UserSide(histories=dict.fromkeys(part.needs, made))
    return part(Request(request_id="", user_id="", t=1, n=5, side=side, **fields))


@pytest.mark.parametrize(
    ("alpha", "beta", "gamma", "shrinkage"), [(0.5, 0.5, 0.0, 0.0), (1.0, 0.3, 1.0, 0.0), (0.5, 0.5, 0.0, 25.0)]
)
def test_neighbours_weigh_what_the_formula_says(alpha, beta, gamma, shrinkage):
    data = world()
    x = dense(data)
    c = x.T @ (x / x.sum(axis=1, keepdims=True) ** gamma)
    n = x.sum(axis=0)
    expected = c / (n[:, None] ** alpha * n[None, :] ** beta + shrinkage)
    np.fill_diagonal(expected, 0)
    keys = {"history_exponent": alpha, "popularity_exponent": beta, "user_exponent": gamma, "shrinkage": shrinkage}
    got = fitted(ItemKnn, data, neighbours=100, **keys)
    np.testing.assert_allclose(got._weights.rows.toarray(), expected, rtol=1e-5)
    for few in (1, 4):
        rows = fitted(ItemKnn, data, neighbours=few, **keys)._weights.rows.toarray()
        for row, whole in zip(rows, expected, strict=True):
            assert (row > 0).sum() == few
            assert row[row > 0].min() >= np.sort(whole)[-few] * (1 - 1e-5)


def test_blocks_of_rows_make_the_same_neighbours(monkeypatch):
    whole = fitted(ItemKnn, world(), user_exponent=0.5)
    monkeypatch.setattr(item_knn, "_BLOCK_ENTRIES", 70)
    blocks = list(item_knn._shared_users(Incidence.of(world(), 1000).has_UI, 0.5))
    assert len(blocks) > 3
    assert sum(block.shape[0] for block in blocks) == len(whole._weights.keys_I)
    in_blocks = fitted(ItemKnn, world(), user_exponent=0.5)
    np.testing.assert_array_equal(in_blocks._weights.rows.toarray(), whole._weights.rows.toarray())


@pytest.mark.parametrize("regularization", [3.0, 80.0])
def test_ease_solves_its_constrained_least_squares(regularization):
    """At the minimum, no weight off the diagonal has a gradient: Xᵀ(XB - X) + λB is diagonal."""
    data = world()
    x = dense(data)
    b = fitted(Ease, data, regularization=regularization, neighbours=100)._weights.rows.toarray().astype(np.float64)
    assert not b.diagonal().any()
    gradient = x.T @ (x @ b - x) + regularization * b
    scale = np.abs(x.T @ x).max()
    off = gradient[~np.eye(len(gradient), dtype=bool)]
    assert np.abs(off).max() < 1e-4 * scale
    assert np.abs(gradient.diagonal()).min() > 1e-4 * scale  # the diagonal is held at 0 against its gradient


def test_pruning_keeps_the_greatest_of_each_row_whichever_their_sign():
    data = world()
    whole = fitted(Ease, data, neighbours=100)._weights.rows.toarray()
    kept = fitted(Ease, data, neighbours=6)._weights.rows.toarray()
    assert (kept < 0).any()
    for row, all_of_it in zip(kept, whole, strict=True):
        assert (row != 0).sum() == 6
        np.testing.assert_array_equal(row[row != 0], all_of_it[row != 0])
        assert np.abs(row[row != 0]).min() >= np.sort(np.abs(all_of_it))[-6]


def test_rows_are_unpacked_alike_from_any_block_of_the_triangle(monkeypatch):
    rng = np.random.default_rng(3)
    half = rng.normal(size=(23, 40)).astype(np.float32)
    inverse = np.asfortranarray(np.tril(half @ half.T))
    expected = half @ half.T / -np.diag(half @ half.T)
    np.fill_diagonal(expected, 0)
    for size in (1, 5, 23, 256):
        monkeypatch.setattr("feedwell.sources.ease._ROWS", size)
        for i, (columns, weights) in enumerate(pruned(inverse, 100)):
            np.testing.assert_allclose(weights, expected[i, columns], rtol=1e-5)
            assert len(columns) == 22


def test_fitting_ease_makes_one_matrix_and_no_copy_of_it():
    n = 2500
    rng = np.random.default_rng(0)
    data = interactions(rng.integers(0, 2000, 20_000), rng.integers(0, n, 20_000))
    part = Ease(Ease.Config(neighbours=5), setting())
    tracemalloc.start()
    part.fit(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    matrix = 4 * n * n
    # Beside the matrix stand blocks of 256 rows and the events, which here are a good part of it.
    assert matrix < peak < matrix + 5 * 4 * 256 * n + 60 * 20_000


def test_only_the_most_chosen_items_are_modelled():
    data = world()
    counts = dense(data).sum(axis=0)
    part = fitted(Ease, data, max_items=5)
    assert part._weights.keys_I.tolist() == np.sort(KEYS[np.argsort(-counts, kind="stable")[:5]]).tolist()


def test_what_cannot_be_inverted_is_told(monkeypatch):
    monkeypatch.setattr("feedwell.sources.ease._gram", lambda has_UI: np.full((3, 3), -1, np.float32, order="F"))
    with pytest.raises(DataError, match=r"regularization = 0\.5: raise it"):
        fitted(Ease, world(), regularization=0.5)


@pytest.mark.parametrize("part", [ItemKnn, Ease])
def test_a_taste_is_met_and_what_is_avoided_is_not(part):
    rng = np.random.default_rng(0)
    user_E = rng.integers(0, 60, 1500)
    two_tastes = interactions(user_E, rng.integers(0, 10, 1500) * 2 + user_E % 2)
    made = fitted(part, two_tastes, k=5)
    got = ask(made, [0, 2, 4], skip=np.array([0, 2, 4]), exclude=np.array([6]))
    assert set(got.keys_N % 2) == {0}
    assert not {0, 2, 4, 6} & set(got.keys_N)
    assert len(ask(made, [12345]).keys_N) == len(ask(made, []).keys_N) == 0


@pytest.mark.parametrize("part", [ItemKnn, Ease])
def test_undone_events_and_repetitions_change_nothing(part):
    data = world()
    twice = interactions(np.tile(data.user_E, 2), np.tile(data.item_E, 2))
    crossed = interactions([*data.user_E, 0], [*data.item_E, 9999], np.arange(901) == 900)
    once = fitted(part, data)._weights
    for other in (twice, crossed):
        weights = fitted(part, other)._weights
        np.testing.assert_array_equal(weights.keys_I, once.keys_I)
        np.testing.assert_array_equal(weights.rows.toarray(), once.rows.toarray())


def test_a_request_copies_no_weight_of_other_items():
    n, kept = 3_000, 200
    part = (np.arange(kept, dtype=np.int32), np.ones(kept, np.float32))
    made = ItemKnn(ItemKnn.Config(), setting())
    made._weights = ItemWeights.of(np.arange(n), [part] * n)
    ask(made, [1, 2, 3])
    tracemalloc.start()
    got = ask(made, [1, 2, 3])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(got.keys_N) == made.config.k
    assert peak < made._weights.rows.indices.nbytes / 4


def test_a_users_last_distinct_items_count():
    data = interactions([1, 1, 1, 1, 1, 2], [10, 20, 30, 10, 20, 20])
    found = Incidence.of(data, 2)
    assert found.keys_I.tolist() == [10, 20, 30]
    assert found.has_UI.toarray().tolist() == [[1, 1, 0], [0, 1, 0]]


def test_strongest_takes_the_smaller_place_where_all_tie():
    assert strongest(np.array([1, 3, 1, 0, 1, -2], np.float32), 3).tolist() == [0, 1, 2]
    assert strongest(np.array([0, 0.5], np.float32), 3).tolist() == [1]


@pytest.mark.parametrize("part", [ItemKnn, Ease])
def test_a_damaged_artifact_is_told(part, tmp_path):
    made = fitted(part, world())
    made.save(tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CorruptArtifact, match="train again"):
        part(part.Config(), setting()).load(tmp_path)


def test_the_incidence_is_sparse():
    assert isinstance(Incidence.of(world(), 10).has_UI, csr_array)

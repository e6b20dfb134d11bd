"""The solver beside the normal equations written out row by row."""

import numpy as np
import pytest

from feedwell.core import registry
from feedwell.core.protocols import Interactions, Setting
from feedwell.core.request import History, Request, UserSide
from feedwell.sources.als import _Basis, _chunks, _Side

Als = registry.find("source", "als")
SETTING = Setting(name="als", seed=3, event_types=("like",), undone_by={})


def clusters(n_users=60, n_items=20, seed=0):
    """Two tastes that never mix: even users like even items."""
    rng = np.random.default_rng(seed)
    user_E = rng.integers(0, n_users, 1500)
    item_E = rng.integers(0, n_items // 2, 1500) * 2 + user_E % 2
    return interactions(user_E, item_E)


def interactions(user_E, item_E, undone_E=None):
    zeros = np.zeros(len(user_E), np.int16)
    return Interactions(
        user_E=np.array(user_E),
        item_E=np.array(item_E),
        at_E=zeros.astype(int),
        type_E=zeros,
        types=("like",),
        undone_E=undone_E,
    )


def ask(part, keys, **fields):
    keys_L = np.array(keys, np.int64)
    made = History(keys_L=keys_L, at_L=keys_L, type_L=np.zeros(len(keys_L), np.int16))
    return Request(
        request_id="", user_id="", t=1, n=5, side=UserSide(histories=dict.fromkeys(part.needs, made)), **fields
    )


def written_out(factor, lists, config, unobserved):
    """w = (α₀ HᵀH + Σ h hᵀ + λ (n + α₀ N)^ν I)⁻¹ Σ h, in float64, one row at a time."""
    h = factor.astype(np.float64)
    rows = []
    for items in lists:
        ridge = config.regularization * (len(items) + unobserved * len(h)) ** config.frequency_exponent
        a = unobserved * h.T @ h + h[items].T @ h[items] + ridge * np.eye(h.shape[1])
        rows.append(np.linalg.solve(a, h[items].sum(axis=0)))
    return np.array(rows)


@pytest.mark.parametrize("dim", [3, 8, 40])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_solves_the_normal_equations_for_short_and_long_rows(dim, exponent):
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(50, dim)).astype(np.float32)
    lists = [rng.choice(50, n, replace=False) for n in (0, 1, 2, 7, 8, 9, 30, 50)]
    part = Als(Als.Config(embedding_dim=dim, frequency_exponent=exponent, regularization=0.05), SETTING)
    side = _Side(indptr=np.cumsum([0, *map(len, lists)]), indices=np.concatenate(lists))
    got = part._solve(side, _Basis.of(factor, 0.1))
    np.testing.assert_allclose(got, written_out(factor, lists, part.config, 0.1), rtol=2e-3, atol=2e-4)


def test_chunks_cover_every_row_once_whatever_the_lengths():
    rng = np.random.default_rng(2)
    lengths = np.concatenate([rng.integers(0, 5, 3000), [70_000, 1, 900]])
    side = _Side(indptr=np.concatenate([[0], np.cumsum(lengths)]), indices=np.arange(lengths.sum()))
    seen = {}
    for rows, padded in _chunks(side, 64, -1):
        assert padded.size * 64 <= 4_000_000 or len(rows) == 1
        seen |= {int(r): p[p >= 0].tolist() for r, p in zip(rows, padded, strict=True)}
    assert sorted(seen) == np.flatnonzero(lengths).tolist()
    assert all(items == list(range(side.indptr[r], side.indptr[r + 1])) for r, items in seen.items())


def test_a_new_user_gets_the_rest_of_the_taste_that_the_history_shows():
    part = Als(Als.Config(embedding_dim=2, k=5), SETTING)
    part.fit(clusters())
    got = part(ask(part, [0, 2, 4], skip=np.array([0, 2, 4])))
    assert set(got.keys_N % 2) == {0}
    assert not set(got.keys_N) & {0, 2, 4}
    assert set(part(ask(part, [1, 3])).keys_N % 2) == {1}


def test_undone_likes_are_not_learnt():
    data = clusters()
    crossed = interactions([*data.user_E, 0], [*data.item_E, 99], np.arange(1501) == 1500)
    part = Als(Als.Config(embedding_dim=4), SETTING)
    part.fit(crossed)
    assert 99 not in part._keys_I


def test_repeated_events_count_once():
    data = clusters()
    once, twice = (Als(Als.Config(embedding_dim=4, epochs=2), SETTING) for _ in "ab")
    once.fit(data)
    twice.fit(interactions(np.tile(data.user_E, 2), np.tile(data.item_E, 2)))
    np.testing.assert_array_equal(once._items, twice._items)


def test_nobody_known_is_nothing():
    part = Als(Als.Config(embedding_dim=4), SETTING)
    part.fit(clusters())
    assert len(part(ask(part, [1234])).keys_N) == 0
    assert len(part(ask(part, [])).keys_N) == 0


def sparse(n, each=2):
    """n users with `each` of n items: that share of all pairs is observed."""
    user, step = np.divmod(np.arange(n * each), each)
    return interactions(user, (user + step) % n)


@pytest.mark.parametrize(
    ("n", "given", "weight"),
    [(400, None, 10 * 2 / 400), (20, None, 0.1), (400, 0.2, 0.2), (20, 0.2, 0.2)],
)
def test_what_nobody_touched_weighs_by_how_much_is_observed(tmp_path, n, given, weight):
    config = Als.Config(embedding_dim=4, epochs=2, unobserved_weight=given)
    made, read = Als(config, SETTING), Als(config, SETTING)
    made.fit(sparse(n))
    made.save(tmp_path)
    read.load(tmp_path)
    assert made._basis.unobserved == pytest.approx(weight)
    assert read._basis.unobserved == made._basis.unobserved
    np.testing.assert_array_equal(read(ask(read, [1, 2])).scores_N, made(ask(made, [1, 2])).scores_N)


def test_the_default_is_the_weight_that_it_says():
    parts = [Als(Als.Config(embedding_dim=4, epochs=2, unobserved_weight=w), SETTING) for w in (None, 0.05, 0.1)]
    for part in parts:
        part.fit(sparse(400))
    default, same, other = (part._items for part in parts)
    np.testing.assert_allclose(default, same)
    assert not np.allclose(default, other)

"""Caps, relaxing, freshness and diversity, beside what they mean when written out."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from feedwell.core import registry
from feedwell.core.candidates import Retrieved, merge
from feedwell.core.clock import DAY, HOUR
from feedwell.core.needs import ColumnNeed, FeatureNeed
from feedwell.core.protocols import Setting
from feedwell.core.request import Request
from feedwell.core.sampler import build_slate
from feedwell.slates.dpp import _Kernel

T = 1_800_000_000_000_000
REQUEST = Request(request_id="", user_id="", t=T, n=6)
SETTING = Setting(name="slate", group="creator", extra={"created_at": "born"})
BOTH = ["top_k", "dpp"]


def rows(values, groups=None, keys=None, features=None, **columns):
    n = len(values)
    keys_N = np.arange(n) if keys is None else np.array(keys)
    made = merge([("a", Retrieved(keys_N=keys_N, scores_N=np.zeros(n)))])
    x_NF = np.empty((n, 0), np.float32) if features is None else np.array(features, np.float32)
    return made.with_columns(
        value_N=np.array(values, float),
        group_N=np.full(n, -1) if groups is None else np.array(groups),
        columns={f"item.{name}": np.array(c, float) for name, c in columns.items()},
        features_NF=x_NF,
        feature_names=tuple(f"f{i}" for i in range(x_NF.shape[1])),
    )


def built(kind, candidates, n=6, shown=None, request=REQUEST, **config):
    part = registry.find("slate", kind)
    step = part(part.Config(**config), SETTING).begin(request, candidates, shown)
    return build_slate(step, candidates.keys_N, n, np.random.default_rng(0))


def test_top_k_is_the_order_of_the_values():
    slate = built("top_k", rows([0.1, 0.9, 0.5]), n=2)
    assert slate.rows_n.tolist() == [1, 2]
    assert slate.utility_n.tolist() == [0.9, 0.5]


@pytest.mark.parametrize("kind", BOTH)
def test_a_cap_holds_over_the_slate_and_ends_it_short(kind):
    slate = built(kind, rows([6, 5, 4, 3, 2, 1], groups=[0, 0, 0, 0, 1, -1]), cap={"per_group": 2})
    assert sorted(slate.rows_n.tolist()) == [0, 1, 4, 5]
    assert slate.short.startswith("4 of 6")
    assert slate.relaxed == ()


def test_items_without_a_group_are_never_capped():
    slate = built("top_k", rows([3, 2, 1]), cap={"per_group": 1})
    assert slate.rows_n.tolist() == [0, 1, 2]
    by_column = built(
        "top_k", rows([3, 2, 1], merchant=[np.nan, np.nan, 4]), cap={"per_group": 1, "by": "item.merchant"}
    )
    assert by_column.rows_n.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", BOTH)
def test_earlier_pages_count(kind):
    shown = rows([0, 0], groups=[0, 1], keys=[50, 51])
    slate = built(kind, rows([3, 2, 1], groups=[0, 1, 2]), n=1, shown=shown, cap={"per_group": 1})
    assert slate.rows_n.tolist() == [2]


def test_the_prefix_is_found_among_the_candidates_where_it_is_not_handed_over():
    request = Request(request_id="", user_id="", t=T, n=1, prefix=np.array([70, 10]))
    candidates = rows([9, 3, 2, 1], groups=[0, 0, 1, 2], keys=[10, 20, 30, 40])
    candidates = candidates.dropped(np.array([True, False, False, False]), "shown")
    slate = built("top_k", candidates, n=2, request=request, cap={"per_group": 1})
    assert slate.rows_n.tolist() == [2, 3]


def test_a_window_forgets():
    candidates = rows([6, 5, 4, 1, 0.5], groups=[0, 0, 0, 1, 2])
    slate = built("top_k", candidates, n=5, cap={"per_group": 1, "window": 2})
    assert slate.rows_n.tolist() == [0, 3, 1, 4, 2]
    shown = rows([0], groups=[0], keys=[99])
    assert built("top_k", candidates, n=2, shown=shown, cap={"per_group": 1, "window": 2}).rows_n.tolist() == [3, 0]


def test_caps_relax_in_the_declared_order_and_only_where_nothing_else_is_left():
    candidates = rows([6, 5, 4, 3], groups=[0, 0, 1, 1], merchant=[7, 7, 7, 8])
    caps = ({"per_group": 1, "name": "creator"}, {"per_group": 1, "name": "shop", "by": "item.merchant"})
    strict = built("top_k", candidates, n=4, cap=caps)
    assert strict.rows_n.tolist() == [0, 3]
    one = built("top_k", candidates, n=4, cap=caps, relax=("creator",))
    assert (one.rows_n.tolist(), one.relaxed) == ([0, 3], ())
    shop = built("top_k", candidates, n=4, cap=caps, relax=("shop",))
    assert (shop.rows_n.tolist(), shop.relaxed) == ([0, 3], ())
    both = built("top_k", candidates, n=4, cap=caps, relax=("shop", "creator"))
    assert (both.rows_n.tolist(), both.relaxed) == ([0, 3, 1, 2], ("shop", "creator"))
    assert both.short == ""


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 3), st.floats(-3, 3)), min_size=1, max_size=14),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(2, 5)),
    st.sampled_from(BOTH),
)
def test_no_slate_ever_breaks_its_cap(items, per_group, window, kind):
    groups = [g for g, _ in items]
    slate = built(kind, rows([v for _, v in items], groups), n=10, cap={"per_group": per_group, "window": window})
    chosen = [groups[r] for r in slate.rows_n]
    for at in range(len(chosen)):
        recent = chosen[: at + 1] if window is None else chosen[max(0, at - window + 1) : at + 1]
        assert all(recent.count(g) <= per_group for g in recent if g >= 0)
    assert len(chosen) == 10 or slate.short


@pytest.mark.parametrize(
    "wrong", [{"relax": ("cap",)}, {"cap": ({"per_group": 1}, {"per_group": 2})}, {"cap": {"per_group": 0}}]
)
def test_caps_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        registry.find("slate", "top_k").Config(**wrong)


@pytest.mark.parametrize("kind", BOTH)
def test_freshness_lifts_what_is_new_and_halves_with_age(kind):
    candidates = rows([1.0, 1.0, 1.0, -1.0], born=[T - 2 * DAY, T, np.nan, T - DAY])
    slate = built(kind, candidates, n=4, freshness_half_life="1d", freshness=0.4)
    assert slate.rows_n.tolist() == [1, 0, 2, 3]
    sd = np.std([1, 1, 1, -1])
    z = (np.array([1, 1, 1, -1]) - 0.5) / sd
    np.testing.assert_allclose(slate.utility_n, [z[1] + 0.4, z[0] + 0.1, z[2], z[3] + 0.2])


def test_an_item_from_the_future_is_newborn():
    slate = built("top_k", rows([1.0, 2.0], born=[T + HOUR, T]), n=2, freshness_half_life="1h", freshness=0.5)
    np.testing.assert_allclose(slate.utility_n, [1.5, -0.5])


def test_declared_columns_are_needed():
    top_k, dpp = registry.find("slate", "top_k"), registry.find("slate", "dpp")
    config = top_k.Config(cap={"per_group": 1, "by": "item.merchant"}, freshness_half_life="1h")
    assert top_k(config, SETTING).needs == (ColumnNeed("item", "merchant"), ColumnNeed("item", "born"))
    config = dpp.Config(alike=("group", "item.kind"), embedding=("f0",))
    assert dpp(config, SETTING).needs == (ColumnNeed("item", "kind"), FeatureNeed("f0"))


@pytest.mark.parametrize("kind", BOTH)
def test_equal_values_and_unknown_ones_are_taken_in_key_and_retrieval_order(kind):
    assert built(kind, rows([2, 2, 2], keys=[9, 4, 6]), n=3).rows_n.tolist() == [1, 2, 0]
    slate = built(kind, rows([np.nan, 1.0, np.nan], keys=[9, 4, 6]), n=3)
    assert slate.rows_n.tolist() == [1, 0, 2]
    assert slate.unscored


# DPP


def world(seed, n=9):
    rng = np.random.default_rng(seed)
    return rows(
        rng.normal(size=n), groups=rng.integers(-1, 3, n), features=rng.normal(size=(n, 3)), kind=rng.integers(0, 3, n)
    )


CONFIG = {"diversity": 0.7, "alike": ("group", "item.kind"), "embedding": ("f0", "f1", "f2"), "distinct": 0.2}


def kernel_of(candidates, config):
    kernel = _Kernel(registry.find("slate", "dpp").Config(**config), candidates, None)
    return np.stack([kernel.row(i) for i in range(kernel.size)])


@pytest.mark.parametrize("seed", range(8))
def test_the_kernel_is_a_similarity(seed):
    k_MM = kernel_of(world(seed), CONFIG)
    np.testing.assert_allclose(k_MM, k_MM.T)
    np.testing.assert_allclose(np.diag(k_MM), 1)
    assert np.linalg.eigvalsh(k_MM).min() >= 0.2 - 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_each_choice_maximises_value_plus_the_gain_in_the_determinant(seed):
    candidates = world(seed)
    k_MM, value_N = kernel_of(candidates, CONFIG), candidates.value_N
    z_N = (value_N - value_N.mean()) / value_N.std()
    chosen = []
    for _ in range(len(z_N)):
        left = [i for i in range(len(z_N)) if i not in chosen]
        before = np.linalg.slogdet(k_MM[np.ix_(chosen, chosen)])[1] if chosen else 0.0
        gains = [np.linalg.slogdet(k_MM[np.ix_([*chosen, i], [*chosen, i])])[1] - before for i in left]
        chosen.append(left[int(np.argmax(z_N[left] + 0.7 * np.array(gains)))])
    slate = built("dpp", candidates, n=len(z_N), **CONFIG)
    assert slate.rows_n.tolist() == chosen


def test_without_diversity_it_is_top_k():
    candidates = world(3)
    assert built("dpp", candidates, diversity=0.0).rows_n.tolist() == built("top_k", candidates).rows_n.tolist()


def test_more_diversity_means_more_groups():
    candidates = rows([9, 8, 7, 3, 2], groups=[0, 0, 0, 1, 2])
    assert built("dpp", candidates, n=3, diversity=0.0).rows_n.tolist() == [0, 1, 2]
    assert built("dpp", candidates, n=3, diversity=2.0).rows_n.tolist() == [0, 3, 4]


def test_what_was_shown_counts_as_chosen():
    candidates = rows([1.0, 0.9, 0.0], groups=[0, 1, 2])
    shown = rows([0.0], groups=[0], keys=[77])
    assert built("dpp", candidates, n=1, diversity=1.0).rows_n.tolist() == [0]
    assert built("dpp", candidates, n=1, shown=shown, diversity=1.0).rows_n.tolist() == [1]


def test_a_crowd_of_twins_and_a_long_scroll_stay_feasible():
    twins = rows(np.zeros(80), groups=np.zeros(80, int), features=np.ones((80, 3)))
    shown = rows(np.zeros(200), groups=np.zeros(200, int), keys=np.arange(1000, 1200), features=np.ones((200, 3)))
    slate = built("dpp", twins, n=80, shown=shown, diversity=1.0, embedding=("f0", "f1", "f2"), distinct=0.01)
    assert len(slate.rows_n) == 80
    assert np.isfinite(slate.utility_n).all()


def test_the_pairs_it_prefers_are_less_alike():
    rng = np.random.default_rng(0)
    alike = {0.0: 0, 1.5: 0}
    for diversity in alike:
        for seed in range(30):
            candidates = rows(rng.normal(size=40), groups=np.random.default_rng(seed).integers(0, 5, 40))
            chosen = candidates.group_N[built("dpp", candidates, n=5, diversity=diversity).rows_n]
            alike[diversity] += sum(a == b for a, b in combinations(chosen.tolist(), 2))
    assert alike[1.5] < 0.3 * alike[0.0]

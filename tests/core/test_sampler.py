"""The sampler beside a slow, obvious one, and the propensity test of the design: every slate, exactly."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedwell.core import registry
from feedwell.core.candidates import Candidates, Retrieved, merge
from feedwell.core.protocols import Setting
from feedwell.core.request import Request
from feedwell.core.sampler import build_slate, choice_probabilities
from feedwell.core.slate import NO_EXPLORATION, Explore
from feedwell.testing import enumerate_slates, fits

EVERYWHERE = Explore(first=1, last=99, pool=5, temperature=0.7, epsilon=0.1)
UTILITY = st.one_of(
    st.floats(-5, 5), st.sampled_from([0.0, 1.0, -math.inf, math.nan, 1e-300, -1e300, 1e300, math.inf, 1.0 + 1e-15])
)


class Fixed:
    """A step whose utilities stand still; what was chosen is out."""

    def __init__(self, u_N):
        self.u_N, self.relaxed = np.array(u_N, float), ()

    def utilities(self):
        return self.u_N.copy()

    def choose(self, row):
        self.u_N[row] = -np.inf


def obvious(u_N, keys_N, explore):
    """`choice_probabilities` in plain Python, from the words of the design."""
    finite = [(-u, k, i) for i, (u, k) in enumerate(zip(u_N, keys_N, strict=True)) if math.isfinite(u)]
    p_N = [0.0] * len(u_N)
    if not finite:
        missing = [i for i, u in enumerate(u_N) if math.isnan(u)]
        if not missing:
            return None
        p_N[missing[0]] = 1.0
        return p_N
    best_first = sorted(finite)
    if explore is None:
        p_N[best_first[0][2]] = 1.0
        return p_N
    pool = [(-u, i) for u, _, i in best_first[: explore.pool]]
    us = [u for u, _ in pool]
    mean = math.fsum(us) / len(us)
    sd = math.sqrt(math.fsum((u - mean) ** 2 for u in us) / len(us))
    flat = sd <= 1e-12 * max(1.0, max(abs(u) for u in us))
    weights = [1.0 if flat else math.exp((u - max(us)) / (explore.temperature * sd)) for u in us]
    for (_, i), weight in zip(pool, weights, strict=True):
        p = 1 / len(us) if flat else (1 - explore.epsilon) * weight / math.fsum(weights) + explore.epsilon / len(us)
        p_N[i] = p
    return p_N


@settings(max_examples=600, deadline=None)
@given(
    st.lists(UTILITY, max_size=12),
    st.randoms(use_true_random=False),
    st.one_of(st.none(), st.builds(Explore, last=st.just(9), pool=st.integers(1, 6), epsilon=st.floats(0, 1))),
)
def test_probabilities_equal_the_obvious_ones(u, random, explore):
    keys = list(range(len(u)))
    random.shuffle(keys)
    if any(abs(x) >= 1e300 for x in u if math.isfinite(x)) and explore is not None:
        u = [x if not math.isfinite(x) or abs(x) < 1e300 else 0.0 for x in u]  # squares of these overflow in both
    got, expected = (
        choice_probabilities(np.array(u, float), np.array(keys, np.int64), explore),
        obvious(u, keys, explore),
    )
    assert (got is None) == (expected is None)
    if got is not None:
        assert got.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_ties_go_to_the_smaller_key_at_the_edge_of_the_pool_too():
    u, keys = np.array([1.0, 2.0, 1.0, 1.0]), np.array([30, 40, 10, 20])
    assert choice_probabilities(u, keys, None).tolist() == [0, 1, 0, 0]
    p = choice_probabilities(u, keys, Explore(last=1, pool=2))
    assert np.flatnonzero(p).tolist() == [1, 2]
    assert choice_probabilities(np.ones(4), keys, None).tolist() == [0, 0, 1, 0]


def test_equal_utilities_give_the_uniform_over_the_pool():
    p = choice_probabilities(np.full(6, 0.1), np.arange(6), Explore(last=1, pool=4, epsilon=0.0))
    assert p.tolist() == [0.25, 0.25, 0.25, 0.25, 0, 0]
    noisy = np.array([0.1 + 0.2, 0.3, 0.3])  # one rounding error apart
    assert choice_probabilities(noisy, np.arange(3), Explore(last=1)).tolist() == [1 / 3] * 3


def test_a_pool_smaller_than_declared_is_what_is_feasible():
    p = choice_probabilities(np.array([1.0, -np.inf, np.nan, 3.0]), np.arange(4), Explore(last=1, pool=50))
    assert np.flatnonzero(p).tolist() == [0, 3]
    assert p.sum() == pytest.approx(1)


def test_nan_never_outranks_a_number_and_fills_in_retrieval_order_when_alone():
    keys = np.array([9, 8, 7, 6])
    slate = build_slate(Fixed([np.nan, -1e9, np.nan, np.nan]), keys, 3, np.random.default_rng(0), EVERYWHERE)
    assert slate.rows_n.tolist() == [1, 0, 2]
    assert slate.unscored
    assert slate.propensity_n.tolist() == [1, 1, 1]
    assert np.isnan(slate.utility_n[1:]).all()
    assert not build_slate(Fixed([1.0, np.nan]), keys[:2], 1, np.random.default_rng(0)).unscored


def test_no_feasible_candidate_ends_the_slate_short_and_says_why():
    slate = build_slate(Fixed([1.0, -np.inf]), np.array([1, 2]), 3, np.random.default_rng(0))
    assert slate.rows_n.tolist() == [0]
    assert slate.short == "1 of 3: no feasible candidate left"
    assert build_slate(Fixed([]), np.empty(0, np.int64), 2, np.random.default_rng(0)).rows_n.tolist() == []
    assert build_slate(Fixed([1.0]), np.array([5]), 0, np.random.default_rng(0)).short == ""


def test_only_the_declared_slots_explore_counted_over_the_whole_scroll():
    explore, keys = Explore(first=2, last=3, pool=9, temperature=1.0), np.arange(9)
    u = np.linspace(1, 0, 9)
    slates = [build_slate(Fixed(u), keys, 4, np.random.default_rng(i), explore) for i in range(50)]
    assert all(s.rows_n[0] == 0 and s.propensity_n[0] == 1 for s in slates)
    assert len({int(s.rows_n[1]) for s in slates}) > 3
    assert all(s.propensity_n[3] == 1 for s in slates)
    third_page = [build_slate(Fixed(u), keys, 4, np.random.default_rng(i), explore, slot_0=3) for i in range(20)]
    assert all(s.rows_n.tolist() == [0, 1, 2, 3] for s in third_page)


def test_a_certain_slot_takes_nothing_from_the_stream():
    rng = np.random.default_rng(7)
    build_slate(Fixed([3.0, 2.0, 1.0]), np.arange(3), 3, rng, NO_EXPLORATION)
    assert rng.random() == np.random.default_rng(7).random()


def test_the_draw_follows_the_utilities_and_not_the_rows():
    u, keys = np.random.default_rng(0).normal(size=20), np.arange(20)
    order = np.random.default_rng(1).permutation(20)
    for seed in range(30):
        a = build_slate(Fixed(u), keys, 5, np.random.default_rng(seed), EVERYWHERE)
        b = build_slate(Fixed(u[order]), keys[order], 5, np.random.default_rng(seed), EVERYWHERE)
        assert keys[a.rows_n].tolist() == keys[order][b.rows_n].tolist()


@pytest.mark.parametrize(
    "wrong", [{"first": 0}, {"pool": 0}, {"temperature": 0.0}, {"epsilon": 1.5}, {"temperature": math.nan}]
)
def test_an_exploration_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="explore"):
        Explore(**wrong)


# The propensity test


def seven() -> Candidates:
    """Seven items under two caps. Whoever takes the last one first leaves room for one more: slates of 2 and of 3."""
    keys_N = np.array([11, 3, 8, 20, 5, 2, 40])
    rows = merge([("a", Retrieved(keys_N=keys_N, scores_N=np.zeros(7)))])
    return replace(
        rows,
        value_N=np.array([0.9, 0.8, 0.75, 0.5, np.nan, 0.2, 1.0]),
        group_N=np.array([0, 0, 1, 1, 1, 3, 0]),
        columns={"item.merchant": np.array([np.nan, np.nan, np.nan, 5.0, np.nan, 5.0, 5.0])},
    )


def policy():
    part = registry.find("slate", "dpp")
    cap = ({"per_group": 1}, {"per_group": 1, "by": "item.merchant", "name": "merchant"})
    return part(part.Config(diversity=0.8, alike=("group",), cap=cap), Setting(name="slate"))


REQUEST = Request(request_id="", user_id="", t=0, n=3)
N_DRAWS = 100_000


@pytest.fixture(scope="module")
def drawn():
    """(candidates, begin, the exact probabilities, counted draws, the draws' own propensities)."""
    rows = seven()
    explore = Explore(first=1, last=3, pool=4, temperature=0.8, epsilon=0.1)
    made = policy()

    def begin():
        return made.begin(REQUEST, rows)

    probabilities = enumerate_slates(begin, rows.keys_N, 3, explore)
    rng, counts, own = np.random.default_rng(20261121), Counter(), {}
    for _ in range(N_DRAWS):
        slate = build_slate(begin(), rows.keys_N, 3, rng, explore)
        key = tuple(slate.rows_n.tolist())
        counts[key] += 1
        own[key] = float(np.prod(slate.propensity_n))
    return rows, begin, probabilities, counts, own


def test_all_slates_sum_to_one_and_the_draws_match_them(drawn):
    _, _, probabilities, counts, own = drawn
    assert math.fsum(probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert {len(slate) for slate in probabilities} == {2, 3}
    assert fits(counts, probabilities) > 0.001
    assert all(own[slate] == pytest.approx(probabilities[slate], rel=1e-12) for slate in own)


def plackett_luce(rows: Candidates, slates, temperature: float) -> dict[tuple[int, ...], float]:
    """What a static model claims: softmax over values, renormalised over what is left, blind to caps and diversity."""
    weight_N = np.exp(np.nan_to_num(rows.value_N, nan=-9.0) / (temperature * np.nanstd(rows.value_N)))
    claimed = {}
    for slate in slates:
        left, p = float(weight_N.sum()), 1.0
        for row in slate:
            p *= float(weight_N[row]) / left
            left -= float(weight_N[row])
        claimed[slate] = p
    return claimed


def test_a_static_plackett_luce_fails_the_same_test(drawn):
    rows, _, probabilities, counts, _ = drawn
    claimed = plackett_luce(rows, probabilities, 0.8)
    assert abs(math.fsum(claimed.values()) - 1) > 0.05
    assert fits(counts, claimed) < 1e-6
    shared = math.fsum(claimed.values())
    assert fits(counts, {slate: p / shared for slate, p in claimed.items()}) < 1e-6

"""The request flow on a small shop: what goes in, what comes out, and that every candidate is accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedwell.pipeline.ask import Ask
from feedwell.pipeline.gather import Pace
from feedwell.pipeline.record import RETRIEVED
from feedwell.pipeline.replay import ask_of, differences

from . import parts
from .conftest import NOW, PROJECT, Shop, accounted, event, item


def with_sections(*sections: str, base: str = PROJECT) -> str:
    return base + "\n".join(sections)


def without(section: str, text: str = PROJECT) -> str:
    return re.sub(rf"\n\[{re.escape(section)}\]\n.*?(?=\n\[|\Z)", "\n", text, flags=re.S)


RANKED = with_sections('[ranker]\nkind = "test_value_is_key"\n')


def test_a_feed_is_full_recorded_and_without_repeats(shop: Shop) -> None:
    served = shop.ask("u1")
    assert len(served.item_ids) == 6
    assert len(set(served.item_ids)) == 6
    assert shop.records.get(served.record.request_id) is not None
    assert served.record.degraded == []
    assert served.record.t == max(shop.clock.now(), shop.log.high_water()[1] + 1)
    assert {"user_side", "sources", "filters", "item_side", "score", "slate", "total"} <= set(served.record.stage_ms)


def test_nothing_bought_or_expired_is_served(shop: Shop) -> None:
    shop.put(item("i0", expires_at=NOW - 1), event("buy", "u9", "i3"))
    for _ in range(10):
        served = shop.ask("u9", n=30)
        assert "i3" not in served.item_ids
        assert "i0" not in served.item_ids


def test_own_event_counts_before_it_is_folded(shop: Shop) -> None:
    assert "i5" in shop.ask("u9", n=30).item_ids
    shop.put(event("buy", "u9", "i5"), fold=False)
    served = shop.ask("u9", n=30)
    assert "i5" not in served.item_ids
    assert served.record.tail_offset > served.record.state_offset
    assert served.record.user_features["user_views_1d"] == 0


def test_t_is_after_every_event_that_could_be_read(shop: Shop) -> None:
    shop.put(event("view", "u9", "i5"), fold=False)
    tail_at = shop.log.high_water()[1]
    shop.clock.set(NOW - 1000)
    assert shop.ask("u9").record.t == tail_at + 1


@pytest.mark.parametrize("user", ["nobody", "a b", "naïve 😀", "nul\0nul", "2" * 500])
def test_unknown_and_odd_users_get_a_feed(shop: Shop, user: str) -> None:
    assert len(shop.ask(user).item_ids) == 6


def test_excluded_items_are_left_out_and_unknown_ones_ignored(shop: Shop) -> None:
    first = shop.ask("u1", n=3)
    served = shop.ask("u1", n=30, exclude=(*first.item_ids, "no such item"))
    assert not set(first.item_ids) & set(served.item_ids)


def test_zero_events_and_an_empty_catalog_are_an_empty_feed_that_says_so(shops: Callable[..., Shop]) -> None:
    served = shops(stocked=False).ask("u1")
    assert served.item_ids == ()
    assert served.record.fallback == "empty"
    assert served.record.short


def test_a_catalog_without_events_falls_back_to_the_newest(shops: Callable[..., Shop]) -> None:
    shop = shops(without("source.fresh"), stocked=False)
    shop.put(item("a"), item("b"))
    served = shop.ask("u1")
    assert set(served.item_ids) == {"a", "b"}
    assert served.record.fallback == "newest"
    assert any("fell back" in why for why in served.record.degraded)


def test_a_catalog_of_one_item(shops: Callable[..., Shop]) -> None:
    shop = shops(stocked=False)
    shop.put(item("only"))
    assert shop.ask("u1").item_ids == ("only",)


def test_the_fallback_is_filtered_too(shops: Callable[..., Shop]) -> None:
    shop = shops(stocked=False)
    shop.put(item("a"), event("buy", "u1", "a"))
    served = shop.ask("u1")
    assert served.item_ids == ()
    assert served.record.fallback == "empty"


def test_values_decide_the_order_where_nothing_explores(shops: Callable[..., Shop]) -> None:
    served = shops(RANKED).ask("u9", explore=False)
    assert served.record.keys == sorted(served.record.keys, reverse=True)
    assert served.record.propensity == [1.0] * 6
    assert served.record.predictions["value"] == pytest.approx([2.0 * k / 1000 for k in served.record.keys])


def test_exploration_writes_its_propensities(shops: Callable[..., Shop]) -> None:
    record = shops(RANKED).ask("u9").record
    assert record.propensity[0] == 1.0
    assert all(0 < p < 1 for p in record.propensity[1:4])
    assert record.propensity[4:] == [1.0, 1.0]


def test_equal_request_ids_give_equal_slates(shops: Callable[..., Shop]) -> None:
    shop = shops(RANKED)
    one, other = shop.ask("u9", request_id="r"), shop.ask("u9", request_id="r")
    assert one.record.keys == other.record.keys
    assert len({tuple(shop.ask("u9").record.keys) for _ in range(20)}) > 1


def test_two_answers_at_once_are_what_two_requests_get(shops: Callable[..., Shop]) -> None:
    """One ranking, two slates: the records of two runs, also where a part fails."""
    shop = shops(with_sections('[ranker]\nkind = "test_value_is_key"\n', '[source.bad]\nkind = "test_raises"\n'))
    pipeline = shop.compiled.base
    ask = Ask(user_id="u9", request_id="r", t=NOW + 1, user=int(shop.log.ids.lookup("user", ["u9"])[0]))
    with shop.online.reader(pipeline.features) as reader:
        both = pipeline.run_both(ask, reader)
        apart = [pipeline.run(replace(ask, explore=explore), reader) for explore in (False, True)]
    for one, other in zip(both, apart, strict=True):
        assert differences(one.record, other.record) == []
        assert [r.keys_N.tolist() for r in one.retrieved.values()] == [
            r.keys_N.tolist() for r in other.retrieved.values()
        ]
    assert both[0].record.degraded == ["source.bad: RuntimeError: the shelf fell down"]
    assert both[0].record.propensity != both[1].record.propensity


# -- parts that misbehave --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("test_raises", "RuntimeError: the shelf fell down"),
        ("test_nan", "scores are NaN"),
        ("test_million", "returned 1000000 rows, k is 20: cut"),
        ("test_odd", "invalid keys"),
    ],
)
def test_a_bad_source_costs_only_itself(shops: Callable[..., Shop], kind: str, why: str) -> None:
    served = shops(with_sections(f'[source.bad]\nkind = "{kind}"\n')).ask("u1")
    assert len(served.item_ids) == 6
    assert [d for d in served.record.degraded if d.startswith("source.bad: ") and why in d]
    assert accounted(served.record.counts) == 0


def test_odd_keys_are_refused_one_by_one(shops: Callable[..., Shop]) -> None:
    shop = shops(with_sections('[source.bad]\nkind = "test_odd"\n'))
    answer = shop.ask("nobody", n=30).answer
    bad = answer.candidates.source_names.index("source.bad")
    brought = answer.candidates.keys_N[(answer.candidates.sources_N >> np.uint64(bad)) & np.uint64(1) == 1]
    assert sorted(brought.tolist()) == [3, 5]
    assert answer.record.counts["invalid keys: source.bad"] == 4
    assert answer.record.counts["duplicates: source.bad"] == 1


def test_a_filter_that_fails_serves_nothing_rather_than_the_blocked(shops: Callable[..., Shop]) -> None:
    served = shops(with_sections('[filter.bad]\nkind = "test_breaks"\n')).ask("u1")
    assert served.item_ids == ()
    assert any(d.startswith("filter.bad: ValueError") for d in served.record.degraded)
    assert accounted(served.record.counts) == 0


@pytest.mark.parametrize("kind", ["test_scorer_breaks", "test_scorer_nan"])
def test_a_failing_ranker_leaves_a_feed(shops: Callable[..., Shop], kind: str) -> None:
    served = shops(with_sections(f'[ranker]\nkind = "{kind}"\n')).ask("u1", explore=False)
    assert len(served.item_ids) == 6
    assert any(d.startswith("ranker: ") for d in served.record.degraded)


def test_without_any_value_retrieval_order_decides(shops: Callable[..., Shop]) -> None:
    answer = shops(with_sections('[ranker]\nkind = "test_scorer_breaks"\n')).ask("u1").answer
    assert answer.record.keys == answer.scored.keys_N[:6].tolist()
    assert any("retrieval order" in d for d in answer.record.degraded)


def test_a_missing_score_never_outranks_a_scored_one(shops: Callable[..., Shop]) -> None:
    record = shops(with_sections('[ranker]\nkind = "test_scorer_nan"\n')).ask("u1", n=30, explore=False).record
    missing = [np.isnan(u) for u in record.utility]
    assert missing == sorted(missing)
    assert any(missing)


def test_a_failing_slate_policy_falls_back_to_the_value(shops: Callable[..., Shop]) -> None:
    text = RANKED.replace('kind = "top_k"', 'kind = "test_slate_breaks"')
    record = shops(text).ask("u9", explore=False).record
    assert record.keys == sorted(record.keys, reverse=True)
    assert any(d.startswith("slate: LookupError") for d in record.degraded)


# -- exact accounting ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 40),
    excluded=st.lists(st.integers(0, 40), max_size=10),
    shown=st.lists(st.integers(0, 40), max_size=10, unique=True),
    user=st.sampled_from(["u0", "u1", "u3", "nobody"]),
    bad=st.sampled_from(["test_raises", "test_nan", "test_odd", "test_million", "test_first"]),
    most=st.integers(1, 40),
)
def test_every_candidate_is_accounted_for(
    accounting_shops: dict[str, Shop], n: int, excluded: list[int], shown: list[int], user: str, bad: str, most: int
) -> None:
    shop = accounting_shops[bad]
    ask = replace(
        ask_of(shop.ask(user, n=n).record),
        exclude=np.array(excluded, np.int64),
        prefix=np.array(shown, np.int64),
        widths=None,
        width=most / 40,
    )
    pipeline = shop.compiled.base
    with shop.online.reader(pipeline.features) as reader:
        answer = pipeline.run(ask, reader)
    counts = answer.record.counts
    assert accounted(counts) == 0, counts
    assert counts[RETRIEVED] == len(np.unique(answer.candidates.keys_N)) == len(answer.candidates)
    assert counts["in slate"] == len(answer.record.keys)
    assert not set(answer.record.keys) & {*excluded, *shown}
    for reason, dropped in counts.items():
        if reason.startswith(("filter.", "cut.")):
            code = answer.candidates.reasons.index(reason)
            assert int((answer.candidates.status_N == code).sum()) == dropped


@pytest.fixture(scope="module")
def accounting_shops(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shop]:
    from .conftest import catalog, history, open_shop

    found = {}
    for bad in ("test_raises", "test_nan", "test_odd", "test_million", "test_first"):
        light = '[light]\nkind = "test_scorer_nan"\nkeep = 12\n'
        text = with_sections(f'[source.bad]\nkind = "{bad}"\n', light, base=RANKED).replace(
            "trace_share = 0.0", "trace_share = 0.0\nmax_candidates = 30"
        )
        shop = found[bad] = open_shop(tmp_path_factory.mktemp(bad), text)
        shop.put(*catalog(40), *history())
    return found


# -- in time ---------------------------------------------------------------------------------------------------------


class Watch:
    """Seconds that pass only when told: by sources that take time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Time stands still but for `test_sleeps`, whose sleep moves the watch."""
    watch = Watch()

    def sleep(seconds: float) -> None:
        watch.now += seconds

    monkeypatch.setattr(parts.time, "sleep", sleep)
    monkeypatch.setattr(parts.Sleeps, "seconds", 1.0)
    monkeypatch.setattr(parts.Sleeps, "calls", 0)
    return watch


def test_a_slow_source_is_late_once_then_skipped_then_back(shops: Callable[..., Shop], slow: Watch) -> None:
    shop = shops(with_sections('[source.slow]\nkind = "test_sleeps"\n'))
    pace = Pace.of(200.0, slow)

    def ask() -> list[str]:
        wish = shop.path.prepare(parts_wish(), pace)
        assert len(wish.item_ids) == 6
        return [d for d in wish.record.degraded if d.startswith("source.slow")]

    assert ask() == ["source.slow: took 1000 ms of a deadline of 200 ms"]
    assert pace.telemetry.value("late_requests") == 1
    assert parts.Sleeps.calls == 1
    before = slow.now
    assert "skipped" in ask()[0]
    assert slow.now == before
    assert parts.Sleeps.calls == 1
    slow.now += 1.1
    assert pace.retries.run_due() == [], "tried off the path, still slow"
    assert parts.Sleeps.calls == 3
    parts.Sleeps.seconds = 0.001
    assert "skipped" in ask()[0]
    slow.now += 2.1
    assert pace.retries.run_due() == ["source.slow"]
    assert ask() == []
    assert parts.Sleeps.calls == 5


def test_a_late_source_does_not_starve_the_feed(shops: Callable[..., Shop], slow: Watch) -> None:
    text = with_sections('[source.slow]\nkind = "test_sleeps"\n', '[source.worse]\nkind = "test_raises"\n')
    text = without("source.fresh", without("source.popular", text))
    served = shops(text).path.prepare(parts_wish(), Pace.of(200.0, slow))
    assert served.item_ids


def test_width_narrows_sources_and_candidates_and_is_recorded(shop: Shop) -> None:
    pace = Pace.of(200.0)
    pace.budget.width.value = 0.25
    served = shop.path.prepare(parts_wish(), pace)
    assert served.record.width == 0.25
    retrieved = served.answer.candidates
    per_source = [(retrieved.sources_N >> np.uint64(s) & np.uint64(1)).sum() for s in range(2)]
    assert per_source == [10, 5]


def test_a_remote_source_that_answers_is_used(shops: Callable[..., Shop]) -> None:
    shop = shops(with_sections('[source.far]\nkind = "test_remote"\n'))
    record = shop.path.prepare(parts_wish(), Pace.of(30_000.0)).record
    assert record.widths["source.far"] == 1.0
    assert record.degraded == []


def parts_wish():
    from feedwell.pipeline.path import Wish

    return Wish(user_id="u1")

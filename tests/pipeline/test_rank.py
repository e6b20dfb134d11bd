"""Candidates that the caller brings go the one request path: filters, scores, slate, record, explanation, replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedwell.core.errors import UsageError
from feedwell.pipeline.explain import explain, lines_of
from feedwell.pipeline.path import MAX_AMONG
from feedwell.pipeline.replay import differences, redrawn, replay_from_log, replay_trace

from .conftest import Shop, accounted, event, item
from .test_replay import DIVERSE, PROJECTS, stored
from .test_run import RANKED, with_sections

BROUGHT = tuple(f"i{i}" for i in (4, 9, 2, 17, 11, 20, 7))


@pytest.fixture(params=PROJECTS)
def any_shop(request: pytest.FixtureRequest, shops: Callable[..., Shop]) -> Shop:
    return shops(PROJECTS[request.param])


def test_only_what_was_brought_is_ranked_and_it_is_attributed_to_the_caller(any_shop: Shop) -> None:
    record = any_shop.ask("nobody", n=7, among=BROUGHT, explore=False).record
    served = any_shop.log.ids.names("item", record.keys)
    assert set(served) == set(BROUGHT)
    assert record.source_names == ["caller"]
    assert set(record.sources) == {1}
    assert record.counts["retrieved"] == 7
    assert accounted(record.counts) == 0


def test_the_ranker_decides_the_order_and_without_one_the_caller(shops: Callable[..., Shop]) -> None:
    plain = shops().ask("nobody", n=7, among=BROUGHT, explore=False)
    assert plain.item_ids == BROUGHT
    by_key = shops(RANKED).ask("nobody", n=7, among=BROUGHT, explore=False)
    assert by_key.record.keys == sorted(by_key.record.keys, reverse=True)


def test_the_slate_has_the_declared_length_unless_told(shop: Shop) -> None:
    assert len(shop.ask("u1", among=[f"i{i}" for i in range(30)]).item_ids) == 6


def test_filters_hold_unless_one_is_named(shop: Shop) -> None:
    shop.put(event("buy", "u9", "i9"), item("i4", expires_at=1))
    served = shop.ask("u9", n=7, among=BROUGHT)
    assert set(served.item_ids) == set(BROUGHT) - {"i9", "i4"}
    assert served.record.counts["filter.seen"] == 1
    assert served.record.counts["filter.expired"] == 1
    again = shop.ask("u9", n=7, among=BROUGHT, ignore_filters=("seen",))
    assert set(again.item_ids) == set(BROUGHT) - {"i4"}
    assert again.record.ignored_filters == ["filter.seen"]
    assert "filter.seen" not in again.record.counts
    assert accounted(again.record.counts) == 0


def test_an_undeclared_filter_cannot_be_ignored(shop: Shop) -> None:
    with pytest.raises(UsageError, match=r"ignore_filters.*'sen'.*expired, seen"):
        shop.ask("u1", among=BROUGHT, ignore_filters=("sen",))


def test_a_feed_of_our_own_ignores_no_filter(shop: Shop) -> None:
    with pytest.raises(UsageError, match="goes only with items"):
        shop.ask("u1", ignore_filters=("seen",))


def test_unknown_ids_are_listed_and_repeated_ones_count_once(shop: Shop) -> None:
    served = shop.ask("u1", n=7, among=("x", "i4", "i4", "naïve 😀", "x", "nul\0", "i9"), explore=False)
    assert set(served.item_ids) == {"i4", "i9"}
    assert served.unknown == ("x", "naïve 😀", "nul\0")
    assert served.record.counts["unknown: caller"] == 3
    assert served.record.counts["duplicates: caller"] == 2
    assert served.record.degraded == []
    assert accounted(served.record.counts) == 0


def test_a_new_item_that_no_model_knows_is_ranked(shops: Callable[..., Shop]) -> None:
    shop = shops(DIVERSE)
    shop.put(item("brand new"))
    assert "brand new" in shop.ask("u1", n=8, among=(*BROUGHT, "brand new")).item_ids


@pytest.mark.parametrize(
    ("among", "why"),
    [((), "brought no item that is known"), (("x", "y"), "brought no item that is known"), (("i3",), "passes")],
)
def test_nothing_to_rank_is_an_empty_feed_with_the_reason_and_no_fallback(
    shop: Shop, among: tuple[str, ...], why: str
) -> None:
    shop.put(event("buy", "u9", "i3"))
    served = shop.ask("u9", among=among)
    assert served.item_ids == ()
    assert why in served.short
    assert served.record.fallback == ""
    assert served.record.degraded == []
    known = [name for name in among if name == "i3"]
    assert stored(shop, served.record).among == shop.log.ids.lookup("item", known).tolist()


def test_bounds(shop: Shop) -> None:
    assert len(shop.ask("u1", among=[f"i{i}" for i in range(MAX_AMONG)]).item_ids) == 6
    with pytest.raises(UsageError, match=f"items has {MAX_AMONG + 1} ids: at most {MAX_AMONG}"):
        shop.ask("u1", among=["i1"] * (MAX_AMONG + 1))
    for bad in ("", "x" * 513, "\ud800", 5):
        with pytest.raises(UsageError, match="items: an id"):
            shop.ask("u1", among=["i1", bad])
    with pytest.raises(UsageError, match="items: a list of ids, not the text 'i1'"):
        shop.ask("u1", among="i1")


def test_a_scroll_goes_on_over_what_was_brought(shop: Shop) -> None:
    first = shop.ask("nobody", n=4, among=BROUGHT)
    second = shop.ask("nobody", n=4, among=BROUGHT, cursor=first.cursor)
    assert sorted(first.item_ids + second.item_ids) == sorted(BROUGHT)
    assert "3 of 4" in second.short


def test_the_declared_cut_holds_in_the_callers_order(shops: Callable[..., Shop]) -> None:
    shop = shops(RANKED.replace("[serving]", "[serving]\nmax_candidates = 3"))
    served = shop.ask("nobody", n=2, among=BROUGHT)
    assert served.record.counts["cut.candidates"] == 4
    assert set(served.item_ids) <= set(BROUGHT[:3])
    assert accounted(served.record.counts) == 0


def test_the_three_replays_hold(any_shop: Shop) -> None:
    any_shop.put(event("buy", "u1", "i9"))
    wish = {"n": 5, "among": (*BROUGHT, "unknown", "i4"), "ignore_filters": ("seen",)}
    record = stored(any_shop, any_shop.ask("u1", explain=True, **wish).record)
    assert differences(record, redrawn(record)) == []
    trace = any_shop.records.trace(record.request_id)
    assert trace is not None
    pipeline = any_shop.compiled.base
    for again in (replay_trace(pipeline, record, trace), replay_from_log(pipeline, record, any_shop.log)):
        assert differences(record, again.record) == []
        assert again.record.among == record.among


def test_what_is_not_shown_is_recorded_explained_and_replayed_like_all_else(any_shop: Shop) -> None:
    wish = {"n": 5, "among": BROUGHT, "shown": False}
    record = stored(any_shop, any_shop.ask("u1", explain=True, **wish).record)
    assert not record.shown
    names = lambda keys: any_shop.log.ids.names("item", keys)  # noqa: E731
    explained = explain(record, None, names, any_shop.compiled.project)
    assert (explained["shown"], len(explained["slots"])) == (False, 5)
    assert "not shown" in next(lines_of(explained))
    trace = any_shop.records.trace(record.request_id)
    assert trace is not None
    pipeline = any_shop.compiled.base
    replays = replay_trace(pipeline, record, trace), replay_from_log(pipeline, record, any_shop.log)
    for again in (redrawn(record), *(answer.record for answer in replays)):
        assert differences(record, again) == []
        assert not again.shown


def test_a_ranking_goes_on_page_by_page_whether_shown_or_not(shop: Shop) -> None:
    first = shop.ask("nobody", n=4, among=BROUGHT, shown=False)
    second = shop.ask("nobody", n=4, among=BROUGHT, shown=False, cursor=first.cursor)
    assert sorted(first.item_ids + second.item_ids) == sorted(BROUGHT)


def test_a_feed_of_our_own_is_shown(shop: Shop) -> None:
    assert shop.ask("u1").record.shown
    with pytest.raises(UsageError, match="shown goes only with items"):
        shop.ask("u1", shown=False)


def test_an_empty_request_replays(shop: Shop) -> None:
    record = stored(shop, shop.ask("u1", among=()).record)
    assert differences(record, redrawn(record)) == []
    assert differences(record, replay_from_log(shop.compiled.base, record, shop.log).record) == []


def test_explain_tells_who_brought_it_and_what_became_of_the_rest(shops: Callable[..., Shop]) -> None:
    shop = shops(RANKED)
    shop.put(event("buy", "u9", "i9"))
    record = shop.ask("u9", n=3, among=BROUGHT, explain=True).record
    names = lambda keys: shop.log.ids.names("item", keys)  # noqa: E731
    explained = explain(record, shop.records.trace(record.request_id), names, shop.compiled.project)
    assert {slot["item_id"] for slot in explained["slots"]} < set(BROUGHT)
    assert all(slot["sources"] == ["caller"] for slot in explained["slots"])
    assert {"item_id": "i9", "reason": "filter.seen"} in explained["not_shown"]
    assert len(explained["not_shown"]) == 4


def test_an_older_record_without_the_new_columns_is_read(shop: Shop) -> None:
    record = shop.ask("u1").record
    row = {k: v for k, v in record.to_dict().items() if k not in ("among", "ignored_filters", "shown")}
    assert type(record).from_dict(row) == replace(record, among=None, ignored_filters=[], shown=True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(0, 45), max_size=60), n=st.integers(1, 20), user=st.integers(0, 6))
def test_every_item_brought_is_accounted_for(shop: Shop, numbers: list[int], n: int, user: int) -> None:
    among = [f"i{i}" for i in numbers]
    served = shop.ask(f"u{user}", n=n, among=among)
    counts = served.record.counts
    assert set(served.item_ids) <= set(among)
    assert len(set(served.item_ids)) == len(served.item_ids) <= n
    assert accounted(counts) == 0
    known = {name for name in among if int(name[1:]) < 30}
    assert counts["retrieved"] == len(known)
    assert set(served.unknown) == set(among) - known
    assert counts["retrieved"] + counts.get("unknown: caller", 0) + counts.get("duplicates: caller", 0) == len(among)
    assert np.isin(served.record.keys, shop.log.ids.lookup("item", sorted(known))).all()


def test_a_filter_that_fails_serves_nothing_of_it(shops: Callable[..., Shop]) -> None:
    shop = shops(with_sections('[filter.bad]\nkind = "test_breaks"\n'))
    served = shop.ask("u1", among=BROUGHT)
    assert served.item_ids == ()
    assert any("filter.bad" in why for why in served.record.degraded)

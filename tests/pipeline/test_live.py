"""Items newer than a source's artifact: known once the state knows them, as of t in a replay, never from the future."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from feedwell.core.catalog import NO_DELTAS, FollowsCatalog
from feedwell.core.clock import SECOND
from feedwell.core.telemetry import Telemetry
from feedwell.pipeline.live import LiveCatalog
from feedwell.pipeline.path import assignments_of
from feedwell.pipeline.replay import (
    ask_of,
    batches_of,
    differences,
    live_of,
    replay_from_log,
    replay_requests,
    replay_trace,
)

from . import parts
from .conftest import NOW, PROJECT, Shop, catalog, event, item

NAME = "source.test_newcomers"
FOLLOWING = PROJECT + "\n[source.test_newcomers]\nk = 5\n"


def known(shop: Shop) -> list[str | None]:
    return shop.log.ids.names("item", sorted(shop.path.live.now.by_part.get(NAME, {})))


def retrieved(shop: Shop, answer) -> list[str | None]:
    mask = 1 << answer.record.source_names.index(NAME)
    rows = answer.answer.candidates
    return shop.log.ids.names("item", rows.keys_N[(rows.sources_N & np.uint64(mask)) > 0])


def test_a_new_item_is_retrieved_once_the_state_knows_it(shops: Callable[..., Shop]) -> None:
    shop = shops(FOLLOWING)
    shop.path.follow_catalog()
    shop.put(item("brand new", price=3.0, creator="c1"), fold=False)
    shop.path.follow_catalog()
    assert "brand new" not in known(shop)
    before = shop.ask("u1")
    assert "brand new" not in retrieved(shop, before)
    shop.projector.catch_up()
    assert "brand new" not in known(shop)
    shop.path.follow_catalog()
    after = shop.ask("u1")
    assert "brand new" in retrieved(shop, after)
    assert after.record.catalog_offset == after.record.state_offset > before.record.catalog_offset >= 0


def test_a_ranker_may_follow_the_catalog_too(shops: Callable[..., Shop]) -> None:
    shop = shops(PROJECT + '\n[ranker]\nkind = "test_reads_the_catalog"\n')
    shop.put(item("brand new", price=3.0, creator="c1"))
    assert shop.ask("u1").record.catalog_offset == -1
    shop.path.follow_catalog()
    answer = shop.ask("u1", among=["i1", "brand new"], explore=False)
    assert answer.record.catalog_offset >= 0
    value = dict(zip(answer.item_ids, answer.record.predictions["value"], strict=True))
    assert value == {"i1": 1.0, "brand new": 1.0}
    again = replay_from_log(shop.compiled.base, answer.record, shop.log)
    assert differences(answer.record, again.record) == []


def test_an_arm_that_fits_a_part_otherwise_has_deltas_of_its_own(shops: Callable[..., Shop]) -> None:
    arms = '[experiment.size]\nshare = 1.0\narms.a = {}\narms.b = { "source.sized.dim" = 2 }\n'
    shop = shops(PROJECT + '\n[source.sized]\nkind = "test_sized_newcomers"\nk = 40\n' + arms)
    shop.compiled.warm()
    shop.path.follow_catalog()
    for arm in "ab":
        user = next(f"u{i}" for i in range(100) if assignments_of(shop.compiled.project, f"u{i}") == {"size": arm})
        answer = shop.ask(user)
        assert answer.record.degraded == []
        mask = 1 << answer.record.source_names.index("source.sized")
        assert ((answer.answer.candidates.sources_N & np.uint64(mask)) > 0).sum() == 30
        pipeline = shop.compiled.pipeline("", {"size": arm})
        assert differences(answer.record, replay_from_log(pipeline, answer.record, shop.log).record) == []


def test_what_filters_rule_out_stays_out_however_new(shops: Callable[..., Shop]) -> None:
    shop = shops(FOLLOWING)
    shop.put(item("stale", price=1.0, creator="c1", expires_at=NOW - SECOND))
    shop.path.follow_catalog()
    answer = shop.ask("u1", n=30)
    assert "stale" in known(shop)
    assert "stale" in retrieved(shop, answer)
    assert "stale" not in answer.item_ids


def test_a_request_keeps_the_delta_that_it_began_with(shops: Callable[..., Shop]) -> None:
    shop = shops(FOLLOWING)
    shop.path.follow_catalog()
    then = shop.path.live.now
    keys = set(then.by_part[NAME])
    shop.put(item("later", price=1.0, creator="c1"))
    shop.path.follow_catalog()
    assert shop.path.live.now is not then
    assert set(then.by_part[NAME]) == keys


def test_sealed_and_hot_rows_are_told_alike_and_each_once(shops: Callable[..., Shop]) -> None:
    shop = shops(FOLLOWING)
    told: list[list[int]] = []
    live = LiveCatalog(lambda: {NAME: shop.compiled.base.sources[NAME]}, shop.compiled.project)
    for i in range(4):
        shop.put(item(f"n{i}", price=1.0, creator="c1"), event("view", "u1", f"n{i}"))
        if i == 2:
            shop.log.seal(shop.log.high_water()[0])
        before = set(live.now.by_part.get(NAME, {}))
        live.catch_up(shop.log, shop.log.high_water()[0])
        told.append(shop.log.ids.names("item", sorted(set(live.now.by_part[NAME]) - before)))
    assert [len(t) for t in told] == [31, 1, 1, 1]
    assert told[1:] == [["n1"], ["n2"], ["n3"]]
    fresh = LiveCatalog(lambda: {NAME: shop.compiled.base.sources[NAME]}, shop.compiled.project)
    fresh.catch_up(shop.log, shop.log.high_water()[0])
    assert fresh.now.by_part == live.now.by_part


def test_one_that_fails_keeps_what_it_knew_and_the_others_go_on(shops: Callable[..., Shop]) -> None:
    shop = shops(FOLLOWING + '\n[source.other]\nkind = "test_other_newcomers"\n')
    shop.path.follow_catalog()
    n = len(known(shop))

    def fails(self, rows, delta):
        raise RuntimeError("no")

    part = shop.compiled.base.sources[NAME]
    shop.compiled.base.sources[NAME].grown = fails.__get__(part)  # type: ignore[attr-defined]
    shop.put(item("unheard of", price=1.0, creator="c1"))
    shop.path.follow_catalog()
    assert len(known(shop)) == n
    assert len(shop.path.live.now.by_part["source.other"]) == n + 1
    assert shop.ask("u1").record.keys


def test_a_source_that_failed_once_is_told_again_and_it_is_counted(shops: Callable[..., Shop]) -> None:
    shop = shops(FOLLOWING)
    shop.path.follow_catalog()
    part, telemetry = shop.compiled.base.sources[NAME], Telemetry()
    shop.path.live = LiveCatalog(lambda: {NAME: part}, shop.compiled.project, telemetry)
    good, calls = part.grown, 0

    def fails_three_times(rows, delta):
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise RuntimeError("not now")
        return good(rows, delta)

    part.grown = fails_three_times
    for lost in (1, 2, 3):
        for _ in range(4):
            if calls < lost:
                shop.path.follow_catalog()
        assert calls == lost
        assert known(shop) == []
        assert telemetry.value("catalog_failed", part=NAME) == lost
    shop.put(item("after it", price=1.0, creator="c1"))
    looks = 0
    while not known(shop) and looks < 8:
        shop.path.follow_catalog()
        looks += 1
    assert 1 < looks < 8  # it waits a little longer each time, and not for good
    assert len(known(shop)) == 31
    assert "after it" in known(shop)
    shop.path.follow_catalog()
    assert calls == 4


def test_no_request_retrieves_what_its_state_does_not_know(shops: Callable[..., Shop]) -> None:
    shop = shops(FOLLOWING)
    shop.path.follow_catalog()
    opened = shop.path._open_reader

    @contextmanager
    def overtaken():
        """Between the opened state and the answer, an item is put, folded and followed."""
        with opened() as reader:
            shop.path._open_reader = opened
            shop.put(item("stale", price=1.0, creator="c1", expires_at=NOW - SECOND))
            shop.path.follow_catalog()
            yield reader

    shop.path._open_reader = overtaken
    answer = shop.ask("u1", n=30)
    assert "stale" in known(shop)
    assert answer.record.catalog_offset <= answer.record.state_offset
    assert "stale" not in retrieved(shop, answer)
    assert "stale" not in answer.item_ids


def test_replays_know_what_the_request_knew(shops: Callable[..., Shop]) -> None:
    shop = shops(FOLLOWING)
    shop.path.follow_catalog()
    records = []
    for i in range(3):
        shop.put(item(f"n{i}", price=2.0, creator="c1"))
        if i != 1:
            shop.path.follow_catalog()
        records.append(shop.ask("u1", explain=True).record)
    shop.put(item("after all", price=2.0, creator="c2"))
    assert records[1].catalog_offset < records[1].state_offset
    for record in records:
        assert differences(record, replay_from_log(shop.compiled.base, record, shop.log).record) == []
        trace = shop.records.trace(record.request_id)
        assert trace is not None
        assert differences(record, replay_trace(shop.compiled.base, record, trace, shop.log).record) == []
    wrong = replace(records[0], catalog_offset=-1)
    assert differences(wrong, replay_from_log(shop.compiled.base, wrong, shop.log).record)


def test_evaluation_knows_no_item_before_its_time(shops: Callable[..., Shop]) -> None:
    shop = shops(FOLLOWING)
    for i in range(6):
        shop.clock.advance(SECOND)
        shop.put(item(f"n{i}", price=2.0, creator="c1"))
    table = shop.log.read(-1, 10_000)
    at_E, type_E = table["available_at"].to_numpy(), np.array(table["type"].to_pylist())
    base = ask_of(shop.ask("u1").record)
    asks = [replace(base, t=int(t)) for t in at_E[::5]] + [replace(base, t=int(at_E[-1]) + 1)]
    pipeline = shop.compiled.base

    def visit(ask, reader):
        return ask.t, set(ask.deltas.by_part.get(NAME, {}))

    for size in (7, 1000):
        seen = list(
            replay_requests(pipeline.features, batches_of(shop.log, size=size), asks, visit, live=live_of(pipeline))
        )
        for t, keys in seen:
            visible = (at_E < t) & (type_E == "$item")
            assert keys == set(table["item"].to_numpy()[visible].tolist())
    assert len(seen[-1][1]) == len(catalog()) + 6


def test_a_source_without_the_two_names_does_not_follow(shop: Shop) -> None:
    assert isinstance(parts.Newcomers(parts.Newcomers.Config(), None), FollowsCatalog)
    assert not shop.path.live.followers
    shop.path.follow_catalog()
    assert shop.path.live.now is NO_DELTAS
    assert shop.ask("u1").record.catalog_offset == -1

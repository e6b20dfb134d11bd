"""The three replays: a slate from its record, a traced request in full, any request from the log."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from feedwell.core.errors import CheckFailed
from feedwell.core.slate import SlateRecord
from feedwell.pipeline.replay import (
    Replayer,
    ask_of,
    batches_of,
    differences,
    redrawn,
    replay_from_log,
    replay_requests,
    replay_trace,
)

from .conftest import PROJECT, Shop, event, history, item
from .test_run import RANKED, with_sections

DIVERSE = RANKED.replace('kind = "top_k"', 'kind = "dpp"\nfreshness_half_life = "1h"\ncap = { per_group = 2 }')
PROJECTS = {
    "unranked": PROJECT,
    "ranked": RANKED,
    "dpp with a cap": DIVERSE,
    "missing scores": with_sections('[ranker]\nkind = "test_scorer_nan"\n'),
    "failing ranker": with_sections('[ranker]\nkind = "test_scorer_breaks"\n'),
    "failing source": RANKED + '\n[source.bad]\nkind = "test_raises"\n',
}


def stored(shop: Shop, record: SlateRecord) -> SlateRecord:
    found = shop.records.get(record.request_id)
    assert found is not None
    return found


@pytest.fixture(params=PROJECTS)
def any_shop(request: pytest.FixtureRequest, shops: Callable[..., Shop]) -> Shop:
    return shops(PROJECTS[request.param])


def test_a_slate_is_drawn_again_from_its_record(any_shop: Shop) -> None:
    for i in range(20):
        record = stored(any_shop, any_shop.ask(f"u{i % 7}", n=12).record)
        assert differences(record, redrawn(record)) == []


def test_the_second_page_is_drawn_again(any_shop: Shop) -> None:
    first = any_shop.ask("u1", n=3)
    second = any_shop.ask("u1", n=6, cursor=first.cursor)
    record = stored(any_shop, second.record)
    assert record.prefix == first.record.keys
    assert differences(record, redrawn(record)) == []


def test_a_tampered_record_is_found_out(shops: Callable[..., Shop]) -> None:
    record = shops(RANKED).ask("u9").record
    for change in (
        {"keys": record.keys[::-1]},
        {"propensity": [1.0] * len(record.keys)},
        {"seed": record.seed + 1},
        {"utility": [u + 1e-9 for u in record.utility]},
    ):
        tampered = SlateRecord.from_dict(record.to_dict() | change)
        assert differences(tampered, redrawn(tampered)) or change == {"seed": record.seed + 1}
    other_seeds = [SlateRecord.from_dict(record.to_dict() | {"seed": s}) for s in range(20)]
    assert any(differences(r, redrawn(r)) for r in other_seeds)


def test_a_traced_request_runs_again_in_full(any_shop: Shop) -> None:
    answer = any_shop.ask("u1", explain=True).answer
    trace = any_shop.records.trace(answer.record.request_id)
    assert trace is not None
    again = replay_trace(any_shop.compiled.base, stored(any_shop, answer.record), trace)
    assert differences(answer.record, again.record) == []
    assert again.record.counts == answer.record.counts
    assert np.array_equal(again.candidates.keys_N, answer.candidates.keys_N)
    assert np.array_equal(again.candidates.status_N, answer.candidates.status_N)
    assert np.array_equal(again.scored.features_NF, answer.scored.features_NF, equal_nan=True)
    assert np.array_equal(again.scored.value_N, answer.scored.value_N, equal_nan=True)


def test_any_request_runs_again_from_the_log(any_shop: Shop) -> None:
    shop = any_shop
    first = shop.ask("u1").record
    shop.put(*[event("view", "u1", f"i{i}") for i in range(5)], fold=False)
    with_tail = shop.ask("u1").record
    shop.put(event("buy", "u2", "i9"), item("late", creator="c1"))
    shop.log.seal(20)
    excluded = shop.ask("u2", exclude=("i1", "i2")).record
    shop.put(*history(3, 30))
    assert with_tail.tail_offset > with_tail.state_offset
    for record in (first, with_tail, excluded):
        again = replay_from_log(shop.compiled.base, stored(shop, record), shop.log)
        assert differences(record, again.record) == []
        assert again.record.counts == record.counts


def test_a_request_from_before_a_load_of_history_says_that_it_cannot_be_rebuilt(shop: Shop) -> None:
    record = SlateRecord.from_dict(shop.ask("u1").record.to_dict() | {"epoch": 7})
    with pytest.raises(CheckFailed, match="epoch 7"):
        replay_from_log(shop.compiled.base, record, shop.log)


def test_the_replayer_sees_what_was_visible_and_no_more(shop: Shop) -> None:
    """Against a full state folded anew for every time asked for."""
    features = shop.compiled.features
    table = shop.log.read(-1, 10_000)
    times = [int(t) for t in table["available_at"].to_numpy()[::7]]
    keys_N = np.arange(20)

    def look(ask, reader):
        return reader.state_offset, reader.user_side(1, ask.t), reader.item_side(1, keys_N, ask.t)

    base = ask_of(shop.ask("u1").record)
    asks = [type(base)(**{**vars(base), "t": t}) for t in times]
    seen = list(replay_requests(features, batches_of(shop.log, size=13), asks, look))
    for t, (offset, side, items) in zip(times, seen, strict=True):
        visible = int((table["available_at"].to_numpy() < t).sum())
        assert offset == visible - 1
        with Replayer(features, [table.slice(0, visible)] if visible else []).at(t) as reader:
            assert reader.user_side(1, t).features == side.features
            assert np.array_equal(reader.item_side(1, keys_N, t), items, equal_nan=True)


def test_replay_does_not_go_back(shop: Shop) -> None:
    replayer = Replayer(shop.compiled.features, batches_of(shop.log))
    with replayer.at(100):
        pass
    with pytest.raises(ValueError, match="sort"), replayer.at(99):
        pass


def test_a_record_is_plain_json(shop: Shop) -> None:
    record = shop.ask("u1").record
    assert record.keys
    text = json.dumps(record.to_dict())
    again = SlateRecord.from_dict(json.loads(text))
    assert (again.request_id, again.keys, json.dumps(again.to_dict())) == (record.request_id, record.keys, text)

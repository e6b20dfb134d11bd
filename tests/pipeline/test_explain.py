from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from feedwell.pipeline.explain import explain, lines_of

from .conftest import Shop
from .test_run import RANKED


def explained(shop: Shop, request_id: str) -> dict:  # type: ignore[type-arg]
    record = shop.records.get(request_id)
    assert record is not None
    names = lambda keys: shop.log.ids.names("item", keys)  # noqa: E731
    return explain(record, shop.records.trace(request_id), names, shop.path.project)


def test_it_says_where_an_item_came_from_and_what_its_value_is_made_of(shops: Callable[..., Shop]) -> None:
    shop = shops(RANKED)
    served = shop.ask("u1", explain=True)
    found = explained(shop, served.record.request_id)
    assert [slot["item_id"] for slot in found["slots"]] == list(served.item_ids)
    for slot in found["slots"]:
        total = sum(p["weight"] * p["prediction"] for p in slot["predictions"].values())
        assert slot["value"] == pytest.approx(total)
        assert set(slot["retrieval_scores"]) == set(slot["sources"])
        assert slot["features"].keys() >= {"item_views_1h", "item.creator"}
    assert len(found["not_shown"]) == found["counts"]["retrieved"] - len(found["slots"])
    json.dumps(found)


def test_an_untraced_request_is_explained_from_its_record(shop: Shop) -> None:
    found = explained(shop, shop.ask("u1").record.request_id)
    assert len(found["slots"]) == 6
    assert "not_shown" not in found


def test_it_reads_and_does_not_compute(shop: Shop) -> None:
    """What the record says is what is explained, even after the world moved on."""
    request_id = shop.ask("u1", explain=True).record.request_id
    before = explained(shop, request_id)
    shop.clock.advance(10**12)
    assert explained(shop, request_id) == before


def test_lines_are_for_people(shops: Callable[..., Shop]) -> None:
    shop = shops(RANKED)
    text = "\n".join(lines_of(explained(shop, shop.ask("u1", explain=True).record.request_id)))
    assert "source.popular" in text
    assert "2 × buy" in text
    assert "candidates" in text


def test_what_is_given_another_is_shown_with_it() -> None:
    slot = {"slot": 1, "item_id": "i", "value": 10.06, "propensity": 1.0, "sources": ["a"], "features": {}}
    click = {"prediction": 0.5, "weight": 1.0, "given": None}
    buy = {"prediction": 0.1, "weight": 20.0, "given": "click"}
    head = {"request_id": "r", "user_id": "u", "surface": "s", "shown": True, "counts": {}, "degraded": []}
    lines = list(lines_of({**head, "slots": [{**slot, "predictions": {"click": click, "buy": buy}}]}))
    assert lines[-1].strip() == "1 × click 0.5 + 20 × buy 0.1 × click 0.5"

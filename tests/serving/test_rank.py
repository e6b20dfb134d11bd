"""POST /v1/rank: the caller's own candidates, by HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import SHOP_TEXT, Server


def ranked(server: Server, items: list[str], user: str = "nobody", **more: Any) -> dict[str, Any]:
    response = server.post("/v1/rank", json={"user_id": user, "items": items, **more})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_the_callers_items_are_ranked_recorded_and_explained(servers: Callable[..., Server]) -> None:
    server = servers(SHOP_TEXT + '\n[ranker]\nkind = "test_value_is_key"\n')
    answer = ranked(server, ["i3", "i9", "never seen", "i3", "i5"], explain=True)
    assert {item["item_id"] for item in answer["items"]} == {"i3", "i9", "i5"}
    assert answer["unknown"] == ["never seen"]
    assert answer["short"].endswith(": the caller brought 3 that are known")
    assert answer["explain"]["counts"]["duplicates: caller"] == 1
    assert server.get(f"/v1/explain/{answer['request_id']}").json() == answer["explain"]
    assert [slot["sources"] for slot in answer["explain"]["slots"]] == [["caller"]] * 3


def test_what_was_ranked_is_served_and_scrolls(servers: Callable[..., Server]) -> None:
    server = servers()
    first = ranked(server, ["i1", "i2", "i3"], n=2)
    second = ranked(server, ["i1", "i2", "i3"], n=2, cursor=first["cursor"])
    assert {i["item_id"] for i in first["items"] + second["items"]} == {"i1", "i2", "i3"}
    server.runtime.served.flush()
    before = server.runtime.log.high_water()[0]
    ranked(server, ["i1", "i2", "i3"])
    server.runtime.served.flush()
    assert server.runtime.log.high_water()[0] == before + 3


def test_filters_hold_unless_named(servers: Callable[..., Server]) -> None:
    server = servers()
    server.post("/v1/events", json={"type": "buy", "user": "u1", "item": "i3"})
    assert [i["item_id"] for i in ranked(server, ["i3"], user="u1")["items"]] == []
    assert [i["item_id"] for i in ranked(server, ["i3"], user="u1", ignore_filters=["seen"])["items"]] == ["i3"]
    response = server.post("/v1/rank", json={"user_id": "u1", "items": ["i3"], "ignore_filters": ["no such"]})
    assert response.status_code == 400
    assert "expired, seen" in response.json()["error"]


def test_what_is_not_shown_is_explained_and_logs_no_served_event(servers: Callable[..., Server]) -> None:
    server = servers()
    before = server.runtime.log.high_water()[0]
    answer = ranked(server, ["i1", "i2", "i3"], shown=False, explain=True)
    server.runtime.served.flush()
    assert server.runtime.log.high_water()[0] == before
    assert len(answer["items"]) == 3
    assert not answer["explain"]["shown"]
    assert server.get(f"/v1/explain/{answer['request_id']}").json() == answer["explain"]
    assert server.post("/v1/recommend", json={"user_id": "u", "shown": False}).status_code == 422


def test_no_items_are_an_empty_feed_with_the_reason(server: Server) -> None:
    for items in ([], ["never seen"]):
        answer = ranked(server, items)
        assert answer["items"] == []
        assert "no item that is known" in answer["short"]
        assert answer["unknown"] == items


@pytest.mark.parametrize(
    "body",
    [
        {"user_id": "u"},
        {"items": ["i1"]},
        {"user_id": "u", "items": None},
        {"user_id": "u", "items": "i1"},
        {"user_id": "u", "items": {"i1": 1}},
        {"user_id": "u", "items": ["i1", 5]},
        {"user_id": "u", "items": [""]},
        {"user_id": "u", "items": ["x" * 513]},
        {"user_id": "u", "items": ["i1"] * 1001},
        {"user_id": "u", "items": [["i1"]]},
        {"user_id": "u", "items": ["i1"], "ignore_filters": "seen"},
        {"user_id": "u", "items": ["i1"], "ignore_filters": ["x"] * 65},
        {"user_id": "u", "items": ["i1"], "n": 5.0},
        {"user_id": "u", "items": ["i1"], "shown": "no"},
        {"user_id": "u", "items": ["i1"], "shown": None},
        {"user_id": "u", "items": ["i1"], "shown": 0},
        {"user_id": "u", "items": ["i1"], "scores": [1.0]},
    ],
)
def test_a_hostile_body_is_422_with_a_reason(server: Server, body: dict[str, Any]) -> None:
    response = server.post("/v1/rank", json=body)
    assert response.status_code == 422
    assert response.json()["problems"]


def test_odd_ids_and_lone_surrogates(server: Server) -> None:
    odd = ["a b", "naïve 😀", "nul\0nul", "x" * 512, "' OR 1=1 --"]
    assert ranked(server, odd)["unknown"] == odd
    content = rb'{"user_id": "u", "items": ["\ud800"]}'
    response = server.post("/v1/rank", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert server.post("/v1/recommend", json={"user_id": "u", "items": ["i1"]}).status_code == 422

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from feedwell.serving.standstill import Standstill

from .conftest import SHOP_TEXT, Server


def test_a_feed_by_post_and_by_get(server: Server) -> None:
    posted = server.feed("u1", n=4)
    assert [item["slot"] for item in posted["items"]] == [1, 2, 3, 4]
    got = server.get("/v1/recommend/u1", params={"n": 4}).json()
    assert len(got["items"]) == 4
    assert got["request_id"] != posted["request_id"]


@pytest.mark.parametrize("user", ["nobody", "a b", "naïve 😀", "nul\0nul", "a/b", "%2F", "x" * 512])
def test_any_user_id_gets_a_feed_by_path(server: Server, user: str) -> None:
    response = server.get(f"/v1/recommend/{quote(user, safe='')}", params={"n": 3})
    assert response.status_code == 200, response.text
    assert response.json()["user_id"] == user
    assert len(response.json()["items"]) == 3


def test_a_number_is_one_id_by_every_route(servers: Callable[..., Server]) -> None:
    server = servers(stocked=False)
    server.put("/v1/items", json=[{"item_id": 12.0}, {"item_id": "13.0"}])
    server.post("/v1/events", json=[{"type": "buy", "user": "7.0", "item": "12"}])
    server.fold()
    by_path = server.get("/v1/recommend/7").json()
    by_body = server.feed("7.0")
    assert by_path["user_id"] == by_body["user_id"] == "7"
    assert [[i["item_id"] for i in feed["items"]] for feed in (by_path, by_body)] == [["13"], ["13"]]
    assert server.feed("8", exclude=["12.0"])["items"] == server.feed("8", exclude=["12"])["items"] != []
    ranked = server.post("/v1/rank", json={"user_id": "8", "items": ["12.0", "12", "14.0", "14"]}).json()
    assert ([i["item_id"] for i in ranked["items"]], ranked["unknown"]) == (["12"], ["14.0"])  # as it was sent
    assert server.feed("8", exclude=["15.0", "12.0"])["unknown_excluded"] == ["15.0"]


def test_exclude_and_cursor(server: Server) -> None:
    first = server.get("/v1/recommend/new", params={"n": 5}).json()
    shown = [item["item_id"] for item in first["items"]]
    other = server.get("/v1/recommend/new", params={"n": 30, "exclude": [*shown, "unknown id"]}).json()
    assert other["unknown_excluded"] == ["unknown id"]
    assert "unknown_excluded" not in server.get("/v1/recommend/new", params={"exclude": shown}).json()
    commas = server.get(f"/v1/recommend/new?exclude={shown[0]},{shown[1]}").json()
    assert commas["unknown_excluded"] == [f"{shown[0]},{shown[1]}"]
    assert not set(shown) & {item["item_id"] for item in other["items"]}
    second = server.get("/v1/recommend/new", params={"n": 5, "cursor": first["cursor"]}).json()
    assert second["items"][0]["slot"] == 6
    assert not set(shown) & {item["item_id"] for item in second["items"]}


@pytest.mark.parametrize("cursor", ["forged", "AAAA", "é"])
def test_a_forged_cursor_is_400_and_says_what_to_do(server: Server, cursor: str) -> None:
    response = server.get("/v1/recommend/u1", params={"cursor": cursor})
    assert response.status_code == 400
    assert "cursor" in response.json()["error"]


def test_anothers_cursor_is_400(server: Server) -> None:
    cursor = server.feed("u1")["cursor"]
    assert server.post("/v1/recommend", json={"user_id": "u2", "cursor": cursor}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_id": ""},
        {"user_id": "x" * 513},
        {"user_id": "ü" * 300},
        {"user_id": 5},
        {"user_id": "u", "n": 0},
        {"user_id": "u", "n": 1001},
        {"user_id": "u", "surface": "no spaces"},
        {"user_id": "u", "exclude": ["x"] * 1001},
        {"user_id": "u", "cursor": "x" * 9000},
        {"user_id": "u", "request_id": "mine"},
    ],
)
def test_out_of_bounds_is_422(server: Server, body: dict[str, Any]) -> None:
    assert server.post("/v1/recommend", json=body).status_code == 422


@pytest.mark.parametrize(
    "query",
    [
        *("n=5.0", "n=%205", "n=+5", "n=05", "n=5_0", "n=", "n=٣", "n=0", "n=1001", "n=" + "9" * 5000, "nn=5"),
        *("explain=maybe", "explain=1", "explain=yes", "explain=True", "explain="),
        *("surface=a%20b", "surface=", "exclude="),
        *("n=3&n=4", "n=3&n=3", "explain=true&exclude=i1&explain=true", "surface=a&surface=a", "n=5.0&n=4"),
    ],
)
def test_a_query_is_read_as_strictly_as_a_body(server: Server, query: str) -> None:
    response = server.get(f"/v1/recommend/u1?{query}")
    assert response.status_code == 422, response.text
    assert response.json()["problems"][0]["at"].startswith(f"query.{query.partition('=')[0]}")


def test_a_good_query_is_read(server: Server) -> None:
    answer = server.get("/v1/recommend/u1?n=3&explain=true&surface=home&exclude=i1&exclude=i2").json()
    assert (len(answer["items"]), answer["surface"], "explain" in answer) == (3, "home", True)
    assert "explain" not in server.get("/v1/recommend/u1?explain=false").json()


def test_explain_is_found_by_request_id(server: Server) -> None:
    feed = server.feed("u1", explain=True)
    assert feed["explain"]["slots"]
    found = server.get(f"/v1/explain/{feed['request_id']}").json()
    assert found == feed["explain"]
    assert server.get("/v1/explain/unknown").status_code == 404
    assert server.get("/v1/explain/bad%20id").status_code == 422


def test_a_users_own_event_counts_in_the_next_response(servers: Callable[..., Server]) -> None:
    server = servers()
    assert "i3" in {item["item_id"] for item in server.feed("u1", n=30)["items"]}
    assert server.post("/v1/events", json={"type": "buy", "user": "u1", "item": "i3"}).json()["accepted"] == 1
    assert "i3" not in {item["item_id"] for item in server.feed("u1", n=30)["items"]}


def test_events_one_many_wrapped_and_repeated(servers: Callable[..., Server]) -> None:
    server = servers(stocked=False)
    one = {"type": "view", "user": "u", "item": "i", "event_id": "e1"}
    assert server.post("/v1/events", json=one).json() == {
        "accepted": 1,
        "duplicates": 0,
        "errors": [],
        "idempotent": True,
    }
    again = server.post("/v1/events", json=[one, {**one, "event_id": "e2"}]).json()
    assert (again["accepted"], again["duplicates"]) == (1, 1)
    no_id = server.post("/v1/events", json={"events": [{"type": "view", "user": "u", "item": "i"}]}).json()
    assert no_id["idempotent"] is False
    assert server.runtime.log.high_water()[0] == 2


def test_bad_rows_are_named_and_do_not_stop_good_ones(servers: Callable[..., Server]) -> None:
    server = servers(stocked=False)
    rows = [{"type": "view", "user": "u", "item": "i"}, {"type": "view"}, 7, {"type": "view", "user": "u", "x": 1}]
    response = server.post("/v1/events", json=rows)
    assert response.status_code == 200
    assert response.json()["accepted"] == 1
    assert [error["index"] for error in response.json()["errors"]] == [1, 2, 3]
    assert len(list((server.folder / ".feedwell" / "quarantine").iterdir())) == 1
    assert server.post("/v1/events", json=[{"type": "view"}]).status_code == 422


@pytest.mark.parametrize("body", [b"", b"{", b"[1,", b'"text"', b"\xff\xfe", b'{"type": "\\ud800"}'])
def test_a_body_that_is_no_json_is_422(server: Server, body: bytes) -> None:
    response = server.post("/v1/events", content=body)
    assert response.status_code == 422
    assert response.json()["error"]


def test_a_huge_body_is_413(server: Server) -> None:
    assert server.post("/v1/events", content=b" " * (17 * 1024 * 1024)).status_code == 413

    async def chunks():
        for _ in range(17):
            yield b" " * 1024 * 1024

    assert server.post("/v1/events", content=chunks()).status_code == 413


def test_too_many_rows_are_422(server: Server) -> None:
    assert server.post("/v1/events", json=[{}] * 10_001).status_code == 422


def test_items_and_users_are_put_and_change_the_feed(servers: Callable[..., Server]) -> None:
    server = servers(stocked=False)
    assert server.feed()["fallback"] == "empty"
    assert server.put("/v1/items", json={"item_id": "only"}).json()["accepted"] == 1
    assert server.put("/v1/users", json={"users": [{"user_id": "u1", "plan": "pro"}]}).json()["accepted"] == 1
    server.fold()
    assert [item["item_id"] for item in server.feed()["items"]] == ["only"]
    expired = {"item_id": "only", "expires_at": 1_000_000}
    assert server.put("/v1/items", json=expired).json()["accepted"] == 1
    server.fold()
    assert server.feed()["items"] == []


def test_health_ready_and_metrics(server: Server) -> None:
    server.feed()
    server.fold()
    assert server.get("/health").json()["status"] == "ok"
    ready = server.get("/ready").json()
    assert ready["ready"] is True
    assert ready["lag_events"] == 0
    text = server.get("/metrics").text
    assert re.search(r"^feedwell_request_ms_count \d+", text, re.M)
    assert "feedwell_stage_ms_bucket" in text


def test_a_projector_that_stands_still_is_told_though_the_worker_stays_ready(
    servers: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers()
    monkeypatch.setattr("feedwell.serving.standstill.PATIENCE_S", 0.0)
    assert server.post("/v1/events", json={"type": "view", "user": "u1", "item": "i1"}).json()["accepted"] == 1
    assert server.get("/ready").json()["projector_stalled"] is False  # the first look cannot tell
    ready = server.get("/ready").json()
    assert ready["ready"] is ready["projector_stalled"] is True
    assert "1 events behind" in ready["note"]
    assert server.runtime.telemetry.value("projector_stalled") == 1
    server.fold()
    assert server.get("/ready").json()["projector_stalled"] is False


def test_the_state_stands_still_only_when_events_have_waited_at_one_offset() -> None:
    standstill = Standstill()
    looks = [(5, 0, 0.0), (5, 2, 100.0), (5, 4, 109.0), (7, 2, 111.0), (7, 0, 200.0), (7, 1, 300.0), (7, 1, 311.0)]
    assert [standstill.look(*look) for look in looks] == [False] * 6 + [True]


def test_every_field_of_the_api_is_bounded(server: Server) -> None:
    """Walks the OpenAPI document: no text without a length, no number without a range, no list without a size."""
    document = server.get("/openapi.json").json()
    paths = set(document["paths"])
    assert paths >= {"/v1/recommend", "/v1/events", "/v1/items", "/v1/users", "/v1/explain/{request_id}", "/ready"}
    unbounded: list[str] = []

    def walk(node: Any, at: str) -> None:
        if isinstance(node, list):
            for i, one in enumerate(node):
                walk(one, f"{at}/{i}")
        if not isinstance(node, dict):
            return
        kind = node.get("type")
        if kind == "string" and not ({"maxLength", "pattern", "enum", "format"} & node.keys()):
            unbounded.append(at)
        if kind in ("integer", "number") and not (
            {"minimum", "exclusiveMinimum"} & node.keys() and {"maximum", "exclusiveMaximum"} & node.keys()
        ):
            unbounded.append(at)
        if kind == "array" and "maxItems" not in node:
            unbounded.append(at)
        if kind == "object" and not ({"properties", "maxProperties"} & node.keys()):
            unbounded.append(at)
        for key, one in node.items():
            walk(one, f"{at}/{key}")

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            walk(operation.get("parameters", []), f"{method} {path} parameters")
            walk(operation.get("requestBody", {}), f"{method} {path} body")
            walk(operation["responses"], f"{method} {path} answers")
            assert all("content" in answer for answer in operation["responses"].values()), f"{method} {path}"
    walk(document["components"]["schemas"], "components")
    assert unbounded == []


def test_zero_events_and_no_catalog(servers: Callable[..., Server]) -> None:
    feed = servers(stocked=False).feed("anyone")
    assert feed["items"] == []
    assert feed["fallback"] == "empty"
    assert feed["degraded"]


def test_an_unready_server_says_503_and_when_to_come_back(servers: Callable[..., Server]) -> None:
    server = servers(SHOP_TEXT)
    server.runtime.online.close()
    (server.folder / ".feedwell" / "state.lmdb" / "current").unlink()
    response = server.post("/v1/recommend", json={"user_id": "u1"})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert server.get("/ready").status_code == 503
    assert server.get("/health").status_code == 200

"""What is published about answers is true: real ones are held against the schema of their route and status."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from .conftest import SHOP_TEXT, Server

RANKED = SHOP_TEXT + '\n[ranker]\nkind = "test_value_is_key"\n[source.bad]\nkind = "test_raises"\n'
ROWS = [{"type": "view", "user": "u1", "item": "i1"}, {"type": "odd", "user": "u"}, {"type": "view"}, 7]
CALLS: list[tuple[str, str, str, int, dict[str, Any]]] = [
    ("post", "/v1/recommend", "/v1/recommend", 200, {"json": {"user_id": "u1"}}),
    ("post", "/v1/recommend", "/v1/recommend", 200, {"json": {"user_id": "u1", "explain": True, "n": 1000}}),
    ("post", "/v1/recommend", "/v1/recommend", 422, {"json": {"user_id": 5}}),
    ("post", "/v1/recommend", "/v1/recommend", 400, {"json": {"user_id": "u1", "cursor": "forged"}}),
    ("get", "/v1/recommend/{user}", "/v1/recommend/u1?n=3&explain=true", 200, {}),
    ("post", "/v1/rank", "/v1/rank", 200, {"json": {"user_id": "u1", "items": ["i1", "i2", "?"], "explain": True}}),
    (
        "post",
        "/v1/rank",
        "/v1/rank",
        200,
        {"json": {"user_id": "u1", "items": ["i1"], "explain": True, "shown": False}},
    ),
    ("post", "/v1/rank", "/v1/rank", 200, {"json": {"user_id": "u1", "items": []}}),
    ("post", "/v1/events", "/v1/events", 200, {"json": ROWS}),
    ("post", "/v1/events", "/v1/events", 200, {"json": []}),
    ("post", "/v1/events", "/v1/events", 422, {"json": ROWS[2:]}),
    ("post", "/v1/events", "/v1/events", 422, {"content": b"{"}),
    ("put", "/v1/items", "/v1/items", 200, {"json": {"item_id": "i1"}}),
    ("put", "/v1/users", "/v1/users", 422, {"json": {"users": [{}]}}),
    ("get", "/v1/explain/{request_id}", "/v1/explain/none", 404, {}),
    ("get", "/health", "/health", 200, {}),
    ("get", "/ready", "/ready", 200, {}),
    ("get", "/metrics", "/metrics", 200, {}),
]


@pytest.fixture(scope="module", params=[SHOP_TEXT, RANKED], ids=["plain", "ranked and degraded"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "feedwell.toml").write_text(request.param)
    server = Server(folder)
    server.stock()
    yield server
    server.close()


def told(document: dict[str, Any], method: str, path: str, status: int) -> dict[str, Any]:
    """The schema that the document gives an answer, with nothing allowed that it does not name."""
    ((_, content),) = document["paths"][path][method]["responses"][str(status)]["content"].items()
    return {"components": closed(document["components"]), **content["schema"]}


def closed(node: Any) -> Any:
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(one) for key, one in node.items()}
    return node | {"additionalProperties": False} if isinstance(node.get("properties"), dict) else node


@pytest.mark.parametrize(("method", "path", "url", "status", "more"), CALLS)
def test_an_answer_is_as_published(
    shop: Server, method: str, path: str, url: str, status: int, more: dict[str, Any]
) -> None:
    response = shop.call(method.upper(), url, **more)
    assert response.status_code == status, response.text
    kind = response.headers["content-type"]
    schema = told(shop.get("/openapi.json").json(), method, path, status)
    jsonschema.validate(response.json() if "json" in kind else response.text, schema, jsonschema.Draft202012Validator)


def test_an_explanation_found_later_is_as_published(shop: Server) -> None:
    request_id = shop.feed("u2")["request_id"]
    schema = told(shop.get("/openapi.json").json(), "get", "/v1/explain/{request_id}", 200)
    jsonschema.validate(shop.get(f"/v1/explain/{request_id}").json(), schema)


def test_a_server_that_is_not_ready_answers_as_published(servers: Callable[..., Server]) -> None:
    server = servers()
    server.runtime.online.close()
    (server.folder / ".feedwell" / "state.lmdb" / "current").unlink()
    document = server.get("/openapi.json").json()
    for method, path in (("get", "/ready"), ("post", "/v1/recommend")):
        response = server.call(method.upper(), path, json={"user_id": "u1"})
        assert response.status_code == 503
        jsonschema.validate(response.json(), told(document, method, path, 503))


def test_the_check_can_fail(shop: Server) -> None:
    schema = told(shop.get("/openapi.json").json(), "post", "/v1/recommend", 200)
    good = shop.feed("u1")
    for bad in (good | {"extra": 1}, good | {"items": [{}]}, {k: v for k, v in good.items() if k != "short"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)

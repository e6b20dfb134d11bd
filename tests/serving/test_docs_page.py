from __future__ import annotations

import html
import re
from collections.abc import Callable

from .conftest import SHOP_TEXT, Server


def test_the_docs_page_is_whole_in_itself(server: Server) -> None:
    response = server.get("/docs")
    page = html.unescape(response.text)
    assert response.status_code == 200
    assert not re.search(r"<script|<link|<img|@import|url\(|(src|href)=.https?:", page)
    assert set(re.findall(r"https?://[^/']*", page)) == {"http://test"}
    assert page.count("curl -s") == len(re.findall(r"curl -s[^']*'http://test/", page)) > 8
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "prefers-color-scheme:dark" in page
    for shown in ("/v1/recommend/{user}", "/v1/events", "user_id", "≤ 1000", "curl -s"):
        assert shown in page
    assert server.get("/redoc").status_code == 404


def test_the_examples_speak_the_scheme_of_the_call(server: Server) -> None:
    assert "curl -s 'https://shop.example/health'" in server.get("https://shop.example/docs").text.replace(
        "&#x27;", "'"
    )


def test_the_docs_page_escapes_what_the_caller_names(server: Server) -> None:
    page = server.get("/docs", headers={"host": "<b>x"})
    assert "<b>x" not in page.text


def test_every_route_declares_its_errors_and_events_take_only_declared_keys(server: Server) -> None:
    document = server.get("/openapi.json").json()
    for methods in document["paths"].values():
        for operation in methods.values():
            assert {"200", "400", "404", "413", "422", "503"} <= operation["responses"].keys()
            schema = operation["responses"]["422"]["content"]["application/json"]["schema"]
            told = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            assert {"error", "problems"} <= set(told["required"])
    body = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    event = body["anyOf"][0]
    assert event["additionalProperties"] is False
    assert event["properties"].keys() >= set(server.runtime.project.entities)


def test_rows_are_told_with_the_key_of_their_id_that_the_project_names(servers: Callable[..., Server]) -> None:
    text = SHOP_TEXT.replace("[entity.item]\n", '[entity.item]\nid = "sku"\n')
    assert text != SHOP_TEXT
    server = servers(text, stocked=False)
    document = server.get("/openapi.json").json()
    for path, key in (("/v1/items", "sku"), ("/v1/users", "user_id")):
        body = document["paths"][path]["put"]["requestBody"]["content"]["application/json"]["schema"]
        row = body["anyOf"][0]
        assert list(row["properties"]) == [key]
        assert server.put(path, json={key: "1"}).json()["accepted"] == 1
    page = html.unescape(server.get("/docs").text)
    assert "sku" in page
    assert "item_id" not in page.partition("/v1/items")[2].partition("/v1/users")[0]

from __future__ import annotations

import re

from .conftest import Server


def test_the_docs_page_is_whole_in_itself(server: Server) -> None:
    response = server.get("/docs")
    page = response.text
    assert response.status_code == 200
    assert not re.search(r"https?://|<script|<link|<img|@import|url\(", page)
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "prefers-color-scheme:dark" in page
    for shown in ("/v1/recommend/{user}", "/v1/events", "user_id", "≤ 1000", "curl -s"):
        assert shown in page
    assert server.get("/redoc").status_code == 404


def test_the_docs_page_escapes_what_the_caller_names(server: Server) -> None:
    page = server.get("/docs", headers={"host": "<b>x"})
    assert "<b>x" not in page.text


def test_every_route_declares_its_errors_and_events_take_only_declared_keys(server: Server) -> None:
    document = server.get("/openapi.json").json()
    for methods in document["paths"].values():
        for operation in methods.values():
            assert {"200", "400", "404", "413", "422", "503"} <= operation["responses"].keys()
            schema = operation["responses"]["422"]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith("/ErrorAnswer")
    body = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    event = body["anyOf"][0]
    assert event["additionalProperties"] is False
    assert event["properties"].keys() >= set(server.runtime.project.entities)

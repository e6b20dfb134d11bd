"""Bodies that are meant to break the server: each gets a clear answer of one shape, never a 500."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from .conftest import Server

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (rb'{"user_id": "\ud800"}', "valid"),
        (rb'{"user_id": "u", "exclude": ["\ud800"]}', "valid"),
        (rb'{"user_id": "u", "cursor": "\ud800"}', "valid"),
        (rb'{"user_id": "u", "context": {"\ud800": 1}}', "valid"),
        (b'{"user_id": NaN}', "body.user_id: NaN"),
        (b'{"user_id": "u", "n": Infinity}', "body.n: Infinity"),
        (b'{"user_id": "u", "n": true}', "integer"),
        (b'{"user_id": "u", "n": "3"}', "integer"),
        (b'{"user_id": 5}', "string"),
        (b'{"user_id": "u", "explain": 1}', "boolean"),
        (b'{"user_id": "u", "context": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}", "nested"),
        (b"[" * 100_000, "body: it is nested too deeply; nest lists"),
        (b'{"user_id": "u", "context": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}", "body: it is nested too deeply"),
        (b'{"user_id": NaN, "context": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}", "body: it is nested too deeply"),
        (b"{", "body: it is no JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        (b'{"user_id": "u",\n"n" 5}', "body: it is no JSON: Expecting ':' delimiter at line 2, column 5"),
        (b"user_id=u&n=5", "body: it is no JSON: "),
        (b"\xff\xfe", "body: it is no text: byte 0 is not valid utf-8"),
        (f'{{"user_id": "u", "n": {"9" * 5000}}}'.encode("utf-16"), "send JSON in UTF-8"),
        (b'{"user_id": "\xff"}', "body: it is no text: byte 13 is not valid utf-8; send JSON in UTF-8"),
    ],
)
def test_a_hostile_body_is_422_with_a_reason(server: Server, body: bytes, says: str) -> None:
    response = server.post("/v1/recommend", content=body, headers=JSON)
    assert response.status_code == 422, response.text
    assert response.json().keys() == {"error", "problems"}
    assert says in response.json()["error"]
    assert [problem["at"].partition(".")[0] for problem in response.json()["problems"]] == ["body"]


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "nonsense", None])
@pytest.mark.parametrize("route", ["recommend", "rank"])
def test_a_body_is_read_as_json_whatever_its_content_type(server: Server, route: str, content_type: str | None) -> None:
    """`curl -d` sends JSON as a form."""
    headers = {"Content-Type": content_type} if content_type else {}
    body = b'{"user_id": "u", "items": ["i1"]}' if route == "rank" else b'{"user_id": "u"}'
    response = server.post(f"/v1/{route}", content=body, headers=headers)
    assert response.status_code == 200, response.text
    wrong = server.post(f"/v1/{route}", content=body[:-1], headers=headers)
    assert wrong.status_code == 422
    assert [problem["at"] for problem in wrong.json()["problems"]] == ["body"]


@pytest.mark.parametrize(
    ("more", "at", "says"),
    [
        ('"context": {"hour": NaN}', ["body.context.hour"], "NaN is no JSON number"),
        (
            '"context": {"a": [{"b": -Infinity}, 1e999, 1]}',
            ["body.context.a.0.b", "body.context.a.1"],
            "-Infinity is no",
        ),
        ('"context": {"a": -1e400}', ["body.context.a"], "no 64-bit float holds this number"),
        ('"context": {"a": [1, {"b": 18446744073709551616}]}', ["body.context.a.1.b"], "no 64-bit integer holds this"),
        ('"context": {"a": -9223372036854775809}', ["body.context.a"], "no 64-bit integer holds this number"),
        ('"context": {"a": ' + "9" * 5000 + "}", ["body.context.a"], "no 64-bit integer holds this number"),
        ('"context": {"a": 1e999, "b": ' + "9" * 5000 + "}", ["body.context.a", "body.context.b"], "no 64-bit float"),
        ('"context": {"a": 1, "b": {"c": 1, "c": 1}}', ["body.context.b.c"], "comes 2 times in this object"),
        ('"context": {"a": 1, "a": {"b": NaN}, "a": 1}', ["body.context.a", "body.context.a.b"], "comes 3 times"),
        ('"user_id": "v"', ["body.user_id"], "comes 2 times"),
        ('"context": {"a": ' + "[" * 300 + "NaN" + "]" * 300 + "}", ["body.context.a" + ".0" * 93], "NaN is no JSON"),
        ('"context": {"a": [' + "NaN," * 200 + "1]}", [f"body.context.a.{i}" for i in range(100)], "NaN is no JSON"),
    ],
)
@pytest.mark.parametrize("route", ["recommend", "rank"])
def test_what_json_does_not_allow_is_refused_where_it_stands(
    server: Server, route: str, more: str, at: list[str], says: str
) -> None:
    body = '{"user_id": "u", "items": ["i1"], ' if route == "rank" else '{"user_id": "u", '
    response = server.post(f"/v1/{route}", content=body + more + "}", headers=JSON)
    assert response.status_code == 422, response.text
    found = response.json()
    assert [problem["at"] for problem in found["problems"]] == at
    assert says in found["problems"][0]["problem"]
    assert found["error"].startswith(f"the request is not valid: {at[0]}: ")


def test_equal_keys_of_different_objects_and_plain_numbers_are_read(server: Server) -> None:
    feed = server.feed(
        context={"a": {"n": 1.5}, "b": {"n": -2e300}, "n": [0, 1e-999, -(2**63), 2**64 - 1, "NaN", None, True]}
    )
    assert feed["items"]


def test_what_was_sent_is_not_sent_back(server: Server) -> None:
    response = server.post("/v1/recommend", json={"user_id": ["secret text"]})
    assert response.status_code == 422
    assert "secret" not in response.text


def test_an_unknown_path_and_method_have_the_same_shape(server: Server) -> None:
    for response in (server.get("/nothing"), server.post("/health")):
        assert response.status_code in (404, 405)
        assert response.json().keys() == {"error", "problems"}


@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/events"])
def test_a_huge_chunked_body_is_413(server: Server, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 1024 * 1024

    response = server.post(path, content=chunks(), headers=JSON)
    assert response.status_code == 413
    assert "larger" in response.json()["error"]


def test_one_deep_row_is_refused_and_the_others_are_kept(servers: Callable[..., Server]) -> None:
    server = servers(stocked=False)
    deep = b"[" * 300 + b"]" * 300
    rows = b'[{"item_id": "a"}, {"item_id": "b", "x": ' + deep + b'}, {"item_id": "c", "\\ud83d\\ude00": 1}]'
    response = server.put("/v1/items", content=rows)
    assert response.status_code == 200, response.text
    assert response.json()["accepted"] == 2
    assert "nested" in response.json()["errors"][0]["error"]
    assert len(list((server.folder / ".feedwell" / "quarantine").iterdir())) == 1


@pytest.mark.parametrize("depth", [1, 200, 300, 900, 1000])
def test_rows_of_any_depth_get_an_answer(servers: Callable[..., Server], depth: int) -> None:
    server = servers(stocked=False)
    nested = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth
    for url in ("/v1/items", "/v1/events"):
        for one in nested:
            rows = b'[{"item_id": "b", "type": "view", "user": "u", "x": ' + one + b"}, " + one + b"]"
            assert server.call("PUT" if "items" in url else "POST", url, content=rows).status_code in (200, 422)


def test_an_undeclared_column_is_kept_and_named(servers: Callable[..., Server]) -> None:
    server = servers(stocked=False)
    rows = [{"item_id": "a", "titel": "x"}, {"item_id": "b", "titel": "y"}, {"titel": "no id"}]
    answer = server.put("/v1/items", json=rows).json()
    assert answer["accepted"] == 2
    assert answer["undeclared_columns"] == {"titel": 2}
    assert "undeclared_columns" not in server.put("/v1/items", json={"item_id": "a"}).json()


def test_an_undeclared_event_type_is_stored_and_named(servers: Callable[..., Server]) -> None:
    server = servers(stocked=False)
    rows = [{"type": kind, "user": "u", "item": "i"} for kind in ("view", "veiw", "veiw")]
    answer = server.post("/v1/events", json=rows).json()
    assert answer["accepted"] == 3
    assert answer["unknown_types"] == {"veiw": 2}
    assert 'feedwell_rows_of_unknown_type_total{kind="events"} 2' in server.get("/metrics").text
    assert "unknown_types" not in server.post("/v1/events", json=rows[0]).json()

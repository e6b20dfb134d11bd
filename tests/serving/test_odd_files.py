"""Odd files behind the server: what ids and rows a shop may have is ingested, trained on, published and served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedwell import workspace
from feedwell.serving.answers import AppendAnswer, Explanation, FeedAnswer, RankAnswer

from .conftest import Server

SECOND = 1_000_000
START = 1_767_571_200 * SECOND
PROJECT = """
[project]
name = "odd"

[data]
events = "events/*"
ts_unit = "us"
exposure = ["view"]

[entity.item]
path = "items.jsonl"
group = "category"
text = ["title"]
available = "available"
columns = { title = "string", category = "string", price = "float", colour = "string", available = "bool" }

[entity.user]
path = "users.csv"
columns = { country = "string" }

[event.view]
[event.buy]
unit = "money"
value_scale = 100

[objective.buy]
events = ["buy"]
within = "1h"

[objective.spent]
events = ["buy"]
within = "1h"
kind = "amount"

[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]

[feature.item_price]
entity = "item"
aggregate = "column"
column = "price"

[feature.user_category_views]
entity = ["user", "category"]
aggregate = "count"
events = ["view"]

[source.popular]
k = 60

[source.transitions]
k = 60

[source.item_knn]
k = 60

[filter.seen]
events = ["buy"]

[filter.expired]

[ranker]
kind = "logistic"

[slate]
kind = "dpp"
k = 40
cap = { per_group = 40 }

[train]
min_feature_share = 0.0

[evaluate]
bootstrap = 50

[serving]
deadline = "60s"
"""
IDS = (
    "plain",
    "with space",
    " blank at both ends ",
    "Ünïcödé 🎬",
    "right to left \u202e",
    "a/b//c",
    "/",
    "..",
    ".",
    "%2F%20+",
    "?x=1&y=2#z",
    "quotes\"'`\\",
    "nul\x00inside",
    "line\nand\ttab",
    "line\n",
    "line",
    "<b>bold</b>",
    "null",
    "-1",
    "007",
    "12",  # written 12.0 and "12.0" in the files
    "9223372036854775808",
    "L" * 512,
    "é" * 256,
)
UNLISTED = "in no catalog"
WITHDRAWN = "in the catalog, not available"
ITEMS = (*IDS, UNLISTED)


def rows_of_events() -> list[dict[str, Any]]:
    """Everybody views everything and buys a little, all within days; ids as some tool wrote them."""
    rows: list[dict[str, Any]] = []
    for u, user in enumerate(IDS):
        for i in range(len(ITEMS)):
            item = ITEMS[(i * 7 + u) % len(ITEMS)]
            at = START + (u * 3600 + i * 60) * SECOND
            rows.append({"type": "view", "user": user, "item": item, "ts": at, "session": None})
            if (u + i) % 5 == 0 and item != user:
                value = float(i) if i % 2 else None
                rows.append({"type": "buy", "user": user, "item": item, "ts": at + 9 * SECOND, "value": value})
    return rows


def write_shop(folder: Path) -> None:
    (folder / "feedwell.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "events").mkdir()
    rows = rows_of_events()
    spelled = [row | {"item": 12.0 if row["item"] == "12" else row["item"]} for row in rows]
    bad = ['{"type": "view", "user": null, "item": "plain", "ts": 1}', "{", "[]", '{"type": "view"}']
    (folder / "events/a.jsonl").write_text("\n".join([*map(json.dumps, spelled), *bad]), encoding="utf-8")
    numbers = pa.table(
        {
            "type": ["view", "view", "view"],
            "user": pa.array([12.0, 7.0, None], pa.float64()),
            "item": pa.array([12.0, None, 7.0], pa.float64()),
            "ts": pa.array([START, START + 1, START + 2], pa.int64()),
            "value": pa.nulls(3),
            "device": pa.nulls(3, pa.string()),
        }
    )
    pq.write_table(numbers, folder / "events/b.parquet")
    items: list[dict[str, Any]] = [
        {"item_id": item, "title": f"the {item}", "category": [1.0, "1", None, "a/b", "ä"][n % 5], "price": float(n)}
        for n, item in enumerate(IDS)
    ]
    items[3] |= {"title": None, "price": None}
    items += [{"item_id": 12.0, "category": 3.0, "price": 12, "colour": None}, {"item_id": "plain", "title": "again"}]
    items += [items[1], {"item_id": None, "title": "nothing"}, {"title": "no id"}, {"item_id": "X" * 513}]
    items.append({"item_id": WITHDRAWN, "available": False})
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    (folder / "users.csv").write_text(
        'user_id,country\n12.0,\n"with space",NL\n"quotes""\'`\\",\n,XX\n', encoding="utf-8"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The odd shop, ingested, trained and published."""
    folder = tmp_path_factory.mktemp("odd")
    write_shop(folder)
    with workspace.open(folder) as shop:
        report = shop.ingest(history=True)
        assert report.n_quarantined > 0
        shop.train(max_requests=30)
        shop.publish(force=True)
        shop.catch_up()
    opened = Server(folder)
    assert opened.runtime.path.compiled.release_id != "untrained"
    yield opened
    opened.close()


def told(answer: dict[str, Any], model: type[FeedAnswer] = FeedAnswer) -> list[str]:
    """The items of a feed that is whole and within the bounds that the documentation gives."""
    model.model_validate(answer, strict=True)
    assert answer["degraded"] == []
    assert answer["fallback"] == ""
    return [row["item_id"] for row in answer["items"]]


def in_path(user: str) -> str:
    """The id as a part of a URL: every byte encoded, since a client resolves `.` and `..` as they stand."""
    return "".join(f"%{byte:02X}" for byte in user.encode())


def bought(user: str) -> set[str]:
    return {row["item"] for row in rows_of_events() if (row["type"], row["user"]) == ("buy", user)}


@pytest.mark.parametrize("user", IDS)
def test_whoever_asks_is_recommended_what_they_did_not_buy_and_told_why(server: Server, user: str) -> None:
    answer = server.feed(user, explain=True)
    assert set(told(answer)) == set(ITEMS) - bought(user)
    Explanation.model_validate(answer["explain"], strict=True)
    assert server.get(f"/v1/explain/{answer['request_id']}").json() == answer["explain"]
    assert answer["user_id"] == answer["explain"]["user_id"] == user
    assert {slot["item_id"] for slot in answer["explain"]["slots"]} == set(told(answer))
    by_path = server.get(f"/v1/recommend/{in_path(user)}", params={"n": 40})
    assert by_path.status_code == 200, by_path.text
    assert by_path.json()["user_id"] == user
    assert set(told(by_path.json())) == set(told(answer))
    left_out = told(answer)[0]
    again = server.get(f"/v1/recommend/{in_path(user)}", params={"exclude": [left_out, "never seen"]})
    assert left_out not in told(again.json())
    assert again.json()["unknown_excluded"] == ["never seen"]


def test_odd_items_are_ranked_and_unknown_ones_named(server: Server) -> None:
    asked = [*ITEMS, "12.0", "never seen", "plain"]
    response = server.post("/v1/rank", json={"user_id": "a stranger", "items": asked, "n": 100, "explain": True})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert set(told(answer, RankAnswer)) == set(ITEMS)
    assert answer["unknown"] == ["never seen"]
    assert answer["explain"]["counts"]["duplicates: caller"] == 2
    assert server.get(f"/v1/explain/{answer['request_id']}").json() == answer["explain"]
    for given in (["12.0"], ["12"]):
        found = server.post("/v1/rank", json={"user_id": "12.0", "items": given, "shown": False}).json()
        assert found["user_id"] == "12"
        assert told(found, RankAnswer) == ["12"]


def test_odd_events_are_accepted_and_count_and_bad_ones_are_told(server: Server) -> None:
    rows: list[Any] = [{"type": "buy", "user": "buyer", "item": item, "value": 3.0} for item in ITEMS if item != "12"]
    rows += [{"type": "buy", "user": "buyer", "item": 12.0}, {"type": "view", "user": 12.0, "item": None}]
    rows += [{"type": "view", "user": "u", "item": "X" * 513}, {"type": "buy", "user": "", "item": "plain"}, 5]
    answer = server.post("/v1/events", json={"events": rows}).json()
    AppendAnswer.model_validate(answer, strict=True)
    assert answer["accepted"] == len(rows) - 3
    assert [e["index"] for e in answer["errors"]] == [len(rows) - 3, len(rows) - 2, len(rows) - 1]
    nothing = server.feed("buyer")
    assert nothing["items"] == []
    assert nothing["fallback"] == "empty"
    refused = server.post("/v1/events", json=rows[-1:])
    assert refused.status_code == 422
    assert refused.json()["accepted"] == 0


def test_odd_catalog_rows_are_put_and_served(server: Server) -> None:
    rows: list[Any] = [
        {"item_id": "put /../ 🎈", "category": None, "price": 3, "title": None},
        {"item_id": 4.0, "category": 1.0, "price": 1.0},
        {"item_id": "12.0", "category": "a/b", "price": 12.5, "extra": {"deep": [1, None]}},
        {"item_id": "without anything"},
        {"item_id": None},
        {"item_id": "plain", "price": "dear"},
    ]
    answer = server.put("/v1/items", json={"items": rows}).json()
    AppendAnswer.model_validate(answer, strict=True)
    assert answer["accepted"] == 4
    assert [e["index"] for e in answer["errors"]] == [4, 5]
    assert server.put("/v1/users", json=[{"user_id": "a/b//c", "country": None}, {"user_id": 12.0}]).status_code == 200
    server.fold()
    new = ["put /../ 🎈", "4", "without anything"]
    ranked = server.post("/v1/rank", json={"user_id": "a/b//c", "items": new}).json()
    assert sorted(told(ranked, RankAnswer)) == sorted(new)
    assert set(told(server.feed("a/b//c"))) >= set(ITEMS) - bought("a/b//c")

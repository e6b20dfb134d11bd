"""Stories end to end: odd input through check, ingest, train and serve ends in a clear message or a right result."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedwell import workspace
from feedwell.cli import main
from feedwell.serving.app import create_app
from feedwell.serving.runtime import Runtime

Run = Callable[..., tuple[int, str, str]]
HOUR = 3_600_000_000
START = 1_767_571_200_000_000

PROJECT = """\
[project]
name = "odd"
[data]
events = "events.jsonl"
ts_unit = "us"
exposure = ["view"]
[event.view]
[event.buy]
[objective.buy]
events = ["buy"]
[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]
windows = ["1d"]
[feature.user_views]
entity = "user"
aggregate = "count"
events = ["view"]
[source.popular]
k = 50
[source.transitions]
k = 50
[filter.seen]
events = ["buy"]
[ranker]
kind = "logistic"
[slate]
kind = "top_k"
k = 5
explore = { first = 4, last = 5 }
[train]
min_feature_share = 0.0
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """(exit code, stdout, stderr) of a command, in this process."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["feedwell", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return int(code), said.out, said.err

    return call


def project_of(folder: Path, events: list[dict[str, Any]], toml: str = PROJECT) -> Path:
    """A project folder with those events."""
    folder.mkdir(exist_ok=True)
    (folder / "feedwell.toml").write_text(toml)
    (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


def event(user: str, item: str, at: int, kind: str = "view") -> dict[str, Any]:
    return {"user": user, "item": item, "ts": START + at * HOUR, "type": kind}


class Client:
    """Calls the app in this process, on one event loop from start to shut-down."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient) -> None:
        self._runner, self._client = runner, client

    def post(self, path: str, body: Any) -> httpx.Response:
        return self._runner.run(self._client.post(path, json=body))


@contextmanager
def served(folder: Path) -> Iterator[Client]:
    with workspace.open(folder) as opened:  # as the supervisor's projector would have
        opened.catch_up()
    app = create_app(Runtime.open(folder))
    with asyncio.Runner() as runner:
        life = app.router.lifespan_context(app)
        runner.run(life.__aenter__())
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://test")
        yield Client(runner, client)
        runner.run(client.aclose())
        runner.run(life.__aexit__(None, None, None))


def feed(client: Client, user: str, **query: Any) -> dict[str, Any]:
    answer = client.post("/v1/recommend", {"user_id": user, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_zero_events_end_in_an_empty_feed_that_says_so(tmp_path: Path, run: Run) -> None:
    folder = project_of(tmp_path, [])
    assert run("check", "-p", folder)[0] == 0
    assert run("ingest", "-p", folder)[0] == 0
    code, out, _ = run("recommend", "anyone", "-p", folder, "--json")
    answer = json.loads(out)
    assert (code, answer["items"], answer["fallback"]) == (0, [], "empty")
    assert run("doctor", "-p", folder)[0] == 0
    code, _, err = run("train", "-p", folder, "--json")
    assert (code, "Traceback" in err) in ((0, False), (4, False)), err
    with served(folder) as client:
        assert feed(client, "anyone")["items"] == []


def test_a_catalog_of_one_item(tmp_path: Path, run: Run) -> None:
    events = [event(f"u{n % 30}", "only", n, "buy" if n % 7 == 0 else "view") for n in range(300)]
    folder = project_of(tmp_path, events, toml=PROJECT.replace('[filter.seen]\nevents = ["buy"]\n', ""))
    assert run("ingest", "-p", folder)[0] == 0
    assert run("train", "-p", folder, "--json")[0] == 0
    assert run("publish", "--force", "-p", folder)[0] == 0  # too few people for the gates
    _, out, _ = run("recommend", "u1", "-p", folder, "--json")
    answer = json.loads(out)
    assert [row["item"] for row in answer["items"]] == ["only"]
    assert answer["items"][0]["propensity"] == 1.0
    with served(folder) as client:
        assert [row["item_id"] for row in feed(client, "u1")["items"]] == ["only"]
        assert feed(client, "u1", exclude=["only"])["items"] == []


ODD_IDS = ["with space", "Ünïcödé 🎬", "nul\x00inside", " leading", "9223372036854775808", 'quote"\\', "-1", "A" * 512]


def test_odd_ids_are_ids_like_any_other(tmp_path: Path, run: Run) -> None:
    events = [event(user, item, 9 * n + k) for n, user in enumerate(ODD_IDS * 3) for k, item in enumerate(ODD_IDS)]
    folder = project_of(tmp_path, events)
    code, out, _ = run("ingest", "-p", folder, "--json")
    report = json.loads(out)
    assert (code, report["n_quarantined"], report["load"]["n_new"]) == (0, 0, len(events))
    code, out, err = run("train", "-p", folder, "--json")
    assert code == 0, err
    assert run("publish", "--force", "-p", folder)[0] == 0  # too few people for the gates
    with served(folder) as client:
        for user in ODD_IDS:
            found = {row["item_id"] for row in feed(client, user, n=20)["items"]}
            assert found == set(ODD_IDS)
        answer = client.post("/v1/events", event(ODD_IDS[2], ODD_IDS[1], 900, "buy") | {"event_id": "b1"})
        assert answer.status_code == 200, answer.text
    _, out, _ = run("recommend", ODD_IDS[2], "-p", folder, "--json", "-n", "20")
    assert {row["item"] for row in json.loads(out)["items"]} == set(ODD_IDS) - {ODD_IDS[1]}
    (folder / "ids.txt").write_bytes("\r\n".join([*ODD_IDS, "", "never seen"]).encode())
    among = ("recommend", ODD_IDS[2], "-p", folder, "--json", "-n", "20", "--among", folder / "ids.txt")
    answer = json.loads(run(*among)[1])
    assert {row["item"] for row in answer["items"]} == set(ODD_IDS) - {ODD_IDS[1]}
    assert answer["unknown"] == ["never seen"]
    (folder / "ids.txt").write_text("\n".join(ODD_IDS), encoding="utf-8-sig")  # with a byte order mark
    answer = json.loads(run(*among, "--ignore-filter", "seen")[1])
    assert answer["unknown"] == []
    assert {row["item"] for row in answer["items"]} == set(ODD_IDS)
    assert json.loads(run(*among, "--not-shown")[1])["shown"] is False
    assert run("recommend", "u", "-p", folder, "--not-shown")[0] == 2
    code, _, err = run("recommend", "u", "-p", folder, "--among", folder / "gone.txt")
    assert code == 2
    assert "one item id a line" in err


def test_numbers_beyond_64_bits_are_refused_or_kept_exactly(tmp_path: Path, run: Run) -> None:
    big = 2**63
    events = [event("u", "i", 1), event("u", str(big), 2) | {"item": big}, event("u", "i", 3) | {"ts": big}]
    events += [event("u", "i", 4) | {"value": float(big)}, event("u", "i", 5) | {"value": 1e400}]
    folder = project_of(tmp_path, events)
    code, out, _ = run("ingest", "-p", folder, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["n_rows"] == len(events)
    assert report["n_quarantined"] + report["load"]["n_new"] == len(events)
    assert report["n_quarantined"] >= 1
    with workspace.open(folder) as opened:
        known = opened.ids.names("item", range(opened.ids.size("item")))
    assert str(big) in known
    assert not any("e+" in str(name) for name in known)


def test_a_truncated_parquet_file_is_named_and_nothing_is_stored(tmp_path: Path, run: Run) -> None:
    rows = [event("u", f"i{n}", n) for n in range(2000)]
    folder = project_of(tmp_path, rows, toml=PROJECT.replace("events.jsonl", "*.parquet"))
    pq.write_table(pa.Table.from_pylist(rows), folder / "whole.parquet")
    content = (folder / "whole.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(content[: len(content) // 2])
    code, out, err = run("ingest", "-p", folder)
    assert (code, out) == (4, "")
    assert "cut.parquet" in err
    assert "Traceback" not in err
    with workspace.open(folder) as opened:
        assert opened.log.high_water()[0] == -1


def test_a_csv_with_a_wrong_header_says_what_it_has_and_what_was_expected(tmp_path: Path, run: Run) -> None:
    folder = project_of(tmp_path, [], toml=PROJECT.replace("events.jsonl", "events.csv"))
    (folder / "events.csv").write_text("visitor,sku,time,action\nu1,i1,1767571200,view\n")
    code, _, err = run("ingest", "-p", folder)
    assert code == 4
    for word in ("events.csv", "visitor", "user", "columns"):
        assert word in err
    text = PROJECT.replace('events = "events.jsonl"\nts_unit = "us"', 'events = "events.csv"')
    mended = 'columns = { user = "visitor", item = "sku", ts = "time", type = "action" }\n[event.view]'
    (folder / "feedwell.toml").write_text(text.replace("[event.view]", mended))
    assert run("ingest", "-p", folder)[0] == 0


def test_bad_rows_are_told_and_good_ones_go_on(tmp_path: Path, run: Run) -> None:
    folder = project_of(tmp_path, [event("u", "i", 1), {"user": "u"}, event("", "i", 2), event("u", "j", 3)])
    with (folder / "events.jsonl").open("a") as file:
        file.write("{not json\n")
    strict, _, err = run("ingest", "-p", folder, "--strict")
    assert strict == 4
    assert "3 bad rows" in err
    code, out, _ = run("ingest", "-p", folder, "--json")
    report = json.loads(out)
    assert (code, report["n_quarantined"], report["load"]["n_new"]) == (0, 3, 2)
    again = json.loads(run("ingest", "-p", folder, "--json")[1])
    assert again["load"]["n_new"] == 0


def test_a_user_with_very_many_events(tmp_path: Path, run: Run) -> None:
    n = 50_000
    table = pa.table(
        {
            "user": pa.array(["busy"] * n + ["calm"] * 10),
            "item": pa.array([f"i{k % 400}" for k in range(n + 10)]),
            "type": pa.array(["view"] * (n + 10)),
            "ts": pa.array([START + k * 1_000_000 for k in range(n + 10)]),
        }
    )
    folder = project_of(tmp_path, [], toml=PROJECT.replace("events.jsonl", "events.parquet"))
    pq.write_table(table, folder / "events.parquet")
    assert run("ingest", "-p", folder)[0] == 0
    with workspace.open(folder) as opened:
        frame = pa.table({"t": [START + n * 1_000_000], "user": ["busy"], "item": ["i7"]})
        values = opened.features.asof(frame).to_pylist()[0]
        assert (values["user_views"], values["item_views_1d"]) == (n, n // 400)
        answer = opened.recommend("busy")
        assert len(answer.item_ids) == 5
        assert answer.record.user_features["user_views"] == n

"""A forgotten user, right after `forget`, in everything that can be read: answers, records, traces, files, the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import feedwell
from feedwell.core.clock import ManualClock
from feedwell.core.errors import UsageError
from feedwell.core.event import SERVED

from .test_workspace import PROJECT, START

WHO = "somebody-with-a-rare-name"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feedwell.toml").write_text(PROJECT.replace("k = 2", "k = 3") + "[serving]\nlog_served = true\n")
    rows = [{"user": f"u{n % 5}", "item": f"i{n % 4}", "type": "view", "ts": START + n} for n in range(40)]
    rows += [{"user": who, "item": "i0", "type": "view", "ts": START + 50} for who in (WHO, "other")]
    rows += [{"user": WHO, "item": "i1", "type": "view", "ts": "no time"}]
    rows += [{"user": f"{WHO}-2", "item": "i1", "type": "view", "ts": "no time"}]
    lines = [json.dumps(r) for r in rows] + ["{broken " + WHO + ", }", "{broken other}"]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    (tmp_path / "items.jsonl").write_text(
        "".join(json.dumps({"item_id": f"i{n}", "title": "T"}) + "\n" for n in range(4))
    )
    return tmp_path


def test_a_forgotten_user_is_nowhere_at_once(folder: Path) -> None:
    with feedwell.open(folder, clock=ManualClock(START + 3_600_000_000)) as opened:
        assert opened.ingest().n_quarantined == 4
        asked = [opened.recommend(WHO, trace=True), opened.rank(WHO, ["i2"]), opened.recommend("other", trace=True)]
        opened.served.flush()
        mine, other = asked[0].request_id, asked[2].request_id
        key = opened.forget(WHO)
        assert key == asked[0].record.user

        assert opened.records.get(mine) is opened.records.trace(mine) is None
        assert opened.records.of_user(key) == []
        with pytest.raises(UsageError, match="no slate record"):
            opened.explain(mine)
        assert opened.explain(other)["user_id"] == "other"
        assert opened.records.trace(other) is not None

        log = opened.log.read(-1, 1_000)
        assert key not in log["user"].to_pylist()
        assert SERVED in log["type"].to_pylist()  # the other's are there
        assert key not in [k for table in opened.log.in_order() for k in table["user"].to_pylist()]

        lines = [
            json.loads(x) for path in opened.state_folder.glob("quarantine/*") for x in path.read_bytes().splitlines()
        ]
        assert len(lines) == 4
        assert [str(line).count(WHO) for line in lines if f"{WHO}-2" not in str(line)] == [0, 0, 0]
        assert sum("other" in str(line["data"]) or f"{WHO}-2" in str(line["data"]) for line in lines) == 2
        assert [line["data"] for line in lines].count("(forgotten)") == 2

        again = opened.recommend(WHO, trace=True)
        assert again.record.user == -1
        assert "i0" in again.item_ids  # seen is forgotten too
        with opened.state.reader(opened._champion.compiled.features) as reader:
            objects = reader.user_side(key, START + 4_000_000_000).objects
            assert [len(keys) for keys in objects.values()] == [0]


def test_a_record_written_while_its_user_was_forgotten_is_not_read(folder: Path) -> None:
    with feedwell.open(folder, clock=ManualClock(START + 3_600_000_000)) as opened:
        opened.ingest()
        opened.catch_up()
        path = opened.path()
        served = path.prepare(feedwell.workspace.Wish(user_id=WHO, explain=True))
        opened.forget(WHO)
        path.keep(served)  # the request was under way
        opened.served.flush()
        with pytest.raises(UsageError, match="no slate record"):
            opened.explain(served.record.request_id)
        assert served.record.user not in opened.log.read(-1, 1_000)["user"].to_pylist()

from __future__ import annotations

from pathlib import Path

import orjson

from feedwell.data.quarantine import Quarantine


def test_a_row_that_json_cannot_hold_leaves_its_reason(tmp_path: Path) -> None:
    deep: object = []
    for _ in range(300):
        deep = [deep]
    with Quarantine(tmp_path, "load") as quarantine:
        quarantine.add("too deep", row=1, data={"x": deep})
        quarantine.add("lone \ud800", row=2, data={"x": "\ud800"})
    lines = [orjson.loads(line) for line in (tmp_path / "load.jsonl").read_bytes().splitlines()]
    assert [line["row"] for line in lines] == [1, 2]
    assert "nested" in lines[0]["data"]

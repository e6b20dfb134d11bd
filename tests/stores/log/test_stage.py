"""Stages of loads that died: they hold raw ids, and go when the log is opened or loaded into again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from feedwell.stores.log import EventLog
from feedwell.stores.log.stage import Stage

_ROWS = pa.table({"type": ["view"], "ts": [5], "user": ["u1"], "item": ["i1"]})


@pytest.mark.parametrize("how", ["open", "load_history", "load_live"])
def test_an_abandoned_stage_goes_and_one_in_use_stays(log: EventLog, open_log: Callable[..., EventLog], how: str):
    folder: Path = log.folder / "tmp"
    (folder / "load-dead").mkdir(parents=True)
    (folder / "load-dead" / "stage.duckdb").write_text("somebody")
    with Stage(folder / "load-living", log.project):
        if how == "open":
            open_log()
        else:
            getattr(log, how)([_ROWS])
        assert sorted(path.name for path in folder.iterdir()) == ["load-living", "load-living.lock"]
    assert list(folder.iterdir()) == []

"""Small logs on disk, as the batch code reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedwell.data.log_view import LogView
from feedwell.engines.local import LocalEngine
from feedwell.stores.log.schema import event_schema

DEFAULTS: dict[str, Any] = {"event_id": b"\0" * 16, "origin": "history", "schema_version": 1, "user": -1, "item": -1}


@pytest.fixture
def log_of(tmp_path: Path) -> Callable[..., LogView]:
    """events (dicts; offset = place, available_at = ts unless said) → LogView over one Parquet segment."""

    def write(
        events: Sequence[dict[str, Any]], entities: tuple[str, ...] = ("user", "item"), **keywords: Any
    ) -> LogView:
        schema = event_schema(entities)
        rows = []
        for offset, event in enumerate(events):
            row = (
                DEFAULTS | dict.fromkeys(entities, -1) | {"offset": offset, "ts": event.get("available_at", 0)} | event
            )
            row.setdefault("available_at", row["ts"])
            rows.append({name: row.get(name) for name in schema.names})
        path = tmp_path / f"segment-{len(list(tmp_path.iterdir()))}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
        return LogView(segments=(path,), entities=entities, engine=LocalEngine(threads=1), **keywords)

    return write

"""Slate records → one row per slot that was shown, for training, off-policy evaluation and read-outs."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from feedwell.core import columns
from feedwell.core.slate import SlateRecord

SLOT_SCHEMA = pa.schema(
    [
        (columns.REQUEST_ID, pa.string()),
        (columns.T, pa.int64()),
        (columns.USER, pa.int64()),
        ("user_id", pa.string()),
        (columns.SURFACE, pa.string()),
        (columns.SLOT, pa.int32()),
        (columns.ITEM, pa.int64()),
        (columns.PROPENSITY, pa.float64()),
        ("utility", pa.float64()),
        ("sources", pa.list_(pa.string())),
        ("predictions", pa.map_(pa.string(), pa.float64())),
        ("features", pa.map_(pa.string(), pa.float32())),
        ("user_features", pa.map_(pa.string(), pa.float64())),
        ("assignments", pa.map_(pa.string(), pa.string())),
        ("release_id", pa.string()),
        ("epoch", pa.int64()),
        ("state_offset", pa.int64()),
        ("tail_offset", pa.int64()),
        ("fallback", pa.string()),
        ("degraded", pa.bool_()),
    ]
)


def slots_table(records: Iterable[SlateRecord]) -> pa.Table:
    """One row per slot (counted from 1, earlier pages of a scroll included); NaN where something was not scored.

    A record that was not shown has none: nobody could act on it, so it is no exposure for anyone who reads slots.
    """
    batches: list[pa.RecordBatch] = []
    rows: list[dict[str, object]] = []
    for record in records:
        rows += _rows(record) if record.shown else []
        if len(rows) >= 50_000:
            batches.append(pa.RecordBatch.from_pylist(rows, SLOT_SCHEMA))
            rows = []
    batches.append(pa.RecordBatch.from_pylist(rows, SLOT_SCHEMA))
    return pa.Table.from_batches(batches, SLOT_SCHEMA)


def _rows(record: SlateRecord) -> list[dict[str, object]]:
    shared: dict[str, object] = {
        columns.REQUEST_ID: record.request_id,
        columns.T: record.t,
        columns.USER: record.user,
        "user_id": record.user_id,
        columns.SURFACE: record.surface,
        "user_features": list(record.user_features.items()),
        "assignments": list(record.assignments.items()),
        "release_id": record.release_id,
        "epoch": record.epoch,
        "state_offset": record.state_offset,
        "tail_offset": record.tail_offset,
        "fallback": record.fallback,
        "degraded": bool(record.degraded),
    }
    return [
        {
            **shared,
            columns.SLOT: len(record.prefix) + i + 1,
            columns.ITEM: key,
            columns.PROPENSITY: record.propensity[i],
            "utility": record.utility[i],
            "sources": [name for s, name in enumerate(record.source_names) if record.sources[i] >> s & 1],
            "predictions": [(name, p[i]) for name, p in record.predictions.items()],
            "features": list(zip(record.feature_names, record.features[i], strict=True)) if record.features else [],
        }
        for i, key in enumerate(record.keys)
    ]

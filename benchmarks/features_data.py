"""The log and the 34 features that the feature benchmarks share: seeded, written once per size and shape."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feedwell.core.clock import DAY
from feedwell.core.project import EntitySection, EventSection, FeatureConfig, Project, ProjectSection
from feedwell.stores.log.schema import event_schema

START = 1_700_000_000_000_000 // DAY * DAY
SPAN = 60 * DAY
N_USERS, N_ITEMS, N_CATEGORIES = 100_000, 100_000, 200
TYPES = ("view", "click", "buy", "rate")
FEATURES: dict[str, dict[str, Any]] = {
    "user_views": {"entity": "user", "aggregate": "count", "events": ["view"], "windows": ["1h", "1d", "7d", "30d"]},
    "user_clicks": {"entity": "user", "aggregate": "count", "events": ["click"], "windows": ["1d", "7d"]},
    "user_buys": {"entity": "user", "aggregate": "count", "events": ["buy"], "windows": ["30d"]},
    "user_spend": {"entity": "user", "aggregate": "sum", "events": ["buy"], "windows": ["30d"]},
    "user_ctr": {"entity": "user", "aggregate": "rate", "events": ["view"], "numerator": ["click"], "windows": ["7d"]},
    "user_since": {"entity": "user", "aggregate": "time_since_last", "events": ["view"]},
    "user_age": {"entity": "user", "aggregate": "age", "events": ["view"]},
    "item_views": {"entity": "item", "aggregate": "count", "events": ["view"], "windows": ["1h", "1d", "7d", "30d"]},
    "item_clicks": {"entity": "item", "aggregate": "count", "events": ["click"], "windows": ["1d", "7d"]},
    "item_buys": {"entity": "item", "aggregate": "count", "events": ["buy"], "windows": ["7d", "30d"]},
    "item_ctr": {
        "entity": "item",
        "aggregate": "rate",
        "events": ["view"],
        "numerator": ["click"],
        "windows": ["1d", "7d"],
    },
    "item_income": {"entity": "item", "aggregate": "sum", "events": ["buy"], "windows": ["30d"]},
    "item_since": {"entity": "item", "aggregate": "time_since_last", "events": ["view"]},
    "item_age": {"entity": "item", "aggregate": "age", "events": ["view"]},
    "affinity": {"entity": ["user", "category"], "aggregate": "count", "events": ["view"], "windows": ["7d", "30d"]},
    "affinity_clicks": {"entity": ["user", "category"], "aggregate": "count", "events": ["click"], "windows": ["7d"]},
    "affinity_ctr": {
        "entity": ["user", "category"],
        "aggregate": "rate",
        "events": ["view"],
        "numerator": ["click"],
        "windows": ["30d"],
    },
    "affinity_since": {"entity": ["user", "category"], "aggregate": "time_since_last", "events": ["view"]},
    "pair_views": {"entity": ["user", "item"], "aggregate": "count", "events": ["view"]},
    "pair_since": {"entity": ["user", "item"], "aggregate": "time_since_last", "events": ["view"]},
    "category_views": {"entity": "category", "aggregate": "count", "events": ["view"], "windows": ["1d", "7d"]},
    "recent": {"entity": "user", "aggregate": "last_n", "events": ["view"], "n": 20},
}


def project() -> Project:
    """34 features: 33 numbers and the last 20 items."""
    return Project(
        project=ProjectSection(name="bench"),
        event={"buy": EventSection(value_scale=100)},
        entity={
            "item": EntitySection(columns={"category": "string"}),
            "category": EntitySection.model_validate({"from": "item.category"}),
        },
        feature={name: FeatureConfig.model_validate(body) for name, body in FEATURES.items()},
    )


def log_arrays(n: int, seed: int = 7, hot: int = 0) -> dict[str, np.ndarray]:
    """n events over 60 days; popular items and busy users follow a power law; `hot` events go to user 0."""
    rng = np.random.default_rng(seed)
    user = (N_USERS * rng.random(n) ** 2).astype(np.int64)
    item = (N_ITEMS * rng.random(n) ** 3).astype(np.int64)
    if hot:
        user[rng.choice(n, hot, replace=False)] = 0
    kind = rng.choice(len(TYPES), n, p=[0.70, 0.20, 0.05, 0.05])
    return {
        "at": np.sort(START + rng.integers(0, SPAN, n)),
        "type": kind,
        "user": user,
        "item": item,
        "category": item * 7919 % N_CATEGORIES,
        "cents": np.where(kind == 2, rng.integers(100, 20_000, n), np.where(kind == 3, rng.integers(1, 6, n), -1)),
    }


def event_table(arrays: dict[str, np.ndarray], entities: tuple[str, ...], first_offset: int = 0) -> pa.Table:
    """Those events with the log's whole schema."""
    n = len(arrays["at"])
    schema = event_schema(entities)
    offset = np.arange(first_offset, first_offset + n)
    valued = arrays["cents"] >= 0
    ids = np.zeros((n, 2), "<i8")
    ids[:, 0] = offset
    known: dict[str, pa.Array] = {
        "offset": pa.array(offset),
        "event_id": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(ids)]),
        "ts": pa.array(arrays["at"]),
        "available_at": pa.array(arrays["at"]),
        "type": pa.DictionaryArray.from_arrays(arrays["type"].astype(np.int32), pa.array(TYPES)).cast(pa.string()),
        "user": pa.array(arrays["user"]),
        "item": pa.array(arrays["item"]),
        "category": pa.array(arrays["category"]),
        "value_scaled": pa.array(arrays["cents"], mask=~valued),
        "value": pa.array(arrays["cents"] / 100, mask=~valued),
        "origin": pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), pa.array(["history"])).cast(pa.string()),
        "schema_version": pa.array(np.ones(n, np.int16)),
    }
    empty = {f.name: pa.nulls(n, f.type) for f in schema if f.name not in known}
    return pa.table([known.get(f.name, empty.get(f.name)) for f in schema], schema=schema)


def segments(n: int, hot: int = 0, folder: Path | None = None) -> list[Path]:
    """The log in Parquet segments of a million events, made once."""
    folder = (folder or Path(tempfile.gettempdir())) / f"feedwell-bench-{n}-{hot}"
    done = folder / "done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = log_arrays(n, hot=hot)
        for i, a in enumerate(range(0, n, 1_000_000)):
            part = {k: v[a : a + 1_000_000] for k, v in arrays.items()}
            pq.write_table(event_table(part, project().entities, a), folder / f"{i:04}.parquet", compression="zstd")
        done.touch()
    return sorted(folder.glob("*.parquet"))


def frame(rows: int, seed: int = 11, hot: bool = False) -> pa.Table:
    """(t, user, item) in the second half of the log; with `hot`, one row in ten asks for user 0."""
    rng = np.random.default_rng(seed)
    user = (N_USERS * rng.random(rows) ** 2).astype(np.int64)
    if hot:
        user[rng.random(rows) < 0.1] = 0
    item = (N_ITEMS * rng.random(rows) ** 3).astype(np.int64)
    return pa.table(
        {
            "t": pa.array(np.sort(START + SPAN // 2 + rng.integers(0, SPAN // 2, rows))),
            "user": pa.array(user),
            "item": pa.array(item),
            "category": pa.array(item * 7919 % N_CATEGORIES),
        }
    )

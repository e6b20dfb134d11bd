"""Generated logs for parity, and the project of every aggregate that reads them.

Many small logs stand side by side in one: each has its own users, items, categories and creators, so that none can see
another, and one batch reads them all. Times crowd around the edges that go wrong: ties, and hop and window boundaries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from feedwell.core.clock import DAY, HOUR, MINUTE
from feedwell.core.project import EntitySection, EventSection, FeatureConfig, Project, ProjectSection
from feedwell.stores.log.schema import event_schema

START = 1_700_000_000_000_000 // (6 * HOUR) * (6 * HOUR)
SPAN = 40 * DAY
_USERS, _ITEMS, _CATEGORIES, _CREATORS = 3, 4, 3, 2
_WINDOWS = ("1h", "2h", "1d", "7d", "30d")
Event = dict[str, Any]


_FEATURES: dict[str, dict[str, Any]] = {
    "user_views": {"entity": "user", "aggregate": "count", "events": ["view"], "windows": _WINDOWS},
    "user_views_all": {"entity": "user", "aggregate": "count", "events": ["view"]},
    "item_views": {"entity": "item", "aggregate": "count", "events": ["view", "click"], "windows": _WINDOWS},
    "item_home": {
        "entity": "item",
        "aggregate": "count",
        "events": ["view"],
        "where": 'surface == "home"',
        "windows": ["1d"],
    },
    "item_good": {
        "entity": "item",
        "aggregate": "count",
        "events": ["rate"],
        "where": "value >= 4",
        "windows": ["7d"],
    },
    "category_views": {"entity": "category", "aggregate": "count", "events": ["view"], "windows": ["1d", "30d"]},
    "affinity": {"entity": ["user", "category"], "aggregate": "count", "events": ["view"], "windows": ["1h", "7d"]},
    "creator_seen": {"entity": ["user", "creator"], "aggregate": "count", "events": ["view", "click"]},
    "pair_views": {"entity": ["user", "item"], "aggregate": "count", "events": ["view"], "windows": ["2h"]},
    "user_spend": {"entity": "user", "aggregate": "sum", "events": ["buy"], "windows": ["1d", "30d"]},
    "item_income": {"entity": "item", "aggregate": "sum", "events": ["buy"]},
    "item_rating": {"entity": "item", "aggregate": "mean", "events": ["rate"], "windows": ["1d", "30d"]},
    "user_rating": {"entity": "user", "aggregate": "mean", "events": ["rate"]},
    "ctr": {
        "entity": "item",
        "aggregate": "rate",
        "events": ["view"],
        "numerator": ["click"],
        "windows": ["1h", "7d"],
    },
    "user_ctr": {"entity": ["user", "category"], "aggregate": "rate", "events": ["view"], "numerator": ["click"]},
    "last_paid": {"entity": "user", "aggregate": "last_value", "events": ["buy"]},
    "item_last_rate": {"entity": "item", "aggregate": "last_value", "events": ["rate"]},
    "recent": {"entity": "user", "aggregate": "last_n", "events": ["view", "click"], "n": 5},
    "since_view": {"entity": "user", "aggregate": "time_since_last", "events": ["view"]},
    "pair_since": {"entity": ["user", "item"], "aggregate": "time_since_last", "events": ["view", "click"]},
    "item_age": {"entity": "item", "aggregate": "age", "since": "catalog"},
    "user_age": {"entity": "user", "aggregate": "age"},
    "item_first": {"entity": "item", "aggregate": "age", "events": ["view"]},
    "item_hot": {"entity": "item", "aggregate": "decayed_count", "events": ["view"], "half_life": "1h"},
    "user_warm": {"entity": "user", "aggregate": "decayed_count", "events": ["view", "click"], "half_life": "1d"},
    "follows": {"entity": ["user", "creator"], "aggregate": "is_active", "events": ["follow"]},
    "likes": {"entity": ["user", "item"], "aggregate": "is_active", "events": ["like", "save"]},
    "n_follows": {"entity": "user", "aggregate": "active_count", "events": ["follow"]},
    "followers": {"entity": "creator", "aggregate": "active_count", "events": ["follow"]},
    "item_likes": {"entity": "item", "aggregate": "active_count", "events": ["like", "save"]},
    "price": {"entity": "item", "aggregate": "column", "column": "price"},
    "years": {"entity": "user", "aggregate": "column", "column": "years"},
    "category_key": {"entity": "item", "aggregate": "column", "column": "category"},
}


def parity_project(more: Mapping[str, Mapping[str, Any]] | None = None) -> Project:
    """Every built-in aggregate, over every kind of key, with windows of each hop; and `more` features: name → keys."""
    return Project(
        project=ProjectSection(name="parity"),
        event={
            "buy": EventSection(value_scale=100),
            "rate": EventSection(),
            "view": EventSection(),
            "click": EventSection(),
            "like": EventSection(undone_by="unlike"),
            "save": EventSection(),
            "follow": EventSection(object="creator", undone_by="unfollow"),
            "unfollow": EventSection(object="creator"),
        },
        entity={
            "user": EntitySection(columns={"years": "int"}),
            "item": EntitySection(
                columns={"price": "float", "created_at": "time", "category": "string", "creator_id": "string"},
                created_at="created_at",
            ),
            "category": EntitySection.model_validate({"from": "item.category"}),
            "creator": EntitySection.model_validate({"from": "item.creator_id"}),
        },
        feature={name: FeatureConfig.model_validate(body) for name, body in {**_FEATURES, **(more or {})}.items()},
    )


@dataclass(kw_only=True)
class GeneratedLog:
    """`n_logs` small logs in one: `events` in order, and the frame of each log as rows of (t, user, item)."""

    n_logs: int
    events: list[Event]
    frames: list[list[dict[str, int]]]
    times: list[int]

    def of(self, log: int) -> list[Event]:
        return [e for e in self.events if e["_log"] == log]

    def table(self, project: Project, events: Sequence[Event] | None = None) -> pa.Table:
        """The events with the log's schema."""
        schema = event_schema(project.entities)
        rows = [{**e, "payload": json.dumps(e["payload"])} for e in (self.events if events is None else events)]
        return pa.table({f.name: pa.array([r[f.name] for r in rows], f.type) for f in schema}, schema=schema)


def generate(seed: int, n_logs: int = 1, n_events: int = 40, n_times: int = 4) -> GeneratedLog:
    """Deterministic by seed; about `n_events` per log, asked at `n_times` common times."""
    rng = np.random.default_rng(seed)
    instants = np.sort(_instants(rng, 30 + n_events // 2))
    times = sorted({int(t) for t in rng.choice(_near(rng, instants), n_times)})
    drafts: list[Event] = []
    for log in range(n_logs):
        drafts += _small_log(rng, log, int(rng.integers(0, 2 * n_events)), instants)
    drafts.sort(key=lambda e: e["available_at"])
    for offset, event in enumerate(drafts):
        event["offset"] = offset
        event["event_id"] = offset.to_bytes(16, "big")
    frames = [
        [
            {"t": t, "user": _key(rng, log, _USERS + 1, 0.1), "item": _key(rng, log, _ITEMS + 1, 0.1)}
            for t in times
            for _ in range(2)
        ]
        for log in range(n_logs)
    ]
    return GeneratedLog(n_logs=n_logs, events=drafts, frames=frames, times=times)


def _instants(rng: np.random.Generator, n: int) -> np.ndarray:
    """Few distinct times, so that ties abound; most a microsecond from an edge of some hop, some days apart."""
    hop = rng.choice([MINUTE, 15 * MINUTE, HOUR, 6 * HOUR], n)
    span = int(rng.choice([2 * HOUR, 2 * DAY, SPAN]))
    at: np.ndarray = START + rng.integers(0, span, n) // hop * hop + rng.choice([-1, 0, 0, 1, 30_000_000], n)
    return at


def _near(rng: np.random.Generator, instants: np.ndarray) -> np.ndarray:
    """Times to ask at: at an event, just beside it, or just where it leaves a window."""
    window = rng.choice([0, 0, HOUR, 2 * HOUR, DAY, 7 * DAY, 30 * DAY], len(instants))
    at: np.ndarray = instants + window + rng.choice([-1, 0, 1, MINUTE, HOUR], len(instants))
    return at


def _key(rng: np.random.Generator, log: int, n: int, null: float) -> int:
    return -1 if rng.random() < null else log * n + int(rng.integers(n))


def _small_log(rng: np.random.Generator, log: int, n: int, instants: np.ndarray) -> list[Event]:
    kinds = ["view", "click", "buy", "rate", "like", "unlike", "save", "follow", "unfollow", "$item", "$user"]
    shares = np.array([6, 3, 2, 2, 2, 2, 1, 2, 2, 2, 1], float)
    known: dict[int, tuple[int, int]] = {}
    out = []
    n_users, n_items = int(rng.integers(1, _USERS + 1)), int(rng.integers(1, _ITEMS + 1))
    for at in np.sort(rng.choice(instants, n)).tolist() if n else []:
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        user = -1 if rng.random() < 0.08 else log * (_USERS + 1) + int(rng.integers(n_users))
        item = -1 if rng.random() < 0.08 else log * (_ITEMS + 1) + int(rng.integers(n_items))
        out.append(_event(rng, log, kind, at, user, item, known))
    return out


def _event(
    rng: np.random.Generator, log: int, kind: str, at: int, user: int, item: int, known: dict[int, tuple[int, int]]
) -> Event:
    payload: dict[str, Any] = {}
    value = None
    if kind == "$item":
        user, item = -1, max(item, log * (_ITEMS + 1))
        known[item] = _key(rng, log, _CATEGORIES, 0.15), _key(rng, log, _CREATORS, 0.15)
        payload = {"price": float(rng.integers(1, 9)) / 4, "created_at": int(at - rng.integers(0, DAY))}
        payload = {k: v for k, v in payload.items() if rng.random() < 0.8}
    elif kind == "$user":
        user, item = max(user, log * (_USERS + 1)), -1
        payload = {"years": int(rng.integers(10, 90))} if rng.random() < 0.8 else {}
    elif kind in ("follow", "unfollow"):
        item = -1
    elif kind in ("buy", "rate") and rng.random() < 0.85:
        value = float(rng.integers(1, 6)) if kind == "rate" else float(rng.integers(-300, 900)) / 100
    category, creator = known.get(item, (-1, -1))
    if kind in ("follow", "unfollow"):
        creator = _key(rng, log, _CREATORS, 0.1)
    return {
        "_log": log,
        "type": kind,
        "available_at": int(at),
        "ts": int(at - rng.integers(0, 3 * DAY)),
        "user": user,
        "item": item,
        "category": category,
        "creator": creator,
        "session": None,
        "device": None,
        "request_id": None,
        "slot": None,
        "value": value,
        "value_scaled": None if value is None else math.floor(value * (100 if kind == "buy" else 1) + 0.5),
        "unit": None,
        "surface": str(rng.choice(["home", "search"])) if rng.random() < 0.8 else None,
        "payload": payload,
        "origin": "history",
        "schema_version": 1,
    }

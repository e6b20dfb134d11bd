"""A small shop whose truth is simple: people of one taste buy what their taste is, and little else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import feedwell.workspace as workspace
from feedwell.core.artifact import Release
from feedwell.core.clock import DAY, HOUR, SECOND, ManualClock

START = 1_700_000_000 * SECOND
PROJECT = """
[project]
name = "shop"

[data]
events = "events.jsonl"
exposure = ["view"]

[event.view]
[event.buy]

[objective.buy]
events = ["buy"]
within = "1h"

[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]
windows = ["7d"]

[feature.item_buys]
entity = "item"
aggregate = "count"
events = ["buy"]

[feature.pair_views]
entity = ["user", "item"]
aggregate = "count"
events = ["view"]

[source.popular]
k = 20

[source.als]
k = 20
embedding_dim = 8
epochs = 3

[filter.seen]
events = ["buy"]

[ranker]
kind = "xgboost"
n_trees = 20
threads = 1

[slate]
kind = "top_k"
k = 5
explore = { first = 3, last = 5 }

[train]
negatives = 5

[evaluate]
k = 5
bootstrap = 100

[gates]
min_users = 5
"""


def shop_events(users: int = 40, items: int = 40, visits: int = 6, seed: int = 0) -> list[dict[str, Any]]:
    """Four tastes: an item of one's taste is bought in every other view, another in one of fifty."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(users):
        for visit in range(visits):
            t = START + visit * DAY + int(rng.integers(DAY // 2))
            for step, item in enumerate(rng.choice(items, 4, replace=False).tolist()):
                at = (t + step * 60 * SECOND) // SECOND * SECOND
                rows.append({"type": "view", "user": f"u{user}", "item": f"i{item}", "ts": at})
                if rng.random() < (0.5 if item % 4 == user % 4 else 0.02):
                    rows.append({"type": "buy", "user": f"u{user}", "item": f"i{item}", "ts": at + 30 * SECOND})
    return sorted(rows, key=lambda r: r["ts"])


@pytest.fixture
def shop(tmp_path: Path) -> Callable[..., workspace.Workspace]:
    """(changes to the project text, events) → the workspace, ingested as history."""

    def make(*changes: tuple[str, str], events: list[dict[str, Any]] | None = None) -> workspace.Workspace:
        text = PROJECT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "feedwell.toml").write_text(text)
        rows = shop_events() if events is None else events
        (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = workspace.open(tmp_path, clock=ManualClock(START + 30 * DAY + HOUR))
        made.ingest(history=True)
        return made

    return make


def bare(ws: workspace.Workspace, **more: Any) -> str:
    """A release that nothing was trained for."""
    ws.clock.advance(1_000_000)
    made = Release(
        release_id=ws.releases.new_release_id({}, ws.project_text),
        created_at=ws.clock.now(),
        **{
            "artifacts": {},
            "project_text": ws.project_text,
            "project_digest": ws.project.digest,
            "features_version": "f",
            **more,
        },
    )
    ws.releases.write_release(made)
    return made.release_id

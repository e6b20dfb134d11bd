"""A history of the simulated world (`feedwell.data.world`): people, items and actions with known truth."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedwell.core.errors import DataError
from feedwell.core.registry import dataset
from feedwell.data.datasets._text import quoted
from feedwell.data.world import PRESETS, WorldConfig, sections

_FILES = ("items.parquet", "users.parquet", "slates.parquet", "events.parquet")


@dataset("world")
class SimulatedWorld:
    title = "a simulated world (items, users, slates and events.parquet, as feedwell.data.world writes them)"

    @staticmethod
    def detect(folder: Path) -> bool:
        return all((folder / name).is_file() for name in _FILES)

    @staticmethod
    def prepare(folder: Path, project: Path) -> str:
        config = _preset_of(folder / "events.parquet")
        on_items = [action for action in config.actions if action.object == "item"]
        return "".join(
            [
                sections.tables(config, quoted(folder.resolve())[1:-1]),
                sections.events(config),
                "\n# One row per outcome; labels, heads, metrics and the slate's value read it here.",
                *(sections.objective(action, "1d") for action in on_items),
                "\n# What is known at a time: the same in training, online, and rebuilt from history.",
                *(_features(action.name) for action in on_items),
                _FOLLOWS if sections.has_follows(config) else "",
                _REST,
            ]
        )


def _preset_of(events: Path) -> WorldConfig:
    """The preset whose actions and surfaces the events have."""
    types, surfaces = _distinct(events, "type"), _distinct(events, "surface")
    for config in PRESETS.values():
        own = {"view", *(a.name for a in config.actions), *(a.undone_by for a in config.actions if a.undone_by)}
        if types <= own and surfaces <= {s.name for s in config.surfaces}:
            return config
    raise DataError(f"{events} has event types {sorted(types)}, which no preset of the simulated world has")


def _distinct(path: Path, column: str) -> set[str]:
    return set(pc.unique(pq.read_table(path, columns=[column])[column]).to_pylist()) - {None, "onboarding"}


def _features(name: str) -> str:
    return f"""
[feature.item_{name}s]
entity = "item"
aggregate = "count"
events = ["{name}"]
windows = ["6h", "2d"]

[feature.item_{name}_rate]
entity = "item"
aggregate = "rate"
events = ["view"]
numerator = ["{name}"]
windows = ["2d"]
allow_sparse = true

[feature.user_{name}_rate]
entity = "user"
aggregate = "rate"
events = ["view"]
numerator = ["{name}"]
windows = ["7d"]
allow_sparse = true
"""


_FOLLOWS = """
[feature.follows_creator]        # a relation: undone by an unfollow
entity = ["user", "creator"]
aggregate = "is_active"
events = ["follow"]

[feature.creator_followers]
entity = "creator"
aggregate = "active_count"
events = ["follow"]
"""

_REST = """
[feature.item_age]
entity = "item"
aggregate = "age"
since = "catalog"

[feature.user_category_clicks]
entity = ["user", "category"]
aggregate = "count"
events = ["click"]
windows = ["2d", "7d"]

[feature.user_category_click_rate]
entity = ["user", "category"]
aggregate = "rate"
events = ["view"]
numerator = ["click"]
windows = ["7d"]

[feature.user_creator_clicks]
entity = ["user", "creator"]
aggregate = "count"
events = ["click"]
windows = ["7d"]

[feature.creator_click_rate]
entity = "creator"
aggregate = "rate"
events = ["view"]
numerator = ["click"]
windows = ["7d"]

[feature.pair_views]
entity = ["user", "item"]
aggregate = "count"
events = ["view"]
windows = ["2d"]

# Where candidates come from.
[source.popular]
k = 100
events = ["click"]
half_life = "1d"

[source.fresh]
k = 100

[source.transitions]             # what people clicked soon after
k = 100
events = ["click"]

[source.als]                     # matrix factorisation; a newcomer is folded in at once
k = 100
events = ["click"]
embedding_dim = 32

[filter.seen]
events = ["click", "hide"]       # nothing is shown again that one has opened or hidden

[ranker]
kind = "xgboost"

[slate]
kind = "dpp"
k = 10
diversity = 0.1
cap = { per_group = 2 }          # per creator
relax = ["cap"]
explore = { first = 6, last = 10, pool = 50, temperature = 0.2, epsilon = 0.05 }

[split]
by = "time"

[train]
max_requests = 4000              # moments that the ranker learns from, spread evenly; more takes longer

[evaluate]
k = 10
relevant = "click"
horizon = "1d"

[serving]
fallback = ["popular"]
"""

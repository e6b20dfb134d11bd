"""A history of the simulated world (`feedwell.data.world`): people, items and actions with known truth."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedwell.core.errors import DataError
from feedwell.core.registry import dataset
from feedwell.data.datasets._text import quoted
from feedwell.data.world import PRESETS, WorldConfig
from feedwell.data.world.config import Action

_FILES = ("items.parquet", "users.parquet", "slates.parquet", "events.parquet")
_UNITS = {"dwell": ("s", 1000), "price": ("money", 100)}
"""What an action's value is → (unit, scale of the exact integer)"""


@dataset("world")
class SimulatedWorld:
    title = "a simulated world (items, users, slates and events.parquet, as feedwell.data.world writes them)"

    @staticmethod
    def detect(folder: Path) -> bool:
        return all((folder / name).is_file() for name in _FILES)

    @staticmethod
    def prepare(folder: Path, project: Path) -> str:
        config = _preset_of(folder / "events.parquet")
        return "".join(
            [
                _HEAD.replace("<name>", config.name).replace("<folder>", quoted(folder.resolve())[1:-1]),
                _PRICE if config.price_median is not None else "",
                "\n[event.view]\n",
                *(_event(action) for action in config.actions),
                "\n# One row per outcome; labels, heads, metrics and the slate's value read it here.",
                *(_objective(action) for action in config.actions if action.object == "item"),
                "\n# What is known at a time: the same in training, online, and rebuilt from history.",
                *(_features(action.name) for action in config.actions if action.object == "item"),
                _FOLLOWS if any(action.object == "creator" for action in config.actions) else "",
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


def _event(action: Action) -> str:
    lines = [f"\n[event.{action.name}]"]
    if action.object != "item":
        lines.append(f'object = "{action.object}"')
    if action.undone_by:
        lines.append(f'undone_by = "{action.undone_by}"')
    if action.value in _UNITS:
        unit, scale = _UNITS[action.value]
        lines += [f'unit = "{unit}"', f"value_scale = {scale}"]
    return "\n".join(lines) + "\n"


def _objective(action: Action) -> str:
    lines = [f"\n[objective.{action.name}]", f'events = ["{action.name}"]', 'within = "1d"']
    if action.after != "view":
        lines.append(f'given = "{action.after}"')
    if action.weight < 0:
        lines.append('direction = "down"')
    return "\n".join([*lines, f"weight = {abs(action.weight)}"]) + "\n"


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


_HEAD = """\
# A simulated world: no person and no item of it is real. Written by feedwell; every key may be changed.

[project]
name = "<name>"

[data]
events = "<folder>/events.parquet"
ts_unit = "us"
exposure = ["view"]              # what counts as shown, until our own slates say it

[entity.user]
path = "<folder>/users.parquet"
columns = { age_group = "string", country = "string", signup_at = "time" }
valid_from = "signup_at"
ts_unit = "us"

[entity.creator]                 # a key taken from the item's row; people follow it
from = "item.creator_id"

[entity.category]
from = "item.category"

[entity.item]
path = "<folder>/items.parquet"
valid_from = "created_at"        # an item is not known before it is made
created_at = "created_at"
group = "creator_id"
text = ["title"]
ts_unit = "us"

[entity.item.columns]
title = "string"
category = "string"
creator_id = "string"
created_at = "time"
"""

_PRICE = """price = "float"
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

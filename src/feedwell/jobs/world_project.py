"""The project that runs in a simulated world: as `feedwell init` would write it, lean enough to retrain every round.

Fewer features than the demo's, windows that fit a history of days, and a rule that an item ends with its world's item
life, so that every arm and baseline chooses among the same items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedwell.core.clock import HOUR
from feedwell.data.world import Action, WorldConfig, WorldHistory
from feedwell.jobs.plan import Plan

FOLDER = "world"
_UNITS = {"dwell": ("s", 1000), "price": ("money", 100)}
_QUICK, _SLOW = "2h", "12h"
"""Attribution windows: of what people do at once, and of what they do later that day."""
LEAST_POSITIVES = 15
"""An outcome rarer than this in the history is no objective: its head would be noise times a large weight, and the gate
on the refit's labels would refuse most releases."""


def write(history: WorldHistory, plan: Plan, folder: Path) -> None:
    """The project file, and under `world/` the history with the views of a page at one time."""
    items = with_expiry(history.items, plan.world)
    paged = WorldHistory(events=_paged(history.events), items=items, users=history.users, slates=history.slates)
    paged.write(folder / FOLDER)
    happened = Counter(history.events["type"].to_pylist())
    (folder / "feedwell.toml").write_text(project_text(plan, happened), encoding="utf-8")


def with_expiry(items: pa.Table, config: WorldConfig) -> pa.Table:
    """The catalog with `expires_at`: what the world's own policies are held to by `live_items`."""
    life = round(config.item_life_h * HOUR)
    return items.append_column("expires_at", pc.add(items["created_at"], life))


def project_text(plan: Plan, happened: Mapping[str, int]) -> str:
    """`feedwell.toml`. `happened`: event type → how often in the history."""
    config = plan.world
    on_items = [a for a in config.actions if a.object == "item" and happened.get(a.name, 0) >= LEAST_POSITIVES]
    follows = any(action.object == "creator" for action in config.actions)
    priced = config.price_median is not None
    return "".join(
        [
            _HEAD.format(name=config.name, price='price = "float"\n' if priced else ""),
            *(_event(action) for action in config.actions),
            *(_objective(action) for action in on_items),
            *(_rates(action.name) for action in on_items[:2]),
            _FEATURES,
            _FOLLOWS if follows else "",
            _PARTS.format(learn_from=plan.learn_from, min_users=max(5, plan.judge_on // 6)),
        ]
    )


def _paged(events: pa.Table) -> pa.Table:
    """A page's views at the time of its first, as a client sends them: one choice situation, and not one per slot."""
    is_view = pc.equal(events["type"], "view").to_numpy()
    ts_E = events["ts"].to_numpy().copy()
    _, page_V = np.unique(events["request_id"].filter(pa.array(is_view)).to_numpy().astype(str), return_inverse=True)
    first_P = np.full(int(page_V.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_P, page_V, ts_E[is_view])
    ts_E[is_view] = first_P[page_V]
    moved = events.set_column(events.schema.get_field_index("ts"), "ts", pa.array(ts_E))
    return moved.sort_by([("ts", "ascending"), ("event_id", "ascending")])


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
    within = _QUICK if action.delay_median_s < 600 else _SLOW
    lines = [f"\n[objective.{action.name}]", f'events = ["{action.name}"]', f'within = "{within}"']
    if action.after != "view":
        lines.append(f'given = "{action.after}"')
    if action.weight < 0:
        lines.append('direction = "down"')
    return "\n".join([*lines, f"weight = {abs(action.weight)}"]) + "\n"


def _rates(name: str) -> str:
    return f"""
[feature.item_{name}_rate]
entity = "item"
aggregate = "rate"
events = ["view"]
numerator = ["{name}"]
windows = ["3d"]
allow_sparse = true
"""


_HEAD = """\
# A simulated world: no person and no item of it is real.

[project]
name = "{name}"

[data]
events = "world/events.parquet"
ts_unit = "us"
exposure = ["view"]              # what counts as shown, until our own slates say it

[entity.user]
path = "world/users.parquet"
columns = {{ age_group = "string", country = "string", signup_at = "time" }}
valid_from = "signup_at"
ts_unit = "us"

[entity.age_group]               # what can be seen of the segments that people belong to
from = "user.age_group"

[entity.creator]
from = "item.creator_id"

[entity.category]
from = "item.category"

[entity.item]
path = "world/items.parquet"
valid_from = "created_at"
created_at = "created_at"
expires_at = "expires_at"
group = "creator_id"
text = ["title"]
ts_unit = "us"

[entity.item.columns]
title = "string"
category = "string"
creator_id = "string"
created_at = "time"
expires_at = "time"
{price}
[event.view]
"""

_FEATURES = """
[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]
windows = ["3d"]

[feature.item_age]
entity = "item"
aggregate = "age"
since = "catalog"

[feature.user_click_rate]
entity = "user"
aggregate = "rate"
events = ["view"]
numerator = ["click"]
windows = ["7d"]

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
allow_sparse = true

[feature.age_group_category_click_rate]
entity = ["age_group", "category"]
aggregate = "rate"
events = ["view"]
numerator = ["click"]
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
windows = ["1d"]
allow_sparse = true
"""

_FOLLOWS = """
[feature.follows_creator]
entity = ["user", "creator"]
aggregate = "is_active"
events = ["follow"]
"""

_PARTS = """
[source.popular]
k = 60
events = ["click"]
half_life = "1d"

[source.fresh]
k = 60

[source.transitions]
k = 60
events = ["click"]

[source.als]
k = 60
events = ["click"]
embedding_dim = 16

[filter.seen]
events = ["click", "hide"]

[filter.expired]

[ranker]
kind = "logistic"                # on a history this short it is no worse than trees, and quicker

[slate]
kind = "top_k"
k = 10
explore = {{ first = 6, last = 10, pool = 30, temperature = 0.2, epsilon = 0.05 }}

[split]
by = "time"

[train]
max_requests = {learn_from}

[evaluate]
k = 10
relevant = "click"
horizon = "12h"
bootstrap = 200

[gates]
min_users = {min_users}                   # a small world, judged on a sample
min_rank_correlation = 0.0       # heads of rare outcomes move when there is little data
max_mean_ratio = 10.0

[serving]
fallback = ["popular"]
trace_share = 0.0
"""

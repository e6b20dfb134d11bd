"""The project that runs in a simulated world: as `feedwell init` would write it, lean enough to retrain every round.

Fewer features than the demo's, windows that fit a history of days, and a rule that an item ends with its world's item
life, so that every arm and baseline chooses among the same items.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedwell.core.clock import HOUR
from feedwell.core.durations import parse_duration
from feedwell.core.errors import UsageError
from feedwell.core.project import SplitSection
from feedwell.data.world import Action, WorldConfig, WorldHistory, sections
from feedwell.jobs.plan import Plan

FOLDER = "world"
_QUICK, _SLOW = "2h", "12h"
"""Attribution windows: of what people do at once, and of what they do later that day."""
_RELEVANT = "click"
LEAST_POSITIVES = 15
"""An outcome rarer than this in the history is no objective: its head would be noise times a large weight, and the gate
on the refit's labels would refuse most releases."""
LEAST_GIVEN = 5
"""Nor is one whose head would have fewer rows than this to learn from: with none, there is nothing to train."""


def write(history: WorldHistory, plan: Plan, folder: Path) -> None:
    """The project file, and under `world/` the history with the views of a page at one time."""
    items = with_expiry(history.items, plan.world)
    paged = WorldHistory(events=_paged(history.events), items=items, users=history.users, slates=history.slates)
    paged.write(folder / FOLDER)
    (folder / "feedwell.toml").write_text(project_text(plan, paged.events), encoding="utf-8")


def with_expiry(items: pa.Table, config: WorldConfig) -> pa.Table:
    """The catalog with `expires_at`: what the world's own policies are held to by `live_items`."""
    life = round(config.item_life_h * HOUR)
    return items.append_column("expires_at", pc.add(items["created_at"], life))


def project_text(plan: Plan, events: pa.Table) -> str:
    """`feedwell.toml` for a history of those events; UsageError where they are too few to learn from."""
    config = plan.world
    on_items: list[Action] = []
    for action in config.actions:
        follows = action.after == "view" or action.after in (a.name for a in on_items)
        if action.object == "item" and follows and learnable(action, events):
            on_items.append(action)
    if all(action.name != _RELEVANT for action in on_items):
        raise UsageError(
            f"a simulated world of {config.n_users} users and {config.n_items_at_start} items (factor {plan.factor:g})"
            f" is too small: its {plan.history_days} days have too few {_RELEVANT}s to learn from; try a larger factor"
        )
    return "".join(
        [
            sections.tables(config, FOLDER, expires=True),
            _AGE_GROUP,
            sections.events(config),
            *(sections.objective(action, _within(action)) for action in on_items),
            *(_rates(action.name) for action in on_items[:2]),
            _FEATURES,
            _FOLLOWS if sections.has_follows(config) else "",
            _PARTS.format(relevant=_RELEVANT, learn_from=plan.learn_from, min_users=max(5, plan.judge_on // 6)),
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


def learnable(action: Action, events: pa.Table) -> bool:
    """Whether the history says enough of an outcome: it happened often, and where the first ranker learns, what it is
    `given` happened early enough for its window to close there."""
    if not len(events):
        return False
    ts_E = np.sort(events["ts"].to_numpy())
    first, beyond = np.cumsum(SplitSection().fractions)[:2]
    start, end = (ts_E[round(share * (len(ts_E) - 1))] for share in (first, beyond))
    of = events.filter(pc.equal(events["type"], action.after))["ts"].to_numpy()
    closed = (of >= start) & (of < end - parse_duration(_within(action)))
    often = pc.sum(pc.equal(events["type"], action.name)).as_py() or 0
    return bool(often >= LEAST_POSITIVES and np.count_nonzero(closed) >= LEAST_GIVEN)


def _within(action: Action) -> str:
    return _QUICK if action.delay_median_s < 600 else _SLOW


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


_AGE_GROUP = """
[entity.age_group]               # what can be seen of the segments that people belong to
from = "user.age_group"
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
relevant = "{relevant}"
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

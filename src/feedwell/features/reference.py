"""reference: what every feature is, written to be seen to be right. It shares no code with the other readings.

For each row of the frame it walks the whole list of events. Use it in tests, and to settle what a declaration means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from feedwell.core.objective import parse_where
from feedwell.features.definition import FeatureSet
from feedwell.features.feature_column import FeatureColumn
from feedwell.features.measures import Selection

Event = Mapping[str, Any]


def reference(
    features: FeatureSet, events: Sequence[Event], frame: Sequence[Mapping[str, int]]
) -> list[dict[str, Any]]:
    """One dict per frame row: every feature column by name, NaN where null; last_n features as lists of keys and times.

    `events` are dicts with the log's columns, `payload` already a dict; rows of `frame` have `t` and keys.
    """
    ordered = sorted(events, key=lambda e: (e["available_at"], e["offset"]))
    return [_row(features, ordered, row) for row in frame]


def _row(features: FeatureSet, ordered: Sequence[Event], row: Mapping[str, int]) -> dict[str, Any]:
    t = row["t"]
    visible = [e for e in ordered if e["available_at"] < t]
    out: dict[str, Any] = {}
    for column in features.columns:
        keys = [_key(features, visible, row, entity) for entity in column.entities]
        facts = [e for e in visible if _about(column, e, keys)] if min(keys) >= 0 else []
        out[column.name] = column.aggregate.reference(facts, t, _since(column.window, t))
    for name, need in features.sequences.items():
        user = _key(features, visible, row, "user")
        mine = [
            e
            for e in visible
            if user >= 0 and e["user"] == user and e[need.object] >= 0 and _is_selected(Selection(need.events), e)
        ]
        out[name] = [e[need.object] for e in mine][-need.n :]
        out[name + "_at"] = [e["available_at"] for e in mine][-need.n :]
    return out


def _key(features: FeatureSet, visible: Sequence[Event], row: Mapping[str, int], entity: str) -> int:
    if entity in row:
        return row[entity]
    if entity not in features.project.derived_entities:
        return -1
    origin = features.project.derived_entities[entity][0]
    of = _key(features, visible, row, origin)
    changes = [e for e in visible if e["type"] == "$" + origin and e[origin] == of and of >= 0]
    return int(changes[-1][entity]) if changes else -1


def _about(column: FeatureColumn, event: Event, keys: Sequence[int]) -> bool:
    if any(event[entity] != key for entity, key in zip(column.entities, keys, strict=True)):
        return False
    return any(_is_selected(selection, event) for selection in column.aggregate.reference_facts())


def _is_selected(selection: Selection, event: Event) -> bool:
    if selection.events:
        if event["type"] not in selection.events:
            return False
    elif event["type"].startswith("$"):
        return False
    for term in parse_where(selection.where):
        cell = event[term.column]
        if isinstance(cell, float) and math.isnan(cell):
            return False
        if not term.holds(cell):
            return False
    return True


def _since(window: int | None, t: int) -> int | None:
    if window is None:
        return None
    minute, hour, day = 60 * 10**6, 3600 * 10**6, 86400 * 10**6
    if window <= 2 * hour:
        hop = minute
    elif window <= 2 * day:
        hop = 15 * minute
    elif window <= 14 * day:
        hop = hour
    else:
        hop = 6 * hour
    return t - t % hop - window

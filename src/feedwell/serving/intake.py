"""Events and catalog rows that come by HTTP: checked one by one, appended together, acknowledged when durable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import Response

from feedwell.core.clock import SECOND
from feedwell.core.event import CATALOG_PREFIX, RawEvent
from feedwell.data.quarantine import Quarantine
from feedwell.pipeline.project_folder import STATE_FOLDER
from feedwell.serving.bodies import PROBLEMS_LISTED, rows_of
from feedwell.serving.fallback import json_response
from feedwell.serving.runtime import Runtime

Check = Callable[[Any, int], RawEvent | str]
"""(row, now µs) → the event, or why it is refused."""

Undeclared = Callable[[Mapping[str, Any]], set[str]]
"""A catalog row → its columns that the project does not declare."""


def append(runtime: Runtime, body: bytes, key: str, check: Check, undeclared: Undeclared | None = None) -> Response:
    """What became of the rows: 200 with a reason for each refused one, 422 only if none was good.

    `unknown_types`, where there are any: undeclared event types and how many rows have each. They are stored, but no
    feature or label reads them: more often than not it is a typing error.

    `undeclared_columns`, where there are any: the same of a catalog row's columns, kept for display only.

    `idempotent`: whether the same body once more would change nothing (every event has an id, or is a catalog row).
    """
    rows, now = rows_of(body, key), runtime.clock.now()
    checked = [
        check(row, now) if isinstance(row, Mapping) else f"a row is an object, not a {type(row).__name__}"
        for row in rows
    ]
    events = [event for event in checked if isinstance(event, RawEvent)]
    errors = [{"index": i, "error": why} for i, why in enumerate(checked) if isinstance(why, str)]
    appended = runtime.log.append(events) if events else None
    runtime.telemetry.count("rows_accepted", len(events), kind=key)
    if errors:
        runtime.telemetry.count("rows_refused", len(errors), kind=key)
        _quarantine(runtime, key, errors, rows, now)
    answer: dict[str, Any] = {
        "accepted": 0 if appended is None else appended.n_new,
        "duplicates": 0 if appended is None else appended.n_duplicate,
        "errors": errors,
        "idempotent": all(e.event_id is not None or e.type.startswith(CATALOG_PREFIX) for e in events),
    }
    if unknown := _unknown_types(runtime, events):
        answer["unknown_types"] = unknown
        runtime.telemetry.count("rows_of_unknown_type", sum(unknown.values()), kind=key)
    if undeclared is not None:
        good = [row for row, event in zip(rows, checked, strict=True) if isinstance(event, RawEvent)]
        if columns := Counter(name[:1_000] for row in good for name in undeclared(row)):
            answer["undeclared_columns"] = dict(columns.most_common(PROBLEMS_LISTED))
    if events or not rows:
        return json_response(answer)
    return json_response(_nothing_accepted(key, errors) | answer, 422)


def _nothing_accepted(key: str, errors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The shape of every error, beside what became of each row."""
    first = errors[0]["error"][:1_000]
    return {
        "error": f"none of the {len(errors)} rows was accepted; the first: {first}",
        "problems": [
            {"at": f"body.{key}.{e['index']}", "problem": e["error"][:1_000]} for e in errors[:PROBLEMS_LISTED]
        ],
    }


def _unknown_types(runtime: Runtime, events: Sequence[RawEvent]) -> dict[str, int]:
    found = Counter(e.type for e in events if not e.type.startswith(CATALOG_PREFIX))
    return {kind: n for kind, n in found.items() if kind not in runtime.project.event}


def _quarantine(runtime: Runtime, key: str, errors: Sequence[Mapping[str, Any]], rows: list[Any], now: int) -> None:
    day = datetime.fromtimestamp(now / SECOND, UTC).strftime("%Y-%m-%d")
    with Quarantine(runtime.folder / STATE_FOLDER / "quarantine", f"http-{key}-{day}") as quarantine:
        for error in errors:
            quarantine.add(error["error"], row=error["index"] + 1, data=rows[error["index"]])

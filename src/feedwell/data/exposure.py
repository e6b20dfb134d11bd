"""Exposures: what counts as "was shown". Each row is one object that one user could have acted on from `t` on.

The slots of slate records; for what no record holds the events that `[data] exposure` names, or where it names none
what the user chose: what our own sources retrieve then joins it request by request, where rows are built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from feedwell.core.clock import HOUR
from feedwell.core.columns import AVAILABLE_AT, ITEM, OFFSET, PROPENSITY, REQUEST_ID, SLOT, USER, T
from feedwell.core.event import NO_KEY, SERVED, catalog_type
from feedwell.core.project import Project
from feedwell.data.log_view import MOMENT, LogView, quoted, situated, sql_list
from feedwell.stores.log.catalog import derived_names, derived_order

ORIGIN = "origin"
GROUP = "group"
ROW = "_row"
JUST_BEFORE = HOUR
"""How long after a slate an event that names no request still answers to it."""
BEFORE_EVENTS = -1
"""The offset of an exposure that is no event: it comes before every event of the same µs."""


def exposures(view: LogView, project: Project, *, slots: pa.Table | None = None) -> pa.Table:
    """user, item, other entities' keys, t (µs), moment, offset, request_id, slot, propensity, origin, group; by t.

    `t` is when this object was shown, from which label windows run; `moment` when the situation began (one request, or
    one (user, ts)), and `group` numbers the situations. Features of a row see `available_at < moment` only, so never
    the exposing event itself. `slots` has user, item, t, request_id, slot, propensity.
    """
    types = exposing(project)
    if slots is None or not slots.num_rows:
        return _grouped(_from_events(view, project, types, None))
    from_slots = with_derived_keys(view, project, conformed(slots, project, "slate"))
    return _grouped(pa.concat_tables([from_slots, _from_events(view, project, types, from_slots)]))


def exposing(project: Project) -> tuple[str, ...]:
    """The events that stand for having been shown: those declared, else those that the objectives count."""
    return project.data.exposure or tuple(sorted({e for o in project.objective.values() for e in o.events}))


def viewing(project: Project, outcomes: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The declared exposure events that say that a slot was seen: not having been served, not what is counted."""
    return tuple(sorted(set(project.data.exposure) - set(outcomes) - {SERVED}))


def held(view: LogView, project: Project, types: tuple[str, ...], slots: pa.Table) -> pa.Table:
    """offset, t, _row (of `slots`: user, item, t, request_id) of every event of those types that a slot holds.

    A slot holds an event of its user and item from its t on that names its request; and, of events that name no slot
    of theirs, those soon after: it is the user's latest slot with that item. Soon is an hour. Where no exposure is
    declared the events are outcomes, and what came of a slot belongs to it until the longest window has closed.
    """
    windows = [] if project.data.exposure else [o.within for o in project.objective.values()]
    tables = {
        "slots": slots.select([USER, ITEM, T, REQUEST_ID]).append_column(ROW, pa.array(np.arange(slots.num_rows)))
    }
    with view.connect(**tables) as connection:
        return connection.execute(
            _HELD.format(types=sql_list(types), soon=max([JUST_BEFORE, *windows]))
        ).to_arrow_table()


def exposure_schema(project: Project) -> pa.Schema:
    keys = [(name, pa.int64()) for name in project.entities]
    rest = [(T, pa.int64()), (MOMENT, pa.int64()), (OFFSET, pa.int64()), (REQUEST_ID, pa.string()), (SLOT, pa.int32())]
    return pa.schema([*keys, *rest, (PROPENSITY, pa.float64()), (ORIGIN, pa.string())])


def _from_events(view: LogView, project: Project, types: tuple[str, ...], slots: pa.Table | None) -> pa.Table:
    """Those events less the ones that a slot holds."""
    keys = ", ".join(f'"{name}"' for name in project.entities)
    columns = f'{keys}, {AVAILABLE_AT} AS {T}, {MOMENT}, "{OFFSET}", {REQUEST_ID}, {SLOT}'
    query = f'SELECT {columns} FROM {situated(project)} WHERE type IN {sql_list(types)} AND "{ITEM}" >= 0'
    tables = {} if slots is None else {"held": held(view, project, types, slots)}
    if tables:
        query += f' AND "{OFFSET}" NOT IN (SELECT "{OFFSET}" FROM held)'
    with view.connect(**tables) as connection:
        return conformed(connection.execute(query).to_arrow_table(), project, "event")


_HELD = """
WITH shown AS (
    SELECT "user", item, available_at, "offset", request_id FROM log WHERE type IN {types} AND item >= 0
), named AS (
    SELECT e."offset", e.available_at AS t, s._row FROM shown e
    JOIN slots s ON e.request_id = s.request_id AND e."user" = s."user" AND e.item = s.item AND e.available_at >= s.t
), latest AS (
    SELECT e.*, s.t AS slot_t FROM shown e
    ASOF JOIN (SELECT DISTINCT "user", item, t FROM slots WHERE "user" >= 0) s
    ON e."user" = s."user" AND e.item = s.item AND e.available_at >= s.t
)
SELECT "offset", t, _row FROM named
UNION ALL
SELECT e."offset", e.available_at AS t, s._row FROM latest e
JOIN slots s ON s."user" = e."user" AND s.item = e.item AND s.t = e.slot_t
WHERE e.available_at < e.slot_t + {soon} AND e."offset" NOT IN (SELECT "offset" FROM named)
"""


def conformed(table: pa.Table, project: Project, origin: str) -> pa.Table:
    """user, item and t with the other columns of an exposure; what is not there is null, -1 or before every event."""
    n = table.num_rows
    missing: dict[str, Any] = {
        MOMENT: table[T],
        OFFSET: pa.array(np.full(n, BEFORE_EVENTS, np.int64)),
        REQUEST_ID: pa.nulls(n, pa.string()),
        SLOT: pa.array(np.full(n, -1, np.int32)),
        PROPENSITY: pa.array(np.full(n, np.nan)),
        ORIGIN: pa.array([origin] * n, pa.string()),
    }
    columns = []
    for field in exposure_schema(project):
        if field.name in table.column_names:
            column = table[field.name]
        else:
            column = missing.get(field.name, pa.array(np.full(n, NO_KEY, np.int64)))
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=exposure_schema(project))


def with_derived_keys(view: LogView, project: Project, shown: pa.Table) -> pa.Table:
    """Rows that are no events with the keys that an event of their t would carry: an item's creator as of then.

    Events have them since they were appended; an outcome on a derived entity belongs to what was shown by that key. -1
    where the catalog named none by then.
    """
    for owner in dict.fromkeys(owner for _, owner, _ in derived_order(project)):
        names = derived_names(project, owner)
        asked = pa.table({ROW: np.arange(shown.num_rows), "owner": shown[owner], T: shown[T]})
        with view.connect(asked=asked) as connection:
            query = _DERIVED.format(
                owner=owner,
                kind=quoted(catalog_type(owner)),
                keys=", ".join(f'"{name}"' for name in names),
                nothing=", ".join("NULL" for _ in names),
                known=", ".join(
                    f'coalesce(last_value("{name}" IGNORE NULLS) OVER line, {NO_KEY}) AS "{name}"' for name in names
                ),
            )
            found = connection.execute(query).to_arrow_table()
        for name in names:
            shown = shown.set_column(shown.schema.get_field_index(name), name, found[name])
    return shown


# Versions and rows on one line, 2 CPU-s for a million of both; DuckDB's ASOF LEFT JOIN had not ended after ten minutes.
_DERIVED = """
WITH both_kinds AS (
    SELECT "{owner}" AS owner, available_at AS t, "offset", NULL AS _row, {keys} FROM log
    WHERE type = {kind} AND "{owner}" IN (SELECT owner FROM asked WHERE owner >= 0)
    UNION ALL
    SELECT owner, t, -1, _row, {nothing} FROM asked
)
SELECT * EXCLUDE (_row) FROM (
    SELECT _row, {known} FROM both_kinds
    WINDOW line AS (PARTITION BY owner ORDER BY t, "offset" ROWS UNBOUNDED PRECEDING)
) WHERE _row IS NOT NULL ORDER BY _row
"""


def _grouped(table: pa.Table) -> pa.Table:
    table = table.sort_by([(T, "ascending"), (USER, "ascending"), (OFFSET, "ascending"), (SLOT, "ascending")])
    # A record is one situation, also beside another of the same moment.
    request = np.asarray([r or "" for r in table[REQUEST_ID].to_pylist()], dtype=object)
    is_slate = np.asarray(table[ORIGIN].to_pylist(), dtype=object) == "slate"
    request[~is_slate] = ""
    codes = np.unique(request.astype(str), return_inverse=True)[1]
    keys = np.stack([table[USER].to_numpy(), table[MOMENT].to_numpy(), codes], axis=1)
    group = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    return table.append_column(GROUP, pa.array(group.astype(np.int64)))

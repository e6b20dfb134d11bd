"""Exposures: what counts as "was shown". Each row is one object that one user could have acted on from `t` on.

The slots of slate records; for what no record holds the events that `[data] exposure` names, or where
it names none what the user chose and what our own sources would have retrieved then. Random negatives are never the
only ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from feedwell.core.columns import AVAILABLE_AT, ITEM, OFFSET, PROPENSITY, REQUEST_ID, SLOT, USER, T
from feedwell.core.errors import UsageError
from feedwell.core.event import NO_KEY
from feedwell.core.project import Project
from feedwell.data.log_view import MOMENT, LogView, situated, sql_list

ORIGIN = "origin"
GROUP = "group"
BEFORE_EVENTS = -1
"""The offset of an exposure that is no event: it comes before every event of the same µs."""


def exposures(
    view: LogView, project: Project, *, slots: pa.Table | None = None, retrieved: pa.Table | None = None
) -> pa.Table:
    """user, item, other entities' keys, t (µs), moment, offset, request_id, slot, propensity, origin, group; by t.

    `t` is when this object was shown, from which label windows run; `moment` when the situation began (one request, or
    one (user, ts)), and `group` numbers the situations. Features of a row see `available_at < moment` only, so never
    the exposing event itself. `slots` has user, item, t, request_id, slot, propensity; `retrieved`
    (what the caller's sources retrieve as of then) has user, item, t.
    """
    from_slots = conformed(slots, project, "slate") if slots is not None and slots.num_rows else None
    parts = [] if from_slots is None else [from_slots]
    if project.data.exposure:
        parts.append(_from_events(view, project, project.data.exposure, from_slots))
    elif from_slots is None and retrieved is None:
        raise UsageError(
            "nothing says what was shown: there are no slate records and no `[data] exposure`; "
            "pass what the sources retrieve as of then"
        )
    else:
        parts.append(_from_events(view, project, _outcomes(project), from_slots))
        parts += [] if retrieved is None else [_not_chosen(view, project, retrieved)]
    return _grouped(pa.concat_tables(parts))


def exposure_schema(project: Project) -> pa.Schema:
    keys = [(name, pa.int64()) for name in project.entities]
    rest = [(T, pa.int64()), (MOMENT, pa.int64()), (OFFSET, pa.int64()), (REQUEST_ID, pa.string()), (SLOT, pa.int32())]
    return pa.schema([*keys, *rest, (PROPENSITY, pa.float64()), (ORIGIN, pa.string())])


def _outcomes(project: Project) -> tuple[str, ...]:
    return tuple(sorted({e for o in project.objective.values() for e in o.events}))


def _from_events(view: LogView, project: Project, types: tuple[str, ...], slots: pa.Table | None) -> pa.Table:
    """Those events less the ones that a record holds: of its request, or on an item of the user's slate just before."""
    keys = ", ".join(f'"{name}"' for name in project.entities)
    wanted = f'type IN {sql_list(types)} AND "{ITEM}" >= 0'
    columns = f'{keys}, {AVAILABLE_AT} AS {T}, {MOMENT}, "{OFFSET}", {REQUEST_ID}, {SLOT}'
    tables = {} if slots is None else {"slots": slots.select([USER, ITEM, T, REQUEST_ID])}
    query = f"SELECT {columns} FROM {situated(project)} WHERE {wanted}"
    with view.connect(**tables) as connection:
        found = connection.execute(query if slots is None else f"{query} {_UNRECORDED}").to_arrow_table()
    return conformed(found, project, "event")


_UNRECORDED = f"""
AND coalesce({REQUEST_ID}, '') NOT IN (SELECT {REQUEST_ID} FROM slots WHERE {REQUEST_ID} IS NOT NULL)
AND "{OFFSET}" NOT IN (
    SELECT e."{OFFSET}" FROM log e
    ASOF JOIN (SELECT DISTINCT "{USER}", {T} FROM slots) s ON e."{USER}" = s."{USER}" AND e.{AVAILABLE_AT} >= s.{T}
    JOIN slots i ON i."{USER}" = s."{USER}" AND i.{T} = s.{T} AND i."{ITEM}" = e."{ITEM}"
)
"""


def _not_chosen(view: LogView, project: Project, retrieved: pa.Table) -> pa.Table:
    """Retrieved rows whose user did not act on the item from then on, within the longest attribution window."""
    within = max((o.within for o in project.objective.values()), default=0)
    with view.connect(candidates=retrieved.select([USER, ITEM, T])) as connection:
        rows = connection.execute(
            f'SELECT DISTINCT "{USER}", "{ITEM}", {T} FROM candidates c WHERE NOT EXISTS (SELECT 1 FROM log e WHERE '
            f'e."{USER}" = c."{USER}" AND e."{ITEM}" = c."{ITEM}" AND e.type IN {sql_list(_outcomes(project))} '
            f"AND e.{AVAILABLE_AT} >= c.{T} AND e.{AVAILABLE_AT} < c.{T} + {within})"
        ).to_arrow_table()
    return conformed(rows, project, "retrieved")


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

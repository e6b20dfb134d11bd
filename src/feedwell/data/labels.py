"""Labels: what came of each exposure, one column y_<objective>, looked up from the objectives and nowhere else.

An outcome belongs to the latest exposure of the same user and object at or before it in log order, (available_at,
offset): an event may be exposure and outcome at once (a rating). It counts while it is in `[t, t + within)` and is not
taken back inside that window. Nothing from `until` on is looked at. A window that has not closed by then (or by
`closes`, where given), or that opens only then, gives NaN: marked, not guessed.

Rows that were retrieved and not shown compete with nobody for an outcome: each is labelled as if it stood `alone`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedwell.core.columns import OFFSET, T, label
from feedwell.core.errors import UsageError
from feedwell.core.objective import where_sql
from feedwell.core.project import ObjectiveConfig, Project
from feedwell.data.exposure import ORIGIN, ROW, held, viewing
from feedwell.data.log_view import LogView, sql_list

UNTIL = "until"
CLOSES = "closes"


def labels(view: LogView, project: Project, exposures: pa.Table, *, alone: bool = False) -> pa.Table:
    """The exposures with y_<objective> appended: binary 0 or 1, count, or the sum of values (duration, amount).

    NaN: the window is open at `until` (a column of the exposures, exclusive µs; default: the end of the log), the
    objective is `given` another that did not happen, or it counts `viewed` slots and this one was not. `alone`: every
    row is given all outcomes in its window, whatever other rows there are of its object.
    """
    if UNTIL not in exposures.column_names:
        exposures = exposures.append_column(UNTIL, pa.array(np.full(exposures.num_rows, view.end(), np.int64)))
    if CLOSES not in exposures.column_names:
        exposures = exposures.append_column(CLOSES, exposures[UNTIL])
    raw = {name: _outcome(view, project, name, exposures, _ALONE if alone else _LATEST) for name in project.objective}
    for name in raw:
        exposures = exposures.append_column(label(name), pa.array(_given(project, name, raw)))
    return exposures


def _given(project: Project, name: str, raw: dict[str, np.ndarray], below: tuple[str, ...] = ()) -> np.ndarray:
    """The label where the objective it is given happened, NaN elsewhere."""
    parent = project.objective[name].given
    if parent is None:
        return raw[name]
    if parent not in raw or parent in (*below, name):
        raise UsageError(f"objective.{name}.given = '{parent}': expected another objective, without a circle")
    return np.where(_given(project, parent, raw, (*below, name)) > 0, raw[name], np.nan)


def _outcome(view: LogView, project: Project, name: str, exposures: pa.Table, attributed: str) -> np.ndarray:
    objective = project.objective[name]
    shown = _shown(view, project, objective, exposures)
    out = np.full(exposures.num_rows, np.nan)
    t_X = shown[T].to_numpy()
    closed = (t_X + objective.within <= shown[CLOSES].to_numpy()) & (t_X < shown[UNTIL].to_numpy())
    out[shown[ROW].to_numpy()[closed]] = 0.0
    for entity in sorted({project.objects_of(e) for e in objective.events}):
        outcomes = _outcomes_of(project, objective, entity)
        rows, amount = _attributed(view, shown, attributed.format(**outcomes), outcomes)
        np.add.at(out, rows, amount)
    if objective.kind == "binary":
        out = np.where(out > 0, 1.0, out)
    return out


def _outcomes_of(project: Project, objective: ObjectiveConfig, entity: str) -> dict[str, str]:
    """The parts of the query that say which events on that kind of object are outcomes, and what takes them back."""
    types = [e for e in objective.events if project.objects_of(e) == entity]
    undone_by = {e: u for e, u in project.undone_by.items() if e in types}
    pairs = " OR ".join(f"(d.type = '{_escaped(e)}' AND u.type = '{_escaped(u)}')" for e, u in undone_by.items())
    return {
        "object": entity,
        "types": sql_list(types),
        "where": where_sql(objective.terms),
        "within": str(objective.within),
        "taken_back": _TAKEN_BACK.format(object=entity, pairs=pairs or "FALSE"),
        "amount": "sum(coalesce(value, 0))" if objective.kind in ("duration", "amount") else "count(*)",
    }


def _attributed(
    view: LogView, shown: pa.Table, attributed: str, outcomes: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """(row, amount) of every exposure with outcomes that count; open windows stay NaN, whatever is added."""
    with view.connect(shown=shown) as connection:
        found = connection.execute(_COUNTED.format(attributed=attributed, **outcomes)).to_arrow_table()
    return found[ROW].to_numpy().astype(np.int64), found["amount"].to_numpy().astype(np.float64)


_COUNTED = """
WITH outcomes AS (
    SELECT "user", "{object}" AS object, available_at AS t, "offset", type, value FROM log
    WHERE type IN {types} AND "user" >= 0 AND "{object}" >= 0 AND {where}
), {attributed}
SELECT exposure AS _row, {amount} AS amount FROM attributed d
WHERE exposure IS NOT NULL AND t < stop AND NOT {taken_back}
GROUP BY exposure
"""

_LATEST = """both_kinds AS (
    SELECT "user", "{object}" AS object, t, "offset", 0 AS kind, _row, least(t + {within}, until) AS ends,
        NULL AS type, NULL AS value
    FROM shown
    UNION ALL
    SELECT "user", object, t, "offset", 1, NULL, NULL, type, value FROM outcomes
), lines AS (
    SELECT *, last_value(_row IGNORE NULLS) OVER line AS exposure, last_value(ends IGNORE NULLS) OVER line AS stop
    FROM both_kinds
    WINDOW line AS (PARTITION BY "user", object ORDER BY t, "offset", kind, _row ROWS UNBOUNDED PRECEDING)
), attributed AS (SELECT * FROM lines WHERE kind = 1)"""

_ALONE = """attributed AS (
    SELECT o.*, s._row AS exposure, least(s.t + {within}, s.until) AS stop FROM shown s
    JOIN outcomes o ON o."user" = s."user" AND o.object = s."{object}" AND o.t >= s.t
    AND o.t < least(s.t + {within}, s.until) AND (o.t > s.t OR o."offset" >= s."offset")
)"""

_TAKEN_BACK = """EXISTS (
    SELECT 1 FROM log u WHERE u."user" = d."user" AND u."{object}" = d.object AND ({pairs})
    AND (u.available_at > d.t OR (u.available_at = d.t AND u."offset" > d."offset"))
    AND u.available_at < d.stop)"""


def _shown(view: LogView, project: Project, objective: ObjectiveConfig, exposures: pa.Table) -> pa.Table:
    """The exposures that the objective looks at, with the time from which its window runs.

    After `served` (and for events, which were seen by being logged) that is the exposure's own t. After `viewed`, a
    slot counts from the first exposure event that it holds; without one it was not seen and has no row here. An
    objective whose outcome is the exposure event itself can only be counted from serving.
    """
    shown = exposures.select([*project.entities, T, OFFSET, UNTIL, CLOSES])
    shown = shown.append_column(ROW, pa.array(np.arange(exposures.num_rows, dtype=np.int64)))
    seen = viewing(project, objective.events)
    is_slot = pc.equal(exposures[ORIGIN], "slate")
    if objective.after == "served" or not seen or not pc.any(is_slot).as_py():
        return shown
    views = held(view, project, seen, exposures.filter(is_slot)).sort_by([(T, "ascending"), (OFFSET, "ascending")])
    slot_S, first_S = np.unique(views[ROW].to_numpy(), return_index=True)
    counted = shown.filter(is_slot).take(pa.array(slot_S))
    for name in (T, OFFSET):
        counted = counted.set_column(counted.schema.get_field_index(name), name, views[name].take(pa.array(first_S)))
    return pa.concat_tables([shown.filter(pc.invert(is_slot)), counted])


def _escaped(text: str) -> str:
    return text.replace("'", "''")

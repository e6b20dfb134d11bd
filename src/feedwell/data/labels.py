"""Labels: what came of each exposure, one column y_<objective>, looked up from the objectives and nowhere else.

An outcome belongs to the latest exposure of the same user and object at or before it in log order, (available_at,
offset): an event may be exposure and outcome at once (a rating). It counts while it is in `[t, t + within)` and is not
taken back inside that window. Nothing from `until` on is looked at. A window that has not closed by then (or by
`closes`, where given), or that opens only then, gives NaN: marked, not guessed.

Rows that were retrieved and not shown compete with nobody for an outcome: each is labelled as if it stood `alone`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.columns import ITEM, OFFSET, T, label
from feedwell.core.errors import UsageError
from feedwell.core.objective import where_sql
from feedwell.core.project import ObjectiveConfig, Project
from feedwell.data.exposure import ORIGIN, ROW, held, viewing, with_derived_keys
from feedwell.data.log_view import LogView, next_undo, quoted

UNTIL = "until"
CLOSES = "closes"
Attributed = tuple[NDArray[np.int64], Float, Float]
"""(row of each exposure with outcomes that count, how many, the sum of their values)"""
Attribute = Callable[[DuckDBPyConnection, dict[str, str]], Attributed]


def labels(view: LogView, project: Project, exposures: pa.Table, *, alone: bool = False) -> pa.Table:
    """The exposures with y_<objective> appended: binary 0 or 1, count, or the sum of values (duration, amount).

    NaN: the window is open at `until` (a column of the exposures, exclusive µs; default: the end of the log), the
    objective is `given` another that did not happen, or it counts `viewed` slots and this one was not. `alone`: every
    row is given all outcomes in its window, whatever other rows there are of its object; of its keys only user and
    item need be there.
    """
    if UNTIL not in exposures.column_names:
        exposures = exposures.append_column(UNTIL, pa.array(np.full(exposures.num_rows, view.end(), np.int64)))
    if CLOSES not in exposures.column_names:
        exposures = exposures.append_column(CLOSES, exposures[UNTIL])
    attribute = _alone if alone else _latest
    if alone and any(project.objects_of(e) != ITEM for o in project.objective.values() for e in o.events):
        exposures = with_derived_keys(view, project, exposures)
    shown = {name: _shown(view, project, o, exposures) for name, o in project.objective.items()}
    with view.connect() as connection:
        raw = {name: _outcome(connection, project, name, shown[name], len(exposures), attribute) for name in shown}
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


def _outcome(
    connection: DuckDBPyConnection, project: Project, name: str, shown: pa.Table, n: int, attribute: Attribute
) -> Float:
    """The label of each of n exposures, `shown` being those that the objective looks at; NaN where none is known."""
    objective, out = project.objective[name], np.full(n, np.nan)
    connection.register("shown", shown)
    t_X = shown[T].to_numpy()
    closed = (t_X + objective.within <= shown[CLOSES].to_numpy()) & (t_X < shown[UNTIL].to_numpy())
    out[shown[ROW].to_numpy()[closed]] = 0.0
    for event in dict.fromkeys(objective.events):
        rows, count, value = attribute(connection, _acts(project, objective, event))
        # Open windows stay NaN, whatever is added.
        np.add.at(out, rows, value if objective.kind in ("duration", "amount") else count)
    if objective.kind == "binary":
        out = np.where(out > 0, 1.0, out)
    return out


def _acts(project: Project, objective: ObjectiveConfig, event: str) -> dict[str, str]:
    """The parts of the queries that say which events of one type are outcomes, and what takes them back."""
    entity, undo = project.objects_of(event), project.undone_by.get(event)
    acts = _ACTS.format(
        object=entity,
        do=quoted(event),
        undo=quoted(undo) if undo else "NULL",
        where=where_sql(objective.terms),
    )
    undone_at = next_undo(undo, "object") if undo else "NULL"
    return {"object": entity, "within": str(objective.within), "acts": acts, "undone_at": undone_at}


def _latest(connection: DuckDBPyConnection, acts: dict[str, str]) -> Attributed:
    """Each outcome to the latest exposure of its user and object."""
    found = connection.execute(_LATEST.format(**acts)).to_arrow_table()
    return found[ROW].to_numpy(), found["n"].to_numpy(), found["value"].to_numpy()


def _alone(connection: DuckDBPyConnection, acts: dict[str, str]) -> Attributed:
    """To every exposure all outcomes in its window, which may be those of many others: found by places on one line.

    Of one event type an undo takes back all that was done before it, so that what counts of a window lies behind its
    beginning and behind the last undo in it. The line is sorted once; joining rows with acts would be quadratic for a
    user who does one thing with one object all day.
    """
    line = connection.execute(_LINE.format(**acts)).to_arrow_table()
    counts_L, undoes_L = (line[name].to_numpy(zero_copy_only=False) for name in ("counts", "undoes"))
    n_L = np.cumsum(counts_L)
    # Of an earlier user or object these are no more than the number at which a later window opens.
    undone_L = np.maximum.accumulate(np.where(undoes_L, n_L, 0))
    from_S, to_S = (np.zeros(int(pc.max(line["opens"]).as_py() or 0) + 1, np.int64) for _ in range(2))
    opens_L, closes_L = line["opens"].to_numpy(), line["closes"].to_numpy()
    to_S[closes_L[closes_L >= 0]] = n_L[closes_L >= 0]
    from_S[closes_L[closes_L >= 0]] = undone_L[closes_L >= 0]
    np.maximum.at(from_S, opens_L[opens_L >= 0], n_L[opens_L >= 0])
    # Rounded one way along the line, sums of what is not negative have no negative difference.
    sum_A = np.concatenate([[0.0], np.cumsum(line["value"].to_numpy()[counts_L], dtype=np.longdouble)])
    rows = np.flatnonzero(to_S > from_S)
    n, value = to_S[rows] - from_S[rows], sum_A[to_S[rows]] - sum_A[from_S[rows]]
    return rows, n.astype(np.float64), value.astype(np.float64)


_ACTS = """acts AS (
    SELECT "user", "{object}" AS object, available_at, "offset", type, coalesce(value, 0) AS value,
        type = {do} AND coalesce({where}, FALSE) AS counts, type <> {do} AS undoes
    FROM log WHERE type IN ({do}, {undo}) AND "user" >= 0 AND "{object}" >= 0
)"""

_LATEST = """
WITH {acts}, outcomes AS (
    SELECT * FROM (SELECT *, {undone_at} AS undone_at FROM acts) WHERE counts
), both_kinds AS (
    SELECT "user", "{object}" AS object, t, "offset", 0 AS kind, _row, least(t + {within}, until) AS ends,
        NULL AS value, NULL AS undone_at
    FROM shown
    UNION ALL
    SELECT "user", object, available_at, "offset", 1, NULL, NULL, value, undone_at FROM outcomes
), lines AS (
    SELECT *, last_value(_row IGNORE NULLS) OVER line AS exposure, last_value(ends IGNORE NULLS) OVER line AS stop
    FROM both_kinds
    WINDOW line AS (PARTITION BY "user", object ORDER BY t, "offset", kind, _row ROWS UNBOUNDED PRECEDING)
)
SELECT exposure AS _row, count(*)::DOUBLE AS n, sum(value) AS value FROM lines
WHERE kind = 1 AND exposure IS NOT NULL AND t < stop AND coalesce(undone_at >= stop, TRUE)
GROUP BY exposure
"""

# An edge comes before the act of its place, as an exposure before the event that it is.
_LINE = """
WITH {acts}, line AS (
    SELECT "user", object, available_at AS t, "offset", 1 AS kind, counts, undoes, value, -1 AS opens, -1 AS closes
    FROM acts WHERE ("user", object) IN (SELECT "user", "{object}" FROM shown)
    UNION ALL
    SELECT "user", "{object}", t, "offset", 0, FALSE, FALSE, 0, _row, -1 FROM shown
    UNION ALL
    SELECT "user", "{object}", least(t + {within}, until), -9223372036854775808, 0, FALSE, FALSE, 0, -1, _row FROM shown
)
SELECT counts, undoes, value, opens, closes FROM line ORDER BY "user", object, t, "offset", kind
"""


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

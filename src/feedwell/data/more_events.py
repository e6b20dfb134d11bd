"""Which tables beside the events hold events as well: a copy of them in another format, or more. None is a catalog."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import duckdb

from feedwell.data.profile import Column, Table
from feedwell.data.roles import Roles, id_like, micros, unit_of
from feedwell.data.words import role_rank, words_of

_SAMPLE = 5_000
_COPY = 0.99
_LEAST_PAIRS = 0.5
"""Small whole numbers are users' ids in many a column; with the items of half of the events beside them in none."""
_CLOSEST = 3
"""So many columns of each role are tried, those with nearest as many different ids as the events have."""
_LEAST_KNOWN = 0.5
_LEAST_ALIKE = 0.5
"""The correlation of how often ids come here and there, as logarithms; measured on halves of ml-100k: above 0.9."""
_MOST_DISTINCT = 0.9
_LEAST_SEVERAL = 0.5


def sample_events(db: duckdb.DuckDBPyConnection, events: Table, roles: Roles) -> None:
    """Makes the table `sampled` of (person, thing, moment in µs), which the functions below compare with."""
    user, item = (events.text(roles.columns[role].column) for role in ("user", "item"))
    moment = micros(events, roles.columns["ts"].column)
    db.execute(
        f"CREATE TEMP TABLE sampled AS SELECT * FROM (SELECT {user} AS person, {item} AS thing, {moment} AS moment"
        f" FROM {events.relation} WHERE {user} IS NOT NULL AND {item} IS NOT NULL)"
        f" USING SAMPLE reservoir({_SAMPLE} ROWS) REPEATABLE (1)"
    )


def by_names(db: duckdb.DuckDBPyConnection, table: Table, events: Table, roles: Roles) -> str:
    """Why a table that names users and items as the events do describes neither; "" where it does not name both."""
    user, item = roles.columns["user"].column, roles.columns["item"].column
    if not {user, item} <= set(table.columns) or _describes(db, table, events, (user, item)):
        return ""
    if set(table.columns) != set(events.columns):
        return "it names users and items, so its rows describe neither; they are no events of this form either"
    return _left_aside(db, table, events, roles, (user, item))


def by_pairs(
    db: duckdb.DuckDBPyConnection, table: Table, events: Table, roles: Roles, holding: Iterable[tuple[str, str]]
) -> str:
    """Why a table is one of events under other names; "" where it is none.

    It is, where two columns have half of the events' pairs of user and item; `holding` are the (role, column) whose
    cells are ids of the role.
    """
    users, items = (_closest(table, events, roles, role, holding) for role in ("user", "item"))
    for user in users:
        for item in items:
            if user == item or _share(db, table, user, item) < _LEAST_PAIRS:
                continue
            if not _describes(db, table, events, (user, item)):
                return _left_aside(db, table, events, roles, (user, item))
    return ""


def by_ids(db: duckdb.DuckDBPyConnection, table: Table, events: Table, roles: Roles) -> str:
    """Why a table is one of events although it shares few or no pairs with them; "" where it is none.

    It is, where it has a time, a column that names users and one that names items, and neither tells the other: most
    users of several rows have several items, and the reverse. A versioned catalog names one maker per item.
    """
    if _time(table, roles) is None:
        return ""
    users, items = (list(_naming(db, table, role)) for role in ("user", "item"))
    for user, item in itertools.product(users, items):
        if user != item and _is_free(db, table, user, item) and _is_free(db, table, item, user):
            return _left_aside(db, table, events, roles, (user, item))
    return ""


def _naming(db: duckdb.DuckDBPyConnection, table: Table, role: str) -> Iterator[str]:
    """The columns that hold ids of the role for sure: half of what they hold are such ids, and not by chance.

    Small whole numbers are in many a column: there its name must be a word for the role, or it must have half of the
    events' ids, and those that are frequent in the events be frequent in it. A word for users is enough alone, since
    later events are of new users; one for items is not, since users too have a job or a place that changes.
    """
    for column in table.columns.values():
        cell = table.text(column.name)
        if not id_like(column, table.n_rows) or unit_of(column) or column.n <= 0.9 * table.n_rows:
            continue
        row = db.execute(
            "WITH own AS (SELECT id, count(*) AS n FROM"
            f" (SELECT {cell} AS id FROM {table.relation}) WHERE id IS NOT NULL GROUP BY 1)"
            " SELECT count(own.n) / (SELECT count(*) FROM own), count(own.n) / count(*),"
            f" corr(ln(every.n), ln(own.n)) FROM all_{role} every LEFT JOIN own USING (id)"
        ).fetchone()
        known, covered, alike = row if row else (0.0, 0.0, 0.0)
        named = len(words_of(column.name)) == 1 and role_rank(column.name, role) is not None
        certain = named or column.kind == "text" or (covered >= _LEAST_KNOWN and (alike or 0.0) >= _LEAST_ALIKE)
        if (certain and known >= _LEAST_KNOWN) or (named and role == "user"):
            yield column.name


def _is_free(db: duckdb.DuckDBPyConnection, table: Table, one: str, other: str) -> bool:
    """Whether `one` comes in several rows, and most of what does has several of `other`."""
    row = db.execute(
        f"SELECT count(*), sum(n), avg(CAST(others > 1 AS DOUBLE)) FILTER (n > 1) FROM (SELECT count(*) AS n,"
        f" count(DISTINCT {table.text(other)}) AS others FROM {table.relation} GROUP BY {table.text(one)})"
    ).fetchone()
    distinct, n, several = row if row else (0, 0, 0.0)
    return distinct <= _MOST_DISTINCT * n and (several or 0.0) >= _LEAST_SEVERAL


def _describes(db: duckdb.DuckDBPyConnection, table: Table, events: Table, pair: tuple[str, str]) -> bool:
    """Whether a table that has the events' pairs of user and item is a catalog that names who has each thing.

    It has one row per item (or user), columns that the events lack, and no time that is the events'.
    """
    more = any(column.n and name not in events.columns for name, column in table.columns.items() if name not in pair)
    keys = ", ".join(f"count(DISTINCT {table.text(name)})" for name in pair)
    row = db.execute(f"SELECT greatest({keys}) >= {_COPY} * count(*) FROM {table.relation}").fetchone()
    if not more or not row or not row[0]:
        return False
    times = [column for column in table.columns.values() if unit_of(column)]
    return all(_share(db, table, *pair, time) < _LEAST_PAIRS for time in times)


def _left_aside(db: duckdb.DuckDBPyConnection, table: Table, events: Table, roles: Roles, pair: tuple[str, str]) -> str:
    if table.n_rows == events.n_rows and _share(db, table, *pair, _time(table, roles)) >= _COPY:
        return f"its rows are those of {events.name} once more, so it is left aside"
    return (
        f"its rows are events too, but not those of {events.name} alone; they are left aside: files of one form are"
        " taken together"
    )


def _closest(table: Table, events: Table, roles: Roles, role: str, holding: Iterable[tuple[str, str]]) -> list[str]:
    wanted = events.columns[roles.columns[role].column].n_distinct
    names = [column for one, column in holding if one == role]
    return sorted(names, key=lambda name: abs(table.columns[name].n_distinct - wanted))[:_CLOSEST]


def _time(table: Table, roles: Roles) -> Column | None:
    """The column that says when: the one of the events' name, else the first that can."""
    times = [column for column in table.columns.values() if unit_of(column)]
    return min(times, key=lambda column: column.name != roles.columns["ts"].column, default=None)


def _share(db: duckdb.DuckDBPyConnection, table: Table, user: str, item: str, time: Column | None = None) -> float:
    """The share of the sampled events whose user and item (and time, if it is told) a row of the table has."""
    when = "" if time is None else f" AND sampled.moment = {micros(table, time.name)}"
    row = db.execute(
        "SELECT avg(CAST(held AS DOUBLE)) FROM (SELECT EXISTS (SELECT 1 FROM"
        f" {table.relation} WHERE sampled.person = {table.text(user)} AND sampled.thing = {table.text(item)}{when})"
        " AS held FROM sampled)"
    ).fetchone()
    return float(row[0] or 0.0) if row else 0.0

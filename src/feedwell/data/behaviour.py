"""What the events of a table say of each other: what is shown, what follows it and when, what is undone, who returns.

Counts are of all rows; what needs rows beside each other is read from a sample of users, whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import duckdb

from feedwell.core.errors import DataError
from feedwell.data.profile import Table, number, quoted_text
from feedwell.data.roles import Roles, id_like, micros
from feedwell.data.words import is_down, is_passive, is_shown, undone_type

_ROWS = 2_000_000
"""Events of whole users that are looked at beside each other."""
_COMPARED = 12
_TEST_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class EventType:
    """One type of event: `n` rows, the object that most of them name, and its value where it has one."""

    name: str
    n: int
    n_users: int
    object: str = "item"
    n_values: int = 0
    low: float = 0.0
    high: float = 0.0
    decimals: int = 0
    levels: tuple[tuple[float, int], ...] = ()
    """All values with their counts, ascending, where there are few."""


@dataclass(frozen=True, kw_only=True)
class Follows:
    """How often an event of one type came after one of another on the same user and item, and within what time."""

    share: float
    half_s: float = 0.0
    most_s: float = 0.0
    """95 of 100 that came after it came within this."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Everything that proposals are made from. `follows[a, b]`: b after a."""

    types: Mapping[str, EventType]
    follows: Mapping[tuple[str, str], Follows]
    undone_by: Mapping[str, str]
    n_events: int
    n_users: int
    n_items: int
    first: int
    last: int
    life_s: float
    """Median time between a user's first and last event, of users with two or more."""
    n_warm: int
    """Users with an event on both sides of a cut before the last fifth of the events."""
    n_late: int
    """Users with an event in that last fifth."""
    other_objects: tuple[str, ...] = field(default=())
    sampled: bool = False

    @property
    def days(self) -> float:
        return (self.last - self.first) / 86_400e6

    @cached_property
    def outcomes(self) -> list[EventType]:
        """The types that may be outcomes on items, most frequent first: not shown, nothing that undoes."""
        undoing = set(self.undone_by.values())
        return [t for t in self.types.values() if t.object == "item" and t.name not in undoing and t is not self.shown]

    @cached_property
    def shown(self) -> EventType | None:
        """The type that says "this was shown": passive by name or by place: the most frequent, before most others."""
        undoing = set(self.undone_by.values())
        free = [t for t in self.types.values() if t.object == "item" and t.name not in undoing and not is_down(t.name)]
        if len(free) < 2:
            return None
        for says in (is_shown, is_passive):
            named = [t for t in free if says(t.name)]
            if named and self.precedes(named[0]) >= 0.2:
                return named[0]
        first = free[0]
        return first if self.precedes(first) >= 0.5 and first.n >= 1.5 * free[1].n else None

    def precedes(self, shown: EventType) -> float:
        """The share of all other events on items that come after one of this type on the same user and item."""
        undoing = set(self.undone_by.values())
        others = [t for t in self.types.values() if t.object == "item" and t is not shown and t.name not in undoing]
        n = sum(t.n for t in others)
        return sum(t.n * self.after(shown.name, t.name).share for t in others) / n if n else 0.0

    def after(self, first: str, then: str) -> Follows:
        return self.follows.get((first, then), Follows(share=0.0))


def observe(table: Table, roles: Roles) -> Behaviour:
    """Reads the table; DataError where no row has a user, an item and a time."""
    with duckdb.connect() as db:
        objects = _other_objects(table, roles)
        db.execute(_EVENTS.format(select=_columns(table, roles, objects), relation=table.relation))
        counted = db.execute(_WHOLE).fetchone()
        if counted is None or not counted[0]:
            used = ", ".join(f"{role} = {guess.column}" for role, guess in roles.columns.items())
            raise DataError(f"{table.name}: no row has a user, an item and a time ({used}); tell it by --column")
        n_events, n_users, n_items, first, last = counted
        types = _types(db, objects)
        undone_by = {done: name for name in types if (done := undone_type(name, set(types))) is not None}
        step = max(1, round(n_events / _ROWS))
        names = [t.name for t in types.values()][:_COMPARED]
        follows = _follows(db, names, step) if len(names) else {}
        life_s, n_warm, n_late = _lives(db)
    return Behaviour(
        types=types,
        follows=follows,
        undone_by=undone_by,
        n_events=n_events,
        n_users=n_users,
        n_items=n_items,
        first=first,
        last=last,
        life_s=life_s,
        n_warm=n_warm,
        n_late=n_late,
        other_objects=tuple(sorted({t.object for t in types.values()} - {"item"})),
        sampled=step > 1,
    )


_EVENTS = """
CREATE TEMP TABLE events AS SELECT * FROM (SELECT {select} FROM {relation})
WHERE "user" IS NOT NULL AND ts IS NOT NULL AND type IS NOT NULL
"""
_WHOLE = """
SELECT count(*), count(DISTINCT "user"), count(DISTINCT item), min(ts), max(ts) FROM events
HAVING count(item) > 0
"""


def _columns(table: Table, roles: Roles, objects: Mapping[str, str]) -> str:
    cells = {
        role: table.text(guess.column) for role, guess in roles.columns.items() if role in ("user", "item", "type")
    }
    if roles.type_name is not None:
        cells["type"] = quoted_text(roles.type_name)
    cells["ts"] = micros(table, roles.columns["ts"].column)
    value = roles.column("value")
    cells["value"] = number(table.text(value)) if value else "NULL::DOUBLE"
    for name, column in objects.items():
        cells[f"object_{name}"] = table.text(column)
    return ", ".join(f'{text} AS "{name}"' for name, text in cells.items())


def _other_objects(table: Table, roles: Roles) -> dict[str, str]:
    """Entity → column, of the columns of ids that may stand in for an item where an event names none."""
    taken = {guess.column for guess in roles.columns.values()}
    item = table.columns[roles.columns["item"].column]
    if item.n == table.n_rows:
        return {}
    free = [c for c in table.columns.values() if c.name not in taken and id_like(c, table.n_rows)]
    return {entity_name(c.name): c.name for c in free if c.n <= table.n_rows - 0.5 * item.n}


def entity_name(column: str) -> str:
    """An entity's name from a column's: `creator_id` → creator."""
    bare = column.partition(":")[0].lower()
    bare = bare.removesuffix("_id") if bare != "_id" else bare
    clean = "".join(c if c.isalnum() and c.isascii() else "_" for c in bare).strip("_")
    return clean if clean and not clean[0].isdigit() else f"of_{clean}"


def _types(db: duckdb.DuckDBPyConnection, objects: Mapping[str, str]) -> dict[str, EventType]:
    """Types by count; an event's object is the item unless most rows of its type name another instead."""
    others = "".join(f', count("object_{name}")' for name in objects)
    scale = "max(length(regexp_extract(CAST(value AS VARCHAR), '[.]([0-9]*[1-9])0*$', 1)))"
    query = f"""
        SELECT type, count(*), count(DISTINCT "user"), count(value), min(value), max(value), {scale},
               approx_count_distinct(value), count(item){others} FROM events GROUP BY type ORDER BY 2 DESC, 1
    """
    types = {}
    for name, n, users, n_values, low, high, decimals, distinct, items, *of in db.execute(query).fetchall():
        named = dict(zip(objects, of, strict=True))
        other = max(named, key=lambda key: named[key], default="item")
        types[name] = EventType(
            name=name,
            n=n,
            n_users=users,
            object=other if named and items < 0.1 * n and named[other] > 0.5 * n else "item",
            n_values=n_values,
            low=low or 0.0,
            high=high or 0.0,
            decimals=min(decimals or 0, 6),
            levels=_levels(db, name) if 0 < distinct <= 30 else (),
        )
    return types


def _levels(db: duckdb.DuckDBPyConnection, name: str) -> tuple[tuple[float, int], ...]:
    query = "SELECT value, count(*) FROM events WHERE type = ? AND value IS NOT NULL GROUP BY 1 ORDER BY 1"
    return tuple(db.execute(query, [name]).fetchall())


def _follows(db: duckdb.DuckDBPyConnection, names: list[str], step: int) -> dict[tuple[str, str], Follows]:
    """For each pair of types: the newest earlier event of the first on the same user and item."""
    earlier = 'OVER (PARTITION BY "user", item ORDER BY ts, type ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)'
    columns = ", ".join(f"max(ts) FILTER (type = {quoted_text(n)}) {earlier} AS t{i}" for i, n in enumerate(names))
    told = ", ".join(f"count(t{i}), quantile_cont((ts - t{i}) / 1e6, [0.5, 0.95])" for i in range(len(names)))
    query = f"""
        SELECT type, count(*), {told} FROM (
            SELECT type, ts, {columns} FROM events
            WHERE item IS NOT NULL AND hash("user") % {step} = 0
        ) GROUP BY type
    """
    found: dict[tuple[str, str], Follows] = {}
    for then, n, *cells in db.execute(query).fetchall():
        for first, after, spread in zip(names, cells[::2], cells[1::2], strict=True):
            half, most = spread or (0.0, 0.0)
            found[first, then] = Follows(share=after / n, half_s=half or 0.0, most_s=most or 0.0)
    return found


def _lives(db: duckdb.DuckDBPyConnection) -> tuple[float, int, int]:
    """(median life of a user in seconds, users on both sides of the cut, users after it)"""
    query = f"""
        WITH cut AS (SELECT quantile_disc(ts, {1 - _TEST_SHARE}) AS ts FROM events),
        people AS (SELECT min(ts) AS a, max(ts) AS b, count(*) AS n FROM events GROUP BY "user")
        SELECT median((b - a) / 1e6) FILTER (n > 1), count(*) FILTER (a < cut.ts AND b >= cut.ts),
               count(*) FILTER (b >= cut.ts) FROM people, cut
    """
    row: Any = db.execute(query).fetchone()
    return float(row[0] or 0.0), int(row[1]), int(row[2])

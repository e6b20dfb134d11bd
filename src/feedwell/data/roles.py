"""Which column of an event table is which: by its name, else by how its values behave. Every guess says why.

A role that nothing tells is a DataError that names the key to fill in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb

from feedwell.core.errors import DataError
from feedwell.data.contracts import ISO_TIME
from feedwell.data.profile import Column, Table, number, quoted_name
from feedwell.data.words import is_verb, role_rank, words_of

Sure = Literal["given", "sure", "likely", "a guess"]
_EPOCHS = {"s": 1.0, "ms": 1e3, "us": 1e6, "auto": 1e9}
_FROM, _UNTIL = 3.15e8, 4.1e9  # 1980 to 2100
_MOST_TYPES = 100
_SAMPLE = 500_000
_FEWEST_IDS = 3
_TEXTS = ("request_id", "session", "slot", "surface", "device", "available_at", "event_id")


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One of their columns in a role of ours: why, how sure, and what else it might have been."""

    column: str
    why: str
    sure: Sure
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        also = f"; or {', '.join(self.others)}" if self.others else ""
        return f"{self.sure}: {self.why}{also}"


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Our column → the guess; `ts_unit` of the time; `type_name` where no column tells an event's type."""

    columns: Mapping[str, Guess]
    ts_unit: str
    type_name: str | None = None

    def column(self, role: str) -> str | None:
        return self.columns[role].column if role in self.columns else None


def event_table(tables: Sequence[Table], wanted: str | None = None, unread: Sequence[str] = ()) -> Table:
    """The table that holds events: one with a time and two columns of ids; with a type rather than without, then the
    longest. `wanted` is the path of a file that must be it; `unread` says what could not be read.

    DataError where none is found, or where it, or what seems another part of it, has no header."""
    named = [t for t in tables if wanted is not None and any(str(file.path) == wanted for file in t.files)]
    found = [t for t in named or tables if _times(t) and len(_ids(t)) >= 2]
    if not found:
        told = [_looks(t) for t in named or tables]
        told += [] if named else [f"not read: {line}" for line in unread]
        raise DataError(
            "no table of events: expected a time and a column each for user and item, of at least"
            f" {_FEWEST_IDS} different ids ({'; '.join(told)}). Write the project with `feedwell init` and name their"
            " columns under [data] columns"
        )
    best = max(found, key=lambda t: (_type(t, set()) is not None, t.n_rows))
    for table in found:
        if table is best or len(table.columns) == len(best.columns):
            _require_header(table)
    return best


def _require_header(table: Table) -> None:
    """DataError where the line that was read as a header has a time like those below it: it is an event."""
    if table.files[0].format != "csv" or table.header:
        return
    for column in _times(table):
        if _is_like(column.name, column):
            raise DataError(
                f"looking at {table.files[0].path}: its first line seems to be an event and no header: '{column.name}'"
                " is a time like those below it. Put a line with the names of the columns first, such as"
                " user,item,type,ts; or write the project with `feedwell init` and name them there, in their order:"
                ' [data] header = ["user", "item", ...]'
            )


def _is_like(cell: str, times: Column) -> bool:
    if times.kind == "time":
        return re.match(ISO_TIME, cell) is not None
    try:
        value = float(cell) / _EPOCHS[unit_of(times) or "s"]
    except ValueError:
        return False
    return _FROM <= value <= _UNTIL


def _looks(table: Table) -> str:
    """The columns of a table that is none of events, and which has cells of times among others."""
    text = f"{table.name} has {', '.join(table.columns)}{'' if table.n_rows else ', and no rows'}"
    for column in table.columns.values():
        if column.kind == "text" and column.n_times:
            other = f" and {column.n_numbers:,} numbers" if column.n_numbers else ""
            text += (
                f"; '{column.name}' has cells of more than one form: of {column.n:,}, {column.n_times:,} are times as"
                f" 2026-05-01T12:00:00Z{other}; expected all of them in one"
            )
    return text


def find_roles(table: Table, given: Mapping[str, str]) -> Roles:
    """The roles of the table's columns; `given` ones (ours → theirs) are not questioned."""
    for role, name in given.items():
        if name not in table.columns:
            raise DataError(
                f"--column {role}={name}: {table.name} has no such column; it has {', '.join(table.columns)}"
            )
    found = {role: Guess(column=name, why="told by --column", sure="given") for role, name in given.items()}
    if "ts" not in found:
        found["ts"] = _time(table, {g.column for g in found.values()})
    if "type" not in found and (guess := _type(table, {g.column for g in found.values()})):
        found["type"] = guess
    found |= _actors(table, found)
    taken = {g.column for g in found.values()}
    for role, guess in _others(table, taken):
        found[role] = guess
    type_name = None if "type" in found else _type_name(found)
    order = ("user", "item", "type", "ts")
    columns = {role: found[role] for role in [*order, *(r for r in found if r not in order)] if role in found}
    return Roles(columns=columns, ts_unit=unit_of(table.columns[columns["ts"].column]) or "auto", type_name=type_name)


def id_like(column: Column, n_rows: int) -> bool:
    """Whether the cells can be ids: whole numbers or single words, of which there are some."""
    one_word = column.kind == "int" or (column.kind == "text" and column.words < 1.05)
    return one_word and column.n > 0 and column.n_distinct >= min(_FEWEST_IDS, n_rows)


def unit_of(column: Column) -> str | None:
    """The unit of a column of times, None where it can be none."""
    if column.kind == "time":
        return "auto" if column.low is None else "iso"
    if column.low is None or column.high is None or column.n_distinct < 2:
        return None
    return next((u for u, f in _EPOCHS.items() if _FROM * f <= column.low and column.high <= _UNTIL * f), None)


def _times(table: Table) -> list[Column]:
    return [c for c in table.columns.values() if unit_of(c) and c.n > 0.5 * table.n_rows]


def _ids(table: Table) -> list[Column]:
    times = {c.name for c in _times(table)}
    return [c for c in table.columns.values() if id_like(c, table.n_rows) and c.name not in times]


def _time(table: Table, taken: set[str]) -> Guess:
    found = [c for c in _times(table) if c.name not in taken]
    if not found:
        raise _missing(table, "ts", "a time: seconds, ms or µs since 1970, or ISO text")
    ranks = {c.name: role_rank(c.name, "ts") for c in found}
    best = min(found, key=lambda c: (_or_last(ranks[c.name]), -c.n_distinct))
    said = ranks[best.name] is not None
    others = tuple(c.name for c in found if c is not best)
    why = f"its numbers are times in {unit_of(best)}" if best.kind != "time" else "its cells are times"
    sure: Sure = "sure" if said and not others else ("likely" if said or not others else "a guess")
    return Guess(column=best.name, why=why + (", and its name says so" if said else ""), sure=sure, others=others)


def _type(table: Table, taken: set[str]) -> Guess | None:
    """The column of few texts that are verbs, or that is called like one."""
    found = []
    for column in table.columns.values():
        n_known = sum(is_verb(value) for value, _ in column.values)
        rank = role_rank(column.name, "type")
        is_code = column.kind == "int" and column.n_distinct <= 20
        few = 0 < column.n_distinct <= _MOST_TYPES and (column.kind == "text" or is_code)
        if few and column.name not in taken and (n_known or rank is not None) and unit_of(column) is None:
            found.append((n_known, rank, column))
    if not found:
        return None
    n_known, rank, best = max(found, key=lambda one: (one[0] > 0 and one[1] is not None, one[0], -_or_last(one[1])))
    why = f"{n_known} of its {best.n_distinct} values are things that people do" if n_known else "its name says so"
    others = tuple(c.name for _, _, c in found if c is not best)
    sure: Sure = "sure" if n_known and rank is not None else "likely"
    return Guess(column=best.name, why=why, sure=sure, others=others)


def _actors(table: Table, found: Mapping[str, Guess]) -> dict[str, Guess]:
    """User and item, where they were not given: by name, else by whose events come in bursts."""
    taken = {guess.column for guess in found.values()}
    free = [c for c in _ids(table) if c.name not in taken and role_rank(c.name, "event_id") is None]
    made: dict[str, Guess] = {}
    for role in ("user", "item"):
        if role in found:
            continue
        ranked = sorted((r, c.name) for c in free if (r := role_rank(c.name, role)) is not None and c.name not in taken)
        if ranked:
            others = tuple(name for _, name in ranked[1:])
            sure: Sure = "likely" if others else "sure"
            made[role] = Guess(column=ranked[0][1], why="its name says so", sure=sure, others=others)
            taken |= {ranked[0][1]}
    missing = [role for role in ("user", "item") if role not in found and role not in made]
    if missing:
        rest = [c for c in free if c.name not in taken and not _said(c.name)]
        made |= _by_bursts(table, missing, rest, found["ts"].column)
    return made


def _said(name: str) -> bool:
    return any(role_rank(name, role) is not None for role in ("value", *_TEXTS))


def _by_bursts(table: Table, missing: list[str], columns: list[Column], ts: str) -> dict[str, Guess]:
    """People act in bursts: of two columns of ids, the user's has the shorter time from one event to its next."""
    columns = sorted((c for c in columns if c.n_distinct > 10), key=lambda c: -c.n_distinct)[:4]
    if len(columns) < len(missing):
        raise _missing(table, missing[0], f"ids of {missing[0]}s")
    gaps = {c.name: _median_gap(table, c.name, ts) for c in columns}
    repeated = [c.name for c in columns if gaps[c.name] is not None]
    if len(missing) == 1:
        others = tuple(c.name for c in columns[1:])
        sure: Sure = "a guess" if others else "likely"
        why = "of the columns of ids that are left, the one with the most values"
        return {missing[0]: Guess(column=columns[0].name, why=why, sure=sure, others=others)}
    by_gap = sorted(repeated, key=lambda name: gaps[name] or 0.0)
    if len(by_gap) < 2 or (gaps[by_gap[0]] or 0.0) * 2 > (gaps[by_gap[-1]] or 0.0):
        raise _missing(table, "user", "ids of users (no name tells them from the items', and neither do their times)")
    user, item = by_gap[0], by_gap[-1]
    told = f"its next event comes after {gaps[user]:,.0f} s in the median, that of '{item}' after {gaps[item]:,.0f} s"
    others = tuple(by_gap[1:-1])
    return {
        "user": Guess(column=user, why=f"people act in bursts: {told}", sure="a guess", others=others),
        "item": Guess(column=item, why="the other column of ids", sure="a guess", others=others),
    }


def _median_gap(table: Table, column: str, ts: str) -> float | None:
    """Seconds from one event to the next of the same value, median over the first rows; None where none repeats."""
    time = micros(table, ts)
    query = f"""
        SELECT median(gap) / 1e6 FROM (
            SELECT moment - lag(moment) OVER (PARTITION BY id ORDER BY moment) AS gap
            FROM (SELECT {table.text(column)} AS id, {time} AS moment FROM {table.relation} LIMIT {_SAMPLE})
        ) WHERE gap > 0
    """
    with duckdb.connect() as db:
        found = db.execute(query).fetchone()
    return None if found is None or found[0] is None else float(found[0])


def micros(table: Table, column: str) -> str:
    """A column of times as SQL, µs since 1970 in UTC; NULL where a cell is none."""
    told = table.columns[column]
    if told.kind == "time":
        return f"epoch_us(TRY_CAST({quoted_name(column)} AS TIMESTAMP))"
    factor = 1e6 / _EPOCHS[unit_of(told) or "s"]
    return f"CAST(round({number(table.text(column))} * {factor}) AS BIGINT)"


def _others(table: Table, taken: set[str]) -> Iterator[tuple[str, Guess]]:
    """The roles that an event need not have, by name alone."""
    for role in ("value", *_TEXTS):
        ranked = []
        for column in table.columns.values():
            rank = role_rank(column.name, role)
            if rank is not None and column.name not in taken and _fits(role, column, table):
                ranked.append((rank, column.name))
        if ranked:
            _, name = min(ranked)
            taken = taken | {name}
            others = tuple(other for _, other in sorted(ranked)[1:])
            yield role, Guess(column=name, why="its name says so", sure="likely", others=others)


def _fits(role: str, column: Column, table: Table) -> bool:
    if role == "value":
        return column.kind in ("int", "float") and column.n > 0
    if role == "slot":
        return column.kind == "int" and (column.low or 0) >= 0 and (column.high or 0) < 10_000
    if role == "available_at":
        return unit_of(column) is not None and column.n == table.n_rows
    if role == "event_id":
        whole = words_of(column.name) == ["event"] and column.name.lower() not in ("event", "events")
        return whole and column.n == table.n_rows and column.n_distinct > 0.7 * column.n
    return column.kind in ("int", "text") and column.n > 0


def _type_name(found: Mapping[str, Guess]) -> str:
    value = found.get("value")
    words = words_of(value.column) if value else []
    return "rating" if {"rating", "stars", "score"} & set(words) else "interaction"


def _missing(table: Table, role: str, what: str) -> DataError:
    names = ", ".join(table.columns)
    return DataError(
        f"{table.name}: which column is the {role}? Expected one with {what}; it has {names}. Tell it:"
        f' `--column {role}=NAME`, which writes [data] columns = {{ {role} = "NAME" }}'
    )


def _or_last(rank: int | None) -> int:
    return 10_000 if rank is None else rank

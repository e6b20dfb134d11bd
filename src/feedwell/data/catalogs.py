"""Which tables beside the events are catalogs: their ids are the events' ids; and what their columns are good for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from feedwell.core.project import ColumnType
from feedwell.data.behaviour import entity_name
from feedwell.data.more_events import by_ids, by_names, by_pairs, sample_events
from feedwell.data.profile import Column, Table, quoted_text
from feedwell.data.roles import Roles, id_like, micros, unit_of
from feedwell.data.words import words_of

_LEAST_OVERLAP = 0.5
_SAMPLE = 5_000
_TITLES = ("title", "name", "headline", "description", "text", "body", "summary", "caption")
_MAKERS = ("creator", "author", "artist", "brand", "seller", "publisher", "channel", "merchant", "owner", "studio")
_KINDS = ("category", "genre", "topic", "section", "department", "class", "subject", "group", "type", "cuisine")
_BIRTHS = ("created", "published", "release", "released", "uploaded", "upload", "added", "posted", "listed")
_ENDS = ("expires", "expiry", "expired", "ends", "deadline", "until")
_STOCK = ("available", "stock", "active", "enabled", "online")
_LEAST_REUSE = 0.25
"""Cells divided by blanks are lists only if their words are at most so many per different cell."""
_LISTED = r"[|;,]"


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What cells divide into: parts per cell, different parts in all, the most of a cell; whether any repeats one."""

    mean: float
    vocabulary: int
    longest: int
    repeats: bool


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """A table of one entity's rows; `columns` are ours → (theirs, type). Reasons stand in `why`, by key."""

    entity: str
    table: Table
    id: str
    columns: Mapping[str, tuple[str, ColumnType]]
    why: Mapping[str, str]
    text: tuple[str, ...] = ()
    group: str | None = None
    category: str | None = None
    created_at: str | None = None
    valid_from: str | None = None
    expires_at: str | None = None
    available: str | None = None
    ts_unit: str = "auto"

    def numbers(self) -> list[str]:
        """Our numeric columns."""
        return [name for name, (_, kind) in self.columns.items() if kind in ("int", "float")]


def find_catalogs(tables: Sequence[Table], events: Table, roles: Roles) -> tuple[dict[str, Catalog], list[str]]:
    """(entity → the catalog that fits best, in words what was looked at and not used)."""
    found: dict[str, tuple[float, Catalog]] = {}
    told = []
    with duckdb.connect() as db:
        for role in ("user", "item"):
            cell, moment = events.text(roles.columns[role].column), micros(events, roles.columns["ts"].column)
            db.execute(
                f"CREATE TEMP TABLE all_{role} AS SELECT {cell} AS id, min({moment}) AS first, count(*) AS n"
                f" FROM {events.relation} WHERE {cell} IS NOT NULL GROUP BY 1"
            )
            db.execute(
                f"CREATE TEMP TABLE ids_{role} AS SELECT id, first FROM all_{role}"
                f" USING SAMPLE reservoir({_SAMPLE} ROWS) REPEATABLE (1)"
            )
        sample_events(db, events, roles)
        for table in (t for t in tables if t is not events):
            why = by_names(db, table, events, roles)
            overlaps = {} if why else _overlaps(db, table)
            why = why or by_pairs(db, table, events, roles, overlaps) or by_ids(db, table, events, roles)
            if why or not overlaps:
                told.append(f"{table.name}: {why or 'no column holds the ids of half of the items or users'}")
                continue
            (role, column), share = max(overlaps.items(), key=lambda pair: _likeness(table, pair[0][1], pair[1]))
            made = _headless(db, table, events, roles, role, column) or _catalog(db, table, role, column, share)
            if isinstance(made, str):
                told.append(f"{table.name}: {made}")
            elif share > found.get(role, (0.0, None))[0]:
                found[role] = (share, made)
    return {role: catalog for role, (_, catalog) in found.items()}, told


def _headless(
    db: duckdb.DuckDBPyConnection, table: Table, events: Table, roles: Roles, entity: str, id_column: str
) -> str:
    """Why the line that was read as a table's header is a row: its id is one of the events'; "" where it is not.

    An id that is called as a column of the events may come from files that were joined, header lines and all.
    """
    if table.files[0].format != "csv" or table.header or id_column in events.columns:
        return ""
    cell = events.text(roles.columns[entity].column)
    if db.execute(f"SELECT 1 FROM {events.relation} WHERE {cell} = ? LIMIT 1", [id_column]).fetchone() is None:
        return ""
    article = "an" if entity == "item" else "a"
    return (
        f"its first line seems to be a row and no header: '{id_column}' is {article} {entity} of the events; put a"
        " line with the names of the columns first"
    )


def _overlaps(db: duckdb.DuckDBPyConnection, table: Table) -> dict[tuple[str, str], float]:
    """(role, column) → the share of the events' ids that the column holds, where that is half or more."""
    shares = {}
    for column in table.columns.values():
        if id_like(column, table.n_rows) and column.n > 0.9 * table.n_rows:
            for role in ("item", "user"):
                row = db.execute(
                    f"SELECT avg(CAST(id IN (SELECT {table.text(column.name)} FROM {table.relation}) AS DOUBLE))"
                    f" FROM ids_{role}"
                ).fetchone()
                share = float(row[0] or 0.0) if row else 0.0
                # Small whole numbers are in many columns: a row number is no id of users unless its name agrees.
                named = role in words_of(column.name) or entity_name(column.name) == role
                if share >= _LEAST_OVERLAP:
                    shares[role, column.name] = share + (0.001 if named else 0.0)
    return shares


def _likeness(table: Table, column: str, share: float) -> tuple[bool, float, bool]:
    """How likely a column with that share of the events' ids is what a table's rows describe; the most is likeliest.

    A unique key goes before another with as many ids; and before any, where no time lets ids come again. Whole numbers
    from 1 on do not: they may number the rows.
    """
    told = table.columns[column]
    is_key = told.n_distinct >= 0.9 * table.n_rows  # n_distinct is an estimate
    timed = any(unit_of(c) for c in table.columns.values())
    return is_key and told.kind == "text" and not timed, share, is_key


def _catalog(db: duckdb.DuckDBPyConnection, table: Table, entity: str, id_column: str, share: float) -> Catalog | str:
    cell = table.text(id_column)
    row = db.execute(f"SELECT count(DISTINCT {cell}), count(*) FROM {table.relation}").fetchone()
    distinct, n = row if row else (0, 0)
    times = [c for c in table.columns.values() if unit_of(c) and c.name != id_column]
    changes = distinct < 0.99 * n
    if changes and not times:
        return f"{n:,} rows of {distinct:,} {entity}s and no time that says since when each holds"
    why = {"id": f"it holds {min(share, 1.0):.0%} of the events' {entity} ids", "rows": f"{n:,} rows"}
    columns = _typed(db, table, id_column)
    ours = {theirs: name for name, (theirs, _) in columns.items()}
    births = [c for c in times if set(words_of(c.name)) & set(_BIRTHS)]
    birth = ours[births[0].name] if births else None
    since = times[0].name if changes else None
    if not changes and births and _born_first(db, table, cell, births[0].name, entity):
        since = births[0].name
        why["since"] = "no event of one comes before it"
    units = {unit_of(c) for c in times}
    named = {key: _named(columns, words) for key, words in (("expires_at", _ENDS), ("available", _STOCK))}
    category, maker = _grouping(table, columns)
    return Catalog(
        entity=entity,
        table=table,
        id=id_column,
        columns=columns,
        why=why,
        text=_texts(table, columns),
        group=(maker or category) if entity == "item" else None,
        category=category if entity == "item" else None,
        created_at=birth,
        valid_from=since,
        expires_at=named["expires_at"] if _is(columns, named["expires_at"], "time") else None,
        available=named["available"] if _is(columns, named["available"], "bool") else None,
        ts_unit=(units.pop() or "auto") if len(units) == 1 else "auto",
    )


def _born_first(db: duckdb.DuckDBPyConnection, table: Table, cell: str, birth: str, entity: str) -> bool:
    """Whether the column lies before the first event of nearly every id: then rows may hold from that time on only."""
    query = f"""
        SELECT avg(CAST(born.moment <= ids.first AS DOUBLE)) FROM ids_{entity} ids
        JOIN (SELECT {cell} AS id, {micros(table, birth)} AS moment FROM {table.relation}) born USING (id)
    """
    row = db.execute(query).fetchone()
    return row is not None and (row[0] or 0.0) >= 0.99


def _typed(db: duckdb.DuckDBPyConnection, table: Table, id_column: str) -> dict[str, tuple[str, ColumnType]]:
    """Our name → (theirs, type) of the columns with something in them."""
    made: dict[str, tuple[str, ColumnType]] = {}
    for column in table.columns.values():
        if column.name == id_column or not column.n:
            continue
        name = _our_name(column.name, made)
        kind: ColumnType = "string"
        if unit_of(column):
            kind = "time"
        elif column.kind == "bool" or (_says(column.name, _STOCK) and {v for v, _ in column.values} <= {"0", "1"}):
            kind = "bool"
        elif column.kind == "list" or (column.kind == "text" and _is_list(db, table, column)):
            kind = "list"
        elif column.kind in ("int", "float") and not _is_code(column.name):
            kind = "float" if column.kind == "float" else "int"
        made[name] = (column.name, kind)
    return made


def _is_code(name: str) -> bool:
    """Whether numbers of that name are labels: an id, a postcode."""
    bare = name.partition(":")[0].lower()
    return bare.endswith("id") or _says(name, ("code", "zip", "zipcode", "postcode"))


def _our_name(theirs: str, taken: Mapping[str, object]) -> str:
    bare = theirs.partition(":")[0] or theirs
    clean = "".join(c if c.isalnum() or c == "_" else "_" for c in bare).strip("_").lower() or "column"
    clean = clean if not clean[0].isdigit() else f"c{clean}"
    return clean if clean not in taken else f"{clean}_{len(taken)}"


def _is_list(db: duckdb.DuckDBPyConnection, table: Table, column: Column) -> bool:
    """Whether cells hold several of a small vocabulary, divided by | ; , or blanks."""
    if column.n_distinct < 3:
        return False
    cell = table.text(column.name)
    parts = _parts(db, table, cell, _LISTED)
    if parts.mean < 1.2:
        parts = _parts(db, table, cell, r"[\s]+")
        # Short prose has few words too, but it repeats them, and has a title's name.
        few = parts.vocabulary <= _LEAST_REUSE * column.n_distinct
        if _says(column.name, _TITLES) or parts.repeats or not few:
            return False
    return parts.mean >= 1.2 and parts.vocabulary <= max(40, 0.03 * column.n) and parts.longest <= 12 * parts.mean


def _parts(db: duckdb.DuckDBPyConnection, table: Table, cell: str, mark: str) -> _Parts:
    row = db.execute(
        f"WITH parts AS (SELECT list_filter(string_split_regex({cell}, {quoted_text(mark)}), x -> x <> '') AS p"
        f" FROM {table.relation} WHERE {cell} IS NOT NULL LIMIT 20000)"
        " SELECT (SELECT avg(len(p)) FROM parts), (SELECT count(DISTINCT trim(u)) FROM (SELECT unnest(p) AS u FROM"
        " parts)), (SELECT max(len(p)) FROM parts), (SELECT bool_or(len(list_distinct(p)) < len(p)) FROM parts)"
    ).fetchone()
    mean, vocabulary, longest, repeats = row if row else (0, 0, 0, False)
    return _Parts(mean=mean or 0.0, vocabulary=vocabulary or 0, longest=longest or 0, repeats=bool(repeats))


def _grouping(table: Table, columns: Mapping[str, tuple[str, ColumnType]]) -> tuple[str | None, str | None]:
    """(a category, a maker): text columns of middling size, called so."""
    found = {}
    for key, words in (("category", _KINDS), ("maker", _MAKERS)):
        fits = []
        for name, (theirs, kind) in columns.items():
            column = table.columns[theirs]
            share = column.n_distinct / max(1, table.n_rows)
            if kind in ("string", "int") and _says(theirs, words) and column.n_distinct > 1 and share < 0.5:
                fits.append((column.n_distinct, name))
        found[key] = min(fits)[1] if fits else None
    return found["category"], found["maker"]


def _texts(table: Table, columns: Mapping[str, tuple[str, ColumnType]]) -> tuple[str, ...]:
    """Columns of prose, the shortest first: those called so, else those of several words."""
    prose = [n for n, (theirs, kind) in columns.items() if kind == "string" and table.columns[theirs].words >= 1.5]
    named = [name for name in prose if _says(columns[name][0], _TITLES)]
    return tuple(sorted(named or prose, key=lambda name: table.columns[columns[name][0]].words)[:2])


def _named(columns: Mapping[str, tuple[str, ColumnType]], words: Sequence[str]) -> str | None:
    return next((name for name, (theirs, _) in columns.items() if _says(theirs, words)), None)


def _is(columns: Mapping[str, tuple[str, ColumnType]], name: str | None, kind: ColumnType) -> bool:
    return name is not None and columns[name][1] == kind


def _says(name: str, words: Sequence[str]) -> bool:
    return bool(set(words_of(name)) & set(words))

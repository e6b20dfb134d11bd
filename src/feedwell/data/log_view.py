"""LogView: the sealed log as batch work reads it, one SQL view over immutable Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from feedwell.core.clock import HOUR, MINUTE
from feedwell.core.event import NO_KEY, SERVED
from feedwell.core.project import Project
from feedwell.engines.local import LocalEngine
from feedwell.stores.log.schema import event_schema

DID = f""""user" >= 0 AND NOT starts_with(type, '$') AND type <> '{SERVED}'"""
"""What users did: neither a catalog row nor what was served to them."""
MOMENT = "moment"
TOGETHER = MINUTE
"""Events of one user and ts that became available within this much are one situation: a later one came late, and what
was known by then is not what was known before."""
_ONE_REQUEST = HOUR


@dataclass(frozen=True, kw_only=True)
class LogView:
    """Segments of one epoch, without `forgotten` users' events and without what came at or after `until` (µs)."""

    segments: tuple[Path, ...]
    entities: tuple[str, ...]
    forgotten: tuple[int, ...] = ()
    until: int | None = None
    engine: LocalEngine = field(default_factory=LocalEngine)

    @contextmanager
    def connect(self, **tables: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the view `log` (all events, no null keys) and one view for each table given."""
        with self.engine.connect() as connection:
            for name, table in tables.items():
                connection.register(name, table)
            present = self._register(connection)
            columns = ", ".join(self._column(field, present) for field in event_schema(self.entities))
            connection.execute(f"CREATE VIEW log AS SELECT {columns} FROM stored WHERE {self._where()}")
            yield connection

    def end(self) -> int:
        """The first µs that no event of the log has reached: newest `available_at` + 1; 0 for an empty log."""
        with self.connect() as connection:
            return int(_cell(connection, "SELECT coalesce(max(available_at) + 1, 0) FROM log"))

    def _register(self, connection: duckdb.DuckDBPyConnection) -> set[str]:
        if not self.segments:
            connection.register("stored", event_schema(self.entities).empty_table())
        else:
            files = ", ".join(quoted(str(path)) for path in self.segments)
            connection.execute(f"CREATE VIEW stored AS SELECT * FROM read_parquet([{files}], union_by_name = true)")
        return {row[0] for row in connection.execute("DESCRIBE stored").fetchall()}

    def _column(self, field: pa.Field, present: set[str]) -> str:
        if field.name not in self.entities:
            return f'"{field.name}"'
        # An entity declared after a segment was written: none of its events names one.
        return (
            f'coalesce("{field.name}", {NO_KEY}) AS "{field.name}"'
            if field.name in present
            else (f'{NO_KEY}::BIGINT AS "{field.name}"')
        )

    def scan(self, paths: Sequence[Path], select: Sequence[str], where: str = "TRUE") -> pa.Table:
        """The engine's scan, with what this view leaves out left out, and with absent keys as -1: as-of features and
        the online state read the log through it."""
        rows, qualify, rest = where.partition(" QUALIFY ")
        return self.engine.scan(paths, select, f"({rows}) AND {self._where()}{qualify}{rest}", keys=self.entities)

    def _where(self) -> str:
        terms = [f"available_at < {self.until}"] if self.until is not None else []
        if self.forgotten:
            terms.append(f'"user" NOT IN ({", ".join(map(str, self.forgotten))})')
        return " AND ".join(terms) or "TRUE"


def situated(project: Project) -> str:
    """SQL: what users did or, by `[data] exposure`, were shown, each row with the `moment` of its situation.

    All that a user's events of one request id tell within an hour is one situation, without one all of the same ts; its
    moment is when the first became available. Requests and rows are read as of then, so that they agree on what was
    known. One that comes later than that stands for itself.
    """
    return f"""(SELECT * EXCLUDE (first_at, of_request), CASE WHEN available_at - first_at <=
        CASE WHEN of_request THEN {_ONE_REQUEST} ELSE {TOGETHER} END THEN first_at ELSE available_at END AS {MOMENT}
    FROM (SELECT *, coalesce(request_id, '') <> '' AS of_request, min(available_at) OVER (PARTITION BY "user",
        nullif(request_id, ''), CASE WHEN coalesce(request_id, '') = '' THEN ts END) AS first_at
    FROM log WHERE ({DID}) OR ("user" >= 0 AND type IN {sql_list(project.data.exposure)})))"""


def next_undo(undo: str, entity: str) -> str:
    """SQL: when an event is next taken back by one of that type, the same user on the same object; null: not.

    In one pass over what a user did with an object: a join of all that they did with all that they undid is quadratic
    in a long history. From the last backwards, because a frame that only grows is kept as it goes (1M events of one
    user and object: 0.4 CPU-s; over what follows, 5).
    """
    return f"""min(CASE WHEN type = {quoted(undo)} THEN available_at END) OVER (PARTITION BY "user", "{entity}"
        ORDER BY available_at DESC, "offset" DESC ROWS UNBOUNDED PRECEDING)"""


def sql_list(values: Sequence[str]) -> str:
    """`('a', 'b')` for IN; an empty sequence matches nothing."""
    return "(" + ", ".join(quoted(v) for v in values) + ")" if values else "(NULL)"


def quoted(text: str) -> str:
    """The text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _cell(connection: duckdb.DuckDBPyConnection, sql: str) -> int | float | str:
    row = connection.execute(sql).fetchone()
    assert row is not None
    cell: int | float | str = row[0]
    return cell

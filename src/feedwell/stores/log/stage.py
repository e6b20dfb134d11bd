"""A load being prepared: raw rows on disk in a temporary DuckDB file, hashed, twins numbered, sorted on the way out.

A row without an event id gets the hash of its canonical text and its occurrence number in its file, so that loading a
file twice changes nothing and two honest twins both stay. Twins divided over two files count as one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedwell.core import columns as c
from feedwell.core.errors import Unavailable
from feedwell.core.event import CATALOG_PREFIX, catalog_entity, catalog_type
from feedwell.core.project import Project
from feedwell.stores.durable import file_lock
from feedwell.stores.log.catalog import derived_ids
from feedwell.stores.log.hot import quoted
from feedwell.stores.log.schema import FILE, raw_schema

SEQ = "_seq"
LOW, HIGH = "_low", "_high"
OCCURRENCE = "_k"
_CLIENT, _HASH = "_client", "_hash"
_OUT_ROWS = 500_000
_WORDS = (
    f"({_HASH} & 18446744073709551615::UHUGEINT)::UBIGINT AS {LOW}, ({_HASH} >> 64)::UBIGINT AS {HIGH},"
    f" CASE WHEN twin.{OCCURRENCE} > 1 THEN twin.{OCCURRENCE} END AS {OCCURRENCE}"
)
_SQL_TYPES = {pa.string(): "VARCHAR", pa.int64(): "BIGINT", pa.int32(): "INTEGER", pa.float64(): "DOUBLE"}


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What a finished stage holds. `n_repeated`: client ids that came again; `n_twins`: twins in different files."""

    n_rows: int
    n_repeated: int
    n_twins: int


def clear_abandoned(folder: Path) -> None:
    """Deletes the stages under a folder whose process died: they hold raw ids. Those in use are locked and stay."""
    for stage in folder.glob("load-*/"):
        with suppress(Unavailable), file_lock(_lock_of(stage), wait=False):
            shutil.rmtree(stage, ignore_errors=True)
            _lock_of(stage).unlink(missing_ok=True)


class Stage:
    """Rows in, rows out in (available_at, arrival) order, larger than memory; the folder goes at the end."""

    def __init__(self, folder: Path, project: Project, *, memory_mb: int = 2048, threads: int | None = None) -> None:
        self._folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._held = ExitStack()
        self._held.enter_context(file_lock(_lock_of(folder)))
        folder.mkdir()
        self._project, self._schema = project, raw_schema(project.entities)
        self._rows = 0
        self.catalogs: set[str] = set()
        """Entities whose catalog rows were added."""
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": str(folder / "spill"),
        }
        if threads:
            config["threads"] = threads
        self._db = duckdb.connect(str(folder / "stage.duckdb"), config=config)
        # Never committed: nothing here has to survive, and a commit would sync the file.
        self._db.execute("BEGIN")
        # Compressing what is read once cost more than writing it (strings: half of staging).
        self._db.execute("PRAGMA force_compression = 'uncompressed'")
        self._db.execute(f"CREATE TABLE row ({SEQ} BIGINT, {_HASH} UHUGEINT, {_CLIENT} BOOLEAN)")
        self._columns: set[str] = set()
        self._widen({c.TYPE, c.TS, c.AVAILABLE_AT, FILE})

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        _lock_of(self._folder).unlink(missing_ok=True)
        self._held.close()

    def add(self, table: pa.Table, *, delay: int = 0) -> None:
        """Raw rows (columns of `raw_schema`, absent ones null); `available_at` is `ts + delay` where it is null."""
        kinds = [catalog_entity(kind) for kind in pc.unique(table[c.TYPE]).to_pylist()]
        if found := {kind for kind in kinds if kind}:
            self.catalogs |= found
            table = self._with_derived(table)
        table = table.append_column(SEQ, pa.array(np.arange(self._rows, self._rows + table.num_rows)))
        self._rows += table.num_rows
        present = set(table.column_names)
        self._widen(present)
        names = [f.name for f in self._schema if f.name in present and f.name not in (c.EVENT_ID, c.AVAILABLE_AT)]
        at = f"coalesce({c.AVAILABLE_AT}, {c.TS} + {delay})" if c.AVAILABLE_AT in present else f"{c.TS} + {delay}"
        client = f"{c.EVENT_ID} IS NOT NULL" if c.EVENT_ID in present else "false"
        hashed = f"md5_number(concat('row', {', '.join(self._canonical(present))}))"
        if c.EVENT_ID in present:
            hashed = f"CASE WHEN {client} THEN md5_number({c.EVENT_ID}) ELSE {hashed} END"
        listed = ", ".join(quoted(name) for name in names)
        self._db.register("incoming", table)
        self._db.execute(
            f"INSERT INTO row ({SEQ}, {_HASH}, {_CLIENT}, {c.AVAILABLE_AT}, {listed})"
            f" SELECT {SEQ}, {hashed}, {client}, {at}, {listed} FROM incoming"
        )
        self._db.unregister("incoming")

    def _widen(self, names: set[str]) -> None:
        """The table has these columns: one that no row has costs nothing to sort."""
        for field in self._schema:
            if field.name in names and field.name not in self._columns and field.name != c.EVENT_ID:
                self._db.execute(f"ALTER TABLE row ADD COLUMN {quoted(field.name)} {_SQL_TYPES[field.type]}")
                self._columns.add(field.name)

    def _column(self, field: pa.Field) -> str:
        """A staged column, null where no row has it."""
        name = quoted(field.name)
        return f"row.{name}" if field.name in self._columns else f"NULL::{_SQL_TYPES[field.type]} AS {name}"

    def finish(self) -> Staged:
        """Number the twins and find the rows that repeat one of this load."""
        self._db.execute(
            f"CREATE TABLE twin AS WITH again AS (SELECT {_HASH} FROM row GROUP BY ALL HAVING count(*) > 1),"
            f" numbered AS (SELECT {SEQ}, {_HASH}, {_CLIENT}, {c.AVAILABLE_AT}, CASE WHEN {_CLIENT} THEN 1 ELSE"
            f" row_number() OVER (PARTITION BY {_HASH}, {_CLIENT}, {FILE} ORDER BY {SEQ}) END AS {OCCURRENCE}"
            f" FROM row SEMI JOIN again USING ({_HASH}))"
            f" SELECT {SEQ}, {_CLIENT}, {OCCURRENCE}, row_number() OVER"
            f" (PARTITION BY {_HASH}, {OCCURRENCE} ORDER BY {c.AVAILABLE_AT}, {SEQ}) > 1 AS repeated FROM numbered"
        )
        counts = self._db.execute(
            f"SELECT count(*) FILTER ({_CLIENT}), count(*) FILTER (NOT {_CLIENT}) FROM twin WHERE repeated"
        ).fetchone()
        n_repeated, n_twins = counts or (0, 0)
        return Staged(n_rows=self._rows, n_repeated=n_repeated, n_twins=n_twins)

    def distinct(self, entity: str) -> Iterator[list[str]]:
        """All outside ids of an entity in this load, by first appearance, in batches."""
        if entity not in self._columns:
            return
        name = quoted(entity)
        found = self._db.execute(
            f"SELECT {name} FROM row ANTI JOIN (SELECT {SEQ} FROM twin WHERE repeated) USING ({SEQ})"
            f" WHERE {name} IS NOT NULL GROUP BY {name} ORDER BY min({SEQ})"
        ).to_arrow_reader(100_000)
        for batch in found:
            yield batch.column(0).to_pylist()

    def set_keys(self, entity: str, ids: pa.Array, keys: pa.Array) -> None:
        """The dictionary of this load, to which rows are joined on the way out; once or more for each entity."""
        self._db.register("incoming", pa.table({"id": ids, "key": keys}))
        self._db.execute(f"CREATE TABLE IF NOT EXISTS {_keys(entity)} (id VARCHAR, key BIGINT)")
        self._db.execute(f"INSERT INTO {_keys(entity)} SELECT id, key FROM incoming")
        self._db.unregister("incoming")

    def drop(self, seqs: Sequence[int] | NDArray[np.int64]) -> None:
        """Leave these rows out."""
        self._db.register("incoming", pa.table({"gone": pa.array(seqs, pa.int64())}))
        self._db.execute(f"DELETE FROM row WHERE {SEQ} IN (SELECT gone FROM incoming)")
        self._db.unregister("incoming")

    def count(self) -> int:
        """How many rows will come out."""
        found = self._db.execute(
            f"SELECT count(*) FROM row ANTI JOIN (SELECT {SEQ} FROM twin WHERE repeated) USING ({SEQ})"
        ).fetchone()
        return int(found[0]) if found else 0

    def newest_at(self) -> int:
        """The largest `available_at`; 0 without rows."""
        found = self._db.execute(f"SELECT coalesce(max({c.AVAILABLE_AT}), 0) FROM row").fetchone()
        return int(found[0]) if found else 0

    def catalog_rows(self, entity: str) -> pa.Table:
        """This load's catalog rows of one entity with their key columns, in log order."""
        return self._select(f"type = '{catalog_type(entity)}'").read_all()

    def events(self) -> Iterator[pa.RecordBatch]:
        """All rows in log order: keys for ids (-1: none), `_low`, `_high` (the id's halves), `_k` (null or above 1)."""
        yield from self._select("true")

    def rows(self) -> Iterator[pa.RecordBatch]:
        """All rows as they came, with outside ids, in arrival order."""
        yield from self._select("true", keys=False)

    def places(self) -> Iterator[pa.RecordBatch]:
        """All rows in any order: arrival number, type, the user's outside id, `_low`, `_high`, `_k` as `events` has."""
        user = quoted(c.USER) if c.USER in self._columns else "NULL::VARCHAR"
        yield from self._db.execute(
            f"SELECT row.{SEQ}, row.{c.TYPE}, {user} AS {quoted(c.USER)}, {_WORDS}"
            f" FROM row LEFT JOIN twin USING ({SEQ}) WHERE NOT coalesce(twin.repeated, false)"
        ).to_arrow_reader(_OUT_ROWS)

    def _select(self, where: str, *, keys: bool = True) -> pa.RecordBatchReader:
        entities = self._project.entities
        joins, columns = [], [self._column(self._schema.field(name)) for name in entities]
        if keys:
            there = [name for name in entities if name in self._columns]
            joins = [f"LEFT JOIN {_keys(name)} ON row.{quoted(name)} = {_keys(name)}.id" for name in there]
            found = {name: f"coalesce({_keys(name)}.key, -1)" for name in there}
            columns = [f"{found.get(name, '-1::BIGINT')} AS {quoted(name)}" for name in entities]
        plain = [self._column(f) for f in self._schema if f.name not in (*entities, c.EVENT_ID, FILE)]
        order = f"row.{c.AVAILABLE_AT}, row.{SEQ}" if keys else f"row.{SEQ}"
        return self._db.execute(
            f"SELECT row.{SEQ}, {_WORDS}, {', '.join([*columns, *plain])}"
            f" FROM row LEFT JOIN twin USING ({SEQ}) {' '.join(joins)}"
            f" WHERE NOT coalesce(twin.repeated, false) AND {where} ORDER BY {order}"
        ).to_arrow_reader(_OUT_ROWS)

    def _canonical(self, present: set[str]) -> list[str]:
        """The parts of a row's canonical text: name, length and value of all that is there (nulls leave no trace)."""
        parts = []
        for field in self._schema:
            if field.name not in present or field.name in (c.EVENT_ID, FILE):
                continue
            name, label = quoted(field.name), field.name.replace("'", "''")
            length = f"strlen({name}), ':', " if pa.types.is_string(field.type) else ""
            part = f"'|{label}=', {length}{name}"
            if field.name not in (c.TYPE, c.TS):
                # A catalog row's derived ids come from its payload, which is hashed; the declaration may change.
                derived = field.name in self._project.derived_entities
                also = f" AND NOT starts_with(type, '{CATALOG_PREFIX}')" if derived else ""
                part = f"CASE WHEN {name} IS NOT NULL{also} THEN concat({part}) END"
            parts.append(part)
        return parts

    def _with_derived(self, table: pa.Table) -> pa.Table:
        """Catalog rows name the ids that their payload gives (`category`); other rows as they are."""
        rows = np.flatnonzero(pc.starts_with(table[c.TYPE], CATALOG_PREFIX).to_numpy())
        taken = table.take(pa.array(rows))
        types, payloads = taken[c.TYPE].to_pylist(), taken[c.PAYLOAD].to_pylist()
        found = [
            derived_ids(self._project, catalog_entity(kind) or "", orjson.loads(text or "{}"))
            for kind, text in zip(types, payloads, strict=True)
        ]
        for name in self._project.derived_entities:
            before = table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
            for row, ids in zip(rows, found, strict=True):
                before[row] = ids.get(name, before[row])
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, pa.array(before, pa.string()))
        return table


def _lock_of(stage: Path) -> Path:
    # Beside the folder: it is held before the folder is there. No two stages share a name.
    return stage.with_name(f"{stage.name}.lock")


def _keys(entity: str) -> str:
    return quoted("key_" + entity)


def occurrence_words(low: int, high: int, occurrence: int) -> tuple[int, int]:
    """The id of a twin: the halves of the hash over the row's hash and its occurrence number."""
    text = low.to_bytes(8, "little") + high.to_bytes(8, "little") + str(occurrence).encode()
    digest = hashlib.md5(text, usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")

"""LocalEngine: DuckDB in this process, as the batch engine reads Parquet segments."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from feedwell.core.event import NO_KEY


class Engine(Protocol):
    """Runs one projection over immutable Parquet files."""

    def scan(self, paths: Sequence[Path], select: Sequence[str], where: str = "TRUE") -> pa.Table:
        """The SQL expressions `select` (each with its alias) over the rows where `where` holds, in file order."""
        ...


@dataclass(frozen=True, kw_only=True)
class LocalEngine:
    """DuckDB with its limits set. 0 threads: as many as DuckDB finds; work beyond `memory` spills under `temp`."""

    threads: int = 0
    memory: str = "4GB"
    temp: Path | None = None

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A fresh in-memory connection; it must not fetch extensions from anywhere."""
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": self.memory,
            "temp_directory": str(self.temp or Path(tempfile.gettempdir()) / "feedwell-duckdb"),
            "autoinstall_known_extensions": "false",
            "preserve_insertion_order": "true",
        }
        if self.threads:
            settings["threads"] = self.threads
        return duckdb.connect(config=settings)

    def scan(
        self, paths: Sequence[Path], select: Sequence[str], where: str = "TRUE", *, keys: Sequence[str] = ()
    ) -> pa.Table:
        """What `Engine` says. `keys`: columns of keys, which read -1 in a file that has none."""
        # Making a database costs more than a small scan; a cursor on one that stands costs nothing.
        with _database(self, os.getpid()).cursor() as connection:
            query = f"SELECT {', '.join(select)} FROM {_rows(paths, keys)} WHERE {where}"
            return connection.execute(query).to_arrow_table()


def _rows(paths: Sequence[Path], keys: Sequence[str]) -> str:
    """SQL: the rows of all files. Only where a key is missing are their columns brought together, which costs more."""
    files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    held = [_columns_of(path) for path in paths] if keys else []
    absent = [key for key in keys if not any(key in columns for columns in held)]
    partial = [key for key in keys if key not in absent and not all(key in columns for columns in held)]
    if not absent and not partial:
        return f"read_parquet([{files}])"
    filled = ", ".join(f'coalesce("{key}", {NO_KEY}) AS "{key}"' for key in partial)
    added = "".join(f', {NO_KEY}::BIGINT AS "{key}"' for key in absent)
    columns = (f"* REPLACE ({filled})" if filled else "*") + added
    return f"(SELECT {columns} FROM read_parquet([{files}], union_by_name = true))"


@lru_cache(maxsize=4096)
def _columns_of(path: Path) -> frozenset[str]:
    """The columns of a file, looked up once: files that the engine reads are immutable, and so are their names."""
    return frozenset(pq.read_schema(path).names)


@lru_cache(maxsize=4)
def _database(engine: LocalEngine, process: int) -> duckdb.DuckDBPyConnection:
    """One database per engine and process: threads do not survive a fork."""
    return engine.connect()

"""Features: what is declared, how much of it is filled, and its values as of any time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from feedwell import workspace
from feedwell.cli._shared import HERE, EnvironmentOption, JsonOption, ProjectOption, show, table
from feedwell.core import columns as c
from feedwell.core.errors import DataError

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_features(
    project: ProjectOption = HERE, environment: EnvironmentOption = None, json: JsonOption = False
) -> None:
    """Every feature column with its entities."""
    with workspace.open(project, environment=environment) as opened:
        found = opened.features.set
    rows = [
        {"column": column.name, "feature": column.feature, "entities": list(column.entities)}
        for column in found.columns
    ]
    shown = table("", ["column", "by"], [[row["column"], " × ".join(row["entities"])] for row in rows])
    show({"version": found.version, "columns": rows}, lambda out: out.print(shown), as_json=json)


@app.command()
def coverage(
    rows: Annotated[int, typer.Option(min=1, help="At most so many moments of the log are looked at.")] = 20_000,
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    """The share of non-null and non-zero values of each column, at moments spread over the log's events."""
    with workspace.open(project, environment=environment) as opened:
        values = opened.features.asof(_moments(opened, rows))
        shares = [(name, *_shares(values[name])) for name in opened.features.columns]
    shown = table(f"{values.num_rows} moments", ["column", "non-null", "non-zero"], shares)
    result = {"rows": values.num_rows, "columns": [{"column": n, "non_null": a, "non_zero": b} for n, a, b in shares]}
    show(result, lambda out: out.print(shown), as_json=json)


@app.command()
def asof(
    frame: Annotated[Path, typer.Argument(help="Parquet or csv with `t` (a time, or µs) and ids: user, item ...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")],
    project: ProjectOption = HERE,
    environment: EnvironmentOption = None,
    json: JsonOption = False,
) -> None:
    """The frame with every feature as it was at its `t`, as Parquet."""
    asked = _read(frame)
    with workspace.open(project, environment=environment) as opened:
        values = opened.features.asof(asked)
        columns = [name for name in values.column_names if name not in opened.project.entities]
        ids = [name for name in asked.column_names if name in opened.project.entities]
        unknown = opened.features.unknown_without(ids)
    for name in ids:
        values = values.set_column(values.column_names.index(name), name, asked[name])
    pq.write_table(values.select([*ids, *columns]), out)
    result = {"file": str(out), "rows": values.num_rows, "columns": columns, "unknown": unknown}
    lines = [f"wrote {out}: {values.num_rows} rows, {len(columns)} columns"]
    lines += [f"the frame has no column '{key}': {', '.join(names)} know nothing" for key, names in unknown.items()]
    show(result, lambda o: o.print("\n".join(lines), markup=False, soft_wrap=True), as_json=json)


def _read(path: Path) -> pa.Table:
    try:
        return duckdb.sql(f"SELECT * FROM '{str(path).replace(chr(39), chr(39) * 2)}'").to_arrow_table()
    except duckdb.Error as error:
        raise DataError(f"reading the frame {path}: {error}; expected a Parquet or csv file") from None


def _moments(opened: workspace.Workspace, rows: int) -> pa.Table:
    """t and keys of evenly spread events that name a user and an item."""
    opened.catch_up()
    opened.log.seal(opened.log.high_water()[0])
    files = [str(p).replace("'", "''") for p in opened.log.segment_paths()]
    if not files:
        raise DataError("the log is empty; `feedwell ingest` fills it")
    listed = ", ".join(f"'{f}'" for f in files)
    query = f"""
        SELECT {c.AVAILABLE_AT} AS t, "user", item FROM read_parquet([{listed}])
        WHERE "user" >= 0 AND item >= 0 USING SAMPLE {rows} ROWS (reservoir, 1)
    """
    return duckdb.sql(query).to_arrow_table()


def _shares(column: pa.ChunkedArray) -> tuple[float, float]:
    values = column.to_numpy()
    known = ~np.isnan(values)
    return float(known.mean()), float((known & (values != 0)).mean())

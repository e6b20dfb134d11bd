"""34 features as of t: `asof` against hand-written DuckDB SQL, in one run, values compared. N events to N / 10 rows.

    python benchmarks/bench_features_asof.py [--events 10_000_000] [--hot 1_000_000]

The reference is the plan that was found cheapest on DuckDB: cumulative sums per key with probe rows at t and at each
lower edge, and their differences; no ASOF join, no RANGE frame.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from _report import Stopwatch, header, peak_mb
from features_data import frame, project, segments

from feedwell.core.clock import DAY, HOUR, MINUTE
from feedwell.features import FeatureSet, asof
from feedwell.features.memory import asof_bytes

Array = np.ndarray[Any, Any]
EDGES = {"1h": (HOUR, MINUTE), "1d": (DAY, 15 * MINUTE), "7d": (7 * DAY, HOUR), "30d": (30 * DAY, 6 * HOUR)}
V, C, B = "kind = 0", "kind = 1", "kind = 2"
NARROW = """
    CREATE TEMP TABLE log AS
    SELECT "offset", available_at, CAST("user" AS INT) AS "user", CAST(item AS INT) AS item,
           CAST(category AS INT) AS category, CAST(value_scaled AS INT) AS value_scaled,
           CAST(CASE type WHEN 'view' THEN 0 WHEN 'click' THEN 1 ELSE 2 END AS TINYINT) AS kind
    FROM read_parquet([{}]) WHERE type IN ('view', 'click', 'buy')
"""


def cumulative(key: str, sums: dict[str, str], edges: Sequence[str], only: str, last: bool = True) -> str:
    """One key tuple's pass: each row's cumulative sums at t (`_t`) and at the lower edges, side by side."""
    probes = [f"SELECT r, {key}, t AS tick, CAST(0 AS TINYINT) AS edge FROM frame"]
    for i, edge in enumerate(edges, 1):
        window, hop = EDGES[edge]
        probes.append(f"SELECT r, {key}, t // {hop} * {hop} - {window}, {i} FROM frame")
    # count() stays in 64 bits where sum() goes to 128.
    marks = ", ".join(
        f"CASE WHEN {sql} THEN {'value_scaled' if name == 'cents' else 'CAST(1 AS TINYINT)'} END AS {name}"
        for name, sql in sums.items()
    )
    run = ", ".join(f"{'sum' if name == 'cents' else 'count'}({name}) OVER w AS {name}" for name in sums)
    pick = ", ".join(
        f"CAST(coalesce(e{i}.{name}, 0) AS BIGINT) AS {name}_{edge}"
        for i, edge in enumerate(("t", *edges))
        for name in sums
    )
    joins = " ".join(f"JOIN run AS e{i} ON e{i}.r = e0.r AND e{i}.edge = {i}" for i in range(1, len(edges) + 1))
    return f"""
        WITH rows AS (
            SELECT {key}, available_at AS tick, NULL AS r, CAST(9 AS TINYINT) AS edge, {marks},
                   CASE WHEN {V} THEN available_at END AS seen_at
            FROM log WHERE {only}
            UNION ALL
            SELECT {key}, tick, r, edge, {", ".join("NULL" for _ in sums)}, NULL FROM ({" UNION ALL ".join(probes)})
        ),
        run AS MATERIALIZED (
            SELECT * FROM (
                SELECT r, edge, {run}{", max(seen_at) OVER w AS last_at" if last else ""}
                FROM rows
                WINDOW w AS (PARTITION BY {key} ORDER BY tick, edge ROWS UNBOUNDED PRECEDING)
            )
            WHERE r IS NOT NULL
        )
        SELECT {pick}{", e0.last_at" if last else ""} FROM run AS e0 {joins} WHERE e0.edge = 0 ORDER BY e0.r
    """


def first_view(key: str) -> str:
    return f"""
        WITH firsts AS (SELECT "{key}", min(available_at) AS at_first FROM log WHERE {V} GROUP BY 1)
        SELECT CASE WHEN at_first < t THEN at_first END AS first_at
        FROM frame LEFT JOIN firsts USING ("{key}") ORDER BY r
    """


SEEN = f"""
    CREATE TEMP TABLE seen AS
    SELECT "user", item, row_number() OVER (PARTITION BY "user" ORDER BY available_at, "offset") AS n
    FROM log WHERE {V}
"""
MARKS = f"""
    CREATE TEMP TABLE marks AS
    SELECT r, "user", upto FROM (
        SELECT r, "user", CAST(sum(one) OVER w AS BIGINT) AS upto
        FROM (
            SELECT NULL AS r, "user", available_at AS tick, 1 AS one FROM log WHERE {V}
            UNION ALL SELECT r, "user", t, 0 FROM frame
        )
        WINDOW w AS (PARTITION BY "user" ORDER BY tick, one ROWS UNBOUNDED PRECEDING)
    )
    WHERE r IS NOT NULL AND upto > 0
"""
# A list aggregate over all rows at once needs more than 5 GB; so it goes by 100,000 rows.
RECENT = """
    WITH wanted AS (
        SELECT r, "user", unnest(generate_series(greatest(upto - 19, 1), upto)) AS n
        FROM marks WHERE r > {0} AND r <= {0} + 100000
    )
    SELECT r, list(item ORDER BY n) AS recent FROM wanted JOIN seen USING ("user", n) GROUP BY r ORDER BY r
"""


def by_hand(paths: Sequence[Path], rows: pa.Table) -> tuple[dict[str, Array], pa.Table]:
    """The 34 features, the way one would write them for this log alone: the numbers, and `r`, `recent`."""
    with duckdb.connect(config={"memory_limit": "5GB", "temp_directory": tempfile.mkdtemp()}) as db:
        db.register("given", rows)
        db.execute("CREATE TEMP TABLE frame AS SELECT row_number() OVER () AS r, * FROM given")
        files = ", ".join(f"'{p}'" for p in paths)
        db.execute(NARROW.format(files))
        views = {"views": V, "clicks": C, "buys": B}
        money = {"cents": B}
        t = rows.column("t").to_numpy()
        out: dict[str, Array] = {}

        def window(found: dict[str, Array], name: str, edge: str) -> Array:
            inside: Array = (found[f"{name}_t"] - found[f"{name}_{edge}"]).astype(np.float64)
            return inside

        def ratio(found: dict[str, Array], edge: str) -> Array:
            with np.errstate(all="ignore"):
                below = window(found, "views", edge)
                return np.where(below == 0, np.nan, window(found, "clicks", edge) / below)

        def since(moment: Array) -> Array:
            passed: Array = (t - np.ma.filled(np.ma.masked_invalid(moment.astype(np.float64)), np.nan)) / 1e6
            return passed

        def read(
            key: str, sums: dict[str, str], edges: Sequence[str], only: str, last: bool = True
        ) -> dict[str, Array]:
            return db.execute(cumulative(key, sums, edges, only, last)).fetchnumpy()

        only = f"({V} OR {C} OR {B})"
        for who in ("user", "item"):
            f = read(f'"{who}"', views | money, ("1h", "1d", "7d", "30d"), only)
            out |= {f"{who}_views_{e}": window(f, "views", e) for e in EDGES}
            out |= {f"{who}_clicks_{e}": window(f, "clicks", e) for e in ("1d", "7d")}
            out |= {f"{who}_buys_{e}": window(f, "buys", e) for e in (("30d",) if who == "user" else ("7d", "30d"))}
            out |= {f"{who}_ctr_{e}": ratio(f, e) for e in (("7d",) if who == "user" else ("1d", "7d"))}
            out["user_spend_30d" if who == "user" else "item_income_30d"] = window(f, "cents", "30d") / 100
            first = db.execute(first_view(who)).fetchnumpy()["first_at"]
            out |= {f"{who}_since": since(f["last_at"]), f"{who}_age": since(first)}
        f = read('"user", category', {"views": V, "clicks": C}, ("7d", "30d"), f"({V} OR {C})")
        out |= {"affinity_7d": window(f, "views", "7d"), "affinity_30d": window(f, "views", "30d")}
        out |= {"affinity_clicks_7d": window(f, "clicks", "7d"), "affinity_ctr_30d": ratio(f, "30d")}
        out["affinity_since"] = since(f["last_at"])
        f = read('"user", item', {"views": V}, (), V)
        out |= {"pair_views": f["views_t"].astype(np.float64), "pair_since": since(f["last_at"])}
        f = read("category", {"views": V}, ("1d", "7d"), V, last=False)
        out |= {f"category_views_{e}": window(f, "views", e) for e in ("1d", "7d")}
        db.execute(SEEN)
        db.execute(MARKS)
        chunks = [db.execute(RECENT.format(r)).to_arrow_table() for r in range(0, len(rows), 100_000)]
        return out, pa.concat_tables(chunks)


class PeakMemory:
    """The greatest resident memory of this process while the block runs, MB, sampled every 50 ms."""

    def __enter__(self) -> PeakMemory:
        self.mb, self._going = 0.0, True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        self._thread.join()

    def _watch(self) -> None:
        while self._going:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.mb = max(self.mb, pages * 4096 / 1e6)
            time.sleep(0.05)


def differences(ours: pa.Table, theirs: dict[str, Array], recent: pa.Table) -> dict[str, int]:
    """Per column, how many rows differ in any bit."""
    listed = dict(zip(recent.column("r").to_pylist(), recent.column("recent").to_pylist(), strict=True))
    found = {"recent": sum(row != listed.get(r + 1, []) for r, row in enumerate(ours.column("recent").to_pylist()))}
    for name, masked in theirs.items():
        mine, values = ours.column(name).to_numpy(), np.ma.filled(masked, np.nan)
        found[name] = int(np.sum(~((mine == values) | (np.isnan(mine) & np.isnan(values)))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--hot", type=int, default=0, help="events that are of one user, asked for in 1 row of 10")
    parser.add_argument("--ours-only", action="store_true")
    args = parser.parse_args()
    print(header(f"34 features as of t: {args.events:,} events, {args.events // 10:,} rows, {args.hot:,} of one key"))
    paths, rows = segments(args.events, args.hot), frame(args.events // 10, hot=args.hot > 0)
    features = FeatureSet.compile(project())
    with Stopwatch() as ours, PeakMemory() as memory:
        table = asof(features, paths, rows)
    bound = asof_bytes(features.views, args.events, rows.num_rows, len(features.columns)) / 1e6
    print(
        f"asof       {ours}, peak {memory.mb:,.0f} MB (told before: {bound:,.0f}), {len(features.columns) + 1} features"
    )
    if args.ours_only:
        return
    with Stopwatch() as theirs, PeakMemory() as memory:
        reference, recent = by_hand(paths, rows)
    print(f"reference  {theirs}, peak {memory.mb:,.0f} MB (budget 55 CPU-s, 5,000 MB)")
    print(
        f"ratio      {ours.cpu_s / theirs.cpu_s:.2f} of CPU (target <= 1.3), {ours.wall_s / theirs.wall_s:.2f} of wall"
    )
    wrong = {name: n for name, n in differences(table, reference, recent).items() if n}
    print(f"values     {len(reference) + 1} columns compared, rows that differ: {wrong or 0}; peak {peak_mb():,.0f} MB")


if __name__ == "__main__":
    main()

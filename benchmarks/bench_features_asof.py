"""34 features as of t: `asof` against hand-written DuckDB SQL, in one run, values compared. N events to N / 10 rows.

    python benchmarks/bench_features_asof.py [--events 10_000_000] [--hot 1_000_000]

The reference is what was cheapest of three ways written by hand: cumulative sums per key, found at t and at each lower
edge by DuckDB's ASOF join (union with probe rows: 85 CPU-s; RANGE frames: twice that).
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

EDGES = {"1h": (HOUR, MINUTE), "1d": (DAY, 15 * MINUTE), "7d": (7 * DAY, HOUR), "30d": (30 * DAY, 6 * HOUR)}
EVENTS = """
    CREATE TEMP TABLE events AS
    SELECT available_at AS tick, "offset" AS o, CAST("user" AS INT) AS "user", CAST(item AS INT) AS item,
           CAST(category AS INT) AS category, type = 'view' AS view, type = 'click' AS click, type = 'buy' AS buy,
           CASE WHEN type = 'buy' THEN CAST(value_scaled AS INT) END AS paid
    FROM read_parquet([{files}]) WHERE type IN ('view', 'click', 'buy')
"""
SUMS = {"views": "count(*) FILTER (view)", "clicks": "count(*) FILTER (click)", "buys": "count(*) FILTER (buy)"}
SUMS |= {"cents": "sum(paid)", "last": "max(CASE WHEN view THEN tick END)"}
# Peers of one instant share their sums (the default frame), so that it does not matter which of them the join finds.
CUMULATIVE = """
    CREATE OR REPLACE TEMP TABLE cumulative AS SELECT {key}, tick, {sums}
    FROM events WHERE {only} WINDOW w AS (PARTITION BY {key} ORDER BY tick)
"""
AT = """
    SELECT {columns} FROM (SELECT r, {key}, {time} AS edge FROM frame) AS f
    ASOF LEFT JOIN cumulative AS c ON {same} AND f.edge > c.tick ORDER BY r
"""
FIRST = """
    WITH firsts AS (SELECT "{0}", min(tick) AS first FROM events WHERE view GROUP BY 1)
    SELECT CASE WHEN first < t THEN first END AS first FROM frame LEFT JOIN firsts USING ("{0}") ORDER BY r
"""
SEEN = """
    CREATE TEMP TABLE seen AS
    SELECT "user", item, row_number() OVER (PARTITION BY "user" ORDER BY tick, o) AS n FROM events WHERE view
"""
# A list aggregate over all rows at once needs more than 5 GB; so it goes by 100,000 rows.
RECENT = """
    WITH wanted AS (
        SELECT r, "user", unnest(generate_series(greatest(upto - 19, 1), upto)) AS n
        FROM marks WHERE r > {0} AND r <= {0} + 100000 AND upto > 0
    )
    SELECT r, list(item ORDER BY n) AS recent FROM wanted JOIN seen USING ("user", n) GROUP BY r ORDER BY r
"""
Arrays = dict[str, np.ndarray]


class ByHand:
    """The 34 features, the way one would write them in SQL for this log alone."""

    def __init__(self, paths: Sequence[Path], rows: pa.Table) -> None:
        self.db = duckdb.connect(config={"memory_limit": "4GB", "temp_directory": tempfile.mkdtemp()})
        self.db.register("given", rows)
        self.db.execute("CREATE TEMP TABLE frame AS SELECT row_number() OVER () AS r, * FROM given")
        self.db.execute(EVENTS.format(files=", ".join(f"'{p}'" for p in paths)))
        self.t = rows.column("t").to_numpy()

    def read(self, keys: Sequence[str], names: Sequence[str], edges: Sequence[str], only: str) -> dict[str, Arrays]:
        """edge → the key's cumulative sums there."""
        key = ", ".join(f'"{k}"' for k in keys)
        sums = ", ".join(f"{SUMS[name]} OVER w AS {name}" for name in names)
        self.db.execute(CUMULATIVE.format(key=key, sums=sums, only=only))
        same = " AND ".join(f'f."{k}" = c."{k}"' for k in keys)
        found = {}
        for edge in ("t", *edges):
            time_ = "t" if edge == "t" else "t // {1} * {1} - {0}".format(*EDGES[edge])
            kept = names if edge == "t" else [name for name in names if name != "last"]
            columns = ", ".join("last" if n == "last" else f"CAST(coalesce({n}, 0) AS BIGINT) AS {n}" for n in kept)
            query = AT.format(columns=columns, key=key, time=time_, same=same)
            found[edge] = self.db.execute(query).fetchnumpy()
        return found

    def since(self, moment: np.ndarray) -> np.ndarray:
        return (self.t - np.ma.filled(moment.astype(np.float64), np.nan)) / 1e6

    def all(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for who in ("user", "item"):
            f = self.read([who], tuple(SUMS), tuple(EDGES), "TRUE")
            out |= {f"{who}_views_{e}": window(f, "views", e) for e in EDGES}
            out |= {f"{who}_clicks_{e}": window(f, "clicks", e) for e in ("1d", "7d")}
            out |= {f"{who}_buys_{e}": window(f, "buys", e) for e in (("30d",) if who == "user" else ("7d", "30d"))}
            out |= {f"{who}_ctr_{e}": ratio(f, e) for e in (("7d",) if who == "user" else ("1d", "7d"))}
            out["user_spend_30d" if who == "user" else "item_income_30d"] = window(f, "cents", "30d") / 100
            out[f"{who}_since"] = self.since(f["t"]["last"])
            out[f"{who}_age"] = self.since(self.db.execute(FIRST.format(who)).fetchnumpy()["first"])
            if who == "user":
                out["recent"] = self.recent(f["t"]["views"])
        f = self.read(["user", "category"], ("views", "clicks", "last"), ("7d", "30d"), "view OR click")
        out |= {"affinity_7d": window(f, "views", "7d"), "affinity_30d": window(f, "views", "30d")}
        out |= {"affinity_clicks_7d": window(f, "clicks", "7d"), "affinity_ctr_30d": ratio(f, "30d")}
        out["affinity_since"] = self.since(f["t"]["last"])
        f = self.read(["user", "item"], ("views", "last"), (), "view")
        out |= {"pair_views": f["t"]["views"].astype(np.float64), "pair_since": self.since(f["t"]["last"])}
        f = self.read(["category"], ("views",), ("1d", "7d"), "view")
        out |= {f"category_views_{e}": window(f, "views", e) for e in ("1d", "7d")}
        return out

    def recent(self, views: np.ndarray) -> pa.Table:
        self.db.register("upto", pa.table({"r": np.arange(1, len(views) + 1), "upto": np.asarray(views)}))
        self.db.execute('CREATE TEMP TABLE marks AS SELECT r, "user", upto FROM frame JOIN upto USING (r)')
        self.db.execute(SEEN)
        chunks = [self.db.execute(RECENT.format(r)).to_arrow_table() for r in range(0, len(views), 100_000)]
        return pa.concat_tables(chunks)


def window(found: dict[str, Arrays], name: str, edge: str) -> np.ndarray:
    return (found["t"][name] - found[edge][name]).astype(np.float64)


def ratio(found: dict[str, Arrays], edge: str) -> np.ndarray:
    below = window(found, "views", edge)
    with np.errstate(all="ignore"):
        return np.where(below == 0, np.nan, window(found, "clicks", edge) / below)


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


def differences(ours: pa.Table, theirs: dict[str, Any]) -> dict[str, int]:
    """Per column, how many rows differ in any bit."""
    found = {}
    for name, values in theirs.items():
        if name == "recent":
            listed = dict(zip(values.column("r").to_pylist(), values.column("recent").to_pylist(), strict=True))
            mine = ours.column("recent").to_pylist()
            found[name] = sum(row != listed.get(r + 1, []) for r, row in enumerate(mine))
        else:
            mine = ours.column(name).to_numpy()
            values = np.ma.filled(values, np.nan)
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
    print(f"asof       {ours}, peak {memory.mb:,.0f} MB, {len(features.columns) + 1} features")
    if args.ours_only:
        return
    with Stopwatch() as theirs, PeakMemory() as memory:
        reference = ByHand(paths, rows).all()
    print(f"reference  {theirs}, peak {memory.mb:,.0f} MB (budget 55 CPU-s, 5,000 MB)")
    print(
        f"ratio      {ours.cpu_s / theirs.cpu_s:.2f} of CPU (target <= 1.3), {ours.wall_s / theirs.wall_s:.2f} of wall"
    )
    wrong = {name: n for name, n in differences(table, reference).items() if n}
    print(f"values     {len(reference)} columns compared, rows that differ: {wrong or 0}; peak {peak_mb():,.0f} MB")


if __name__ == "__main__":
    main()

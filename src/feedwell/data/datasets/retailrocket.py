"""Retailrocket: views, carts and buys of a real shop, May to September 2015.

Published as `events.csv` (timestamp, visitorid, event, itemid, transactionid) with `item_properties_part*.csv`
(kaggle.com); also read as `events.parquet` (user, item, event, ts in seconds; the event types view, cart, buy).
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from feedwell.core.registry import dataset
from feedwell.data.datasets._text import quoted


@dataset("retailrocket")
class Retailrocket:
    title = "Retailrocket (events.csv, item_properties_part*.csv)"

    @staticmethod
    def detect(folder: Path) -> bool:
        return _is_published(folder) or _is_parquet(folder)

    @staticmethod
    def prepare(folder: Path, project: Path) -> str:
        published = _is_published(folder)
        head = (_PUBLISHED if published else _PARQUET).format(folder=quoted(folder.resolve())[1:-1])
        properties = sorted(folder.glob("item_properties_part*.csv")) if published else []
        if properties:
            _write_catalog(properties, project / "catalog" / "items.parquet")
            head += _CATALOG
        names = ("view", "addtocart", "transaction") if published else ("view", "cart", "buy")
        return head + _REST.replace("<view>", names[0]).replace("<cart>", names[1]).replace("<buy>", names[2])


def _is_published(folder: Path) -> bool:
    path = folder / "events.csv"
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return {"timestamp", "visitorid", "event", "itemid"} <= set(file.readline().strip().split(","))


def _is_parquet(folder: Path) -> bool:
    path = folder / "events.parquet"
    if not path.is_file():
        return False
    try:
        columns = {row[0] for row in duckdb.sql(f"DESCRIBE SELECT * FROM '{_sql(path)}'").fetchall()}
    except duckdb.Error:
        return False
    return columns == {"user", "item", "event", "ts"}


def _write_catalog(properties: list[Path], path: Path) -> None:
    """One row for each time that an item's category or availability changed, both carried forward."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = ", ".join(f"'{_sql(p)}'" for p in properties)
    duckdb.sql(
        f"""
        COPY (
          WITH changed AS (
            SELECT itemid, timestamp, max(value) FILTER (property = 'categoryid') AS category,
                   max(value) FILTER (property = 'available') AS available
            FROM read_csv([{files}], header = true, all_varchar = true)
            WHERE property IN ('categoryid', 'available') GROUP BY itemid, timestamp)
          SELECT itemid AS item_id, timestamp::BIGINT AS valid_from,
                 last_value(category IGNORE NULLS) OVER known AS category,
                 coalesce(last_value(available IGNORE NULLS) OVER known = '1', true) AS available
          FROM changed WINDOW known AS (PARTITION BY itemid ORDER BY timestamp::BIGINT)
          ORDER BY valid_from, item_id
        ) TO '{_sql(path)}' (FORMAT parquet)
        """
    )


def _sql(path: Path) -> str:
    return str(path).replace("'", "''")


_PARQUET = """\
# Retailrocket, read where it lies. Written by feedwell; every key may be changed.

[project]
name = "retailrocket"

[data]
events = "{folder}/events.parquet"
columns = {{ user = "user", item = "item", type = "event", ts = "ts" }}
ts_unit = "s"
exposure = ["view"]              # what counts as shown, until our own slates say it
"""

_PUBLISHED = """\
# Retailrocket, read where it lies. Written by feedwell; every key may be changed.

[project]
name = "retailrocket"

[data]
events = "{folder}/events.csv"
columns = {{ user = "visitorid", item = "itemid", type = "event", ts = "timestamp" }}
ts_unit = "ms"
exposure = ["view"]              # what counts as shown, until our own slates say it
"""

_CATALOG = """
[entity.item]
path = "catalog/items.parquet"   # from item_properties: a row per change of category or availability
valid_from = "valid_from"
ts_unit = "ms"
columns = { category = "string", available = "bool" }
available = "available"
group = "category"
"""

_REST = """
[event.<view>]
[event.<cart>]
[event.<buy>]

[objective.cart]                 # one row per outcome; labels, heads, metrics and the slate's value read it here
events = ["<cart>"]
within = "7d"
weight = 5.0

[objective.buy]
events = ["<buy>"]
within = "7d"
weight = 20.0

# What is known at a time, in three readings that agree: for training, online, and rebuilt from history.
[feature.item_views]
entity = "item"
aggregate = "count"
events = ["<view>"]
windows = ["1d", "7d", "30d"]

[feature.item_carts]
entity = "item"
aggregate = "count"
events = ["<cart>"]
windows = ["7d", "30d"]

[feature.item_buys]
entity = "item"
aggregate = "count"
events = ["<buy>"]
windows = ["30d"]

[feature.item_cart_rate]
entity = "item"
aggregate = "rate"
events = ["<view>"]
numerator = ["<cart>"]
windows = ["30d"]

[feature.item_buy_rate]
entity = "item"
aggregate = "rate"
events = ["<view>"]
numerator = ["<buy>"]
windows = ["30d"]

[feature.item_age]
entity = "item"
aggregate = "age"

[feature.user_views]
entity = "user"
aggregate = "count"
events = ["<view>"]
windows = ["1h", "1d", "7d"]

[feature.user_carts]
entity = "user"
aggregate = "count"
events = ["<cart>"]
windows = ["7d"]

[feature.user_buys]
entity = "user"
aggregate = "count"
events = ["<buy>"]

[feature.user_idle]
entity = "user"
aggregate = "time_since_last"
events = ["<view>"]

[feature.pair_views]
entity = ["user", "item"]
aggregate = "count"
events = ["<view>"]
windows = ["1h", "1d", "7d"]

[feature.pair_idle]
entity = ["user", "item"]
aggregate = "time_since_last"
events = ["<view>"]

# Where candidates come from.
[source.popular]
k = 100
events = ["<view>", "<cart>", "<buy>"]
half_life = "7d"

[source.transitions]             # what people touched soon after
k = 150

[source.als]                     # matrix factorisation; a newcomer is folded in at once
k = 150
embedding_dim = 32

# Seven of ten buys follow a view of the same item: a filter on views would remove the answers.
[filter.seen]
events = ["<buy>"]

[ranker]
kind = "xgboost"

[slate]
kind = "dpp"
k = 10
diversity = 0.1
explore = { first = 6, last = 10, pool = 50, temperature = 0.2, epsilon = 0.05 }

[split]
by = "time"

[train]
max_requests = 6000              # moments that the ranker learns from, spread evenly; more takes longer

[evaluate]
k = 10
relevant = "cart"
horizon = "7d"

[serving]
fallback = ["popular"]
"""

"""The project file that `feedwell init` writes: short, whole, and every line of it explained."""

FRESH = """\
# feedwell project. Paths are relative to this file; durations carry a unit ("36h"); unknown keys are refused.
# `feedwell check` reports every problem at once; docs/reference/feedwell.toml.md has every key.

[project]
name = "<name>"

[data]
events = "events/*.parquet"      # csv, tsv, jsonl or parquet: files, folders, globs
# columns = { user = "visitor", item = "sku", type = "action", ts = "time" }   # ours = yours, where names differ
exposure = ["view"]              # event types that say "this was shown"
assumed_delay = "0s"             # how long after `ts` an event could first be known, where no column says so

[entity.item]
path = "items.parquet"           # columns: item_id, and those below; remove the section if you have no catalog
columns = { title = "string", category = "string", created_at = "time" }
text = ["title"]
created_at = "created_at"
group = "category"               # what caps on the slate count by

[event.view]
[event.buy]

[objective.buy]                  # one row per outcome; labels, heads, metrics and the slate's value read it here
events = ["buy"]
within = "1d"                    # a buy counts for an exposure up to this long before it
weight = 20.0

[feature.item_views]             # what is known at a time: the same in training, online and rebuilt from history
entity = "item"
aggregate = "count"
events = ["view"]
windows = ["1h", "1d", "7d"]

[feature.item_buys]
entity = "item"
aggregate = "count"
events = ["buy"]
windows = ["1d", "7d"]

[feature.user_category_views]
entity = ["user", "category"]
aggregate = "count"
events = ["view"]
windows = ["7d"]

[source.popular]                 # where candidates come from
k = 100

[source.fresh]
k = 50

[source.transitions]
k = 100

[source.als]
k = 100

[filter.seen]                    # what must not be shown: the filter's name is the reason
events = ["buy"]

[ranker]
kind = "xgboost"

[slate]
kind = "dpp"
k = 30
diversity = 0.1
explore = { first = 3, last = 10, pool = 50, temperature = 0.2, epsilon = 0.05 }   # slots counted from 1

[serving]
deadline = "100ms"
fallback = ["popular"]
"""

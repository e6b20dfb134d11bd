"""MovieLens 100K: 100,000 ratings of 1,682 films by 943 people, September 1997 to April 1998.

Published as `u.data`, `u.item`, `u.user` (grouplens.org); also read as `ml-100k.inter`, `.item`, `.user` with typed
headers.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from feedwell.core.errors import DataError
from feedwell.core.registry import dataset
from feedwell.data.datasets._text import quoted, write_jsonl

_GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


@dataset("ml_100k")
class MovieLens100K:
    title = "MovieLens 100K (u.data, u.item, u.user)"

    @staticmethod
    def detect(folder: Path) -> bool:
        return (folder / "u.data").is_file() or (folder / "ml-100k.inter").is_file()

    @staticmethod
    def prepare(folder: Path, project: Path) -> str:
        published = (folder / "u.data").is_file()
        films = _published_films(folder / "u.item") if published else _typed_films(folder / "ml-100k.item")
        write_jsonl(project / "catalog" / "items.jsonl", _with_primary_genre(films))
        return (_PUBLISHED if published else _TYPED).format(folder=quoted(folder.resolve())[1:-1]) + _REST


def _published_films(path: Path) -> list[dict[str, object]]:
    films = []
    for cells in _rows(path, "|", "latin-1"):
        title, _, year = cells[1].rpartition(" (")
        genres = [name for name, flag in zip(_GENRES, cells[5:], strict=True) if flag == "1"]
        films.append(_film(cells[0], title or cells[1], year.rstrip(")"), genres))
    return films


def _typed_films(path: Path) -> list[dict[str, object]]:
    return [_film(c[0], c[1], c[2], c[3].split(" ")) for c in _rows(path, "\t", "utf-8")[1:]]


def _film(item_id: str, title: str, year: str, genres: list[str]) -> dict[str, object]:
    return {"item_id": item_id, "title": title, "year": int(year) if year.isdigit() else None, "genres": genres}


def _rows(path: Path, delimiter: str, encoding: str) -> list[list[str]]:
    if not path.is_file():
        raise DataError(f"reading MovieLens 100K: {path} is missing; expected beside the ratings")
    with path.open(encoding=encoding, newline="") as file:
        return [row for row in csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE) if row]


def _with_primary_genre(films: list[dict[str, object]]) -> list[dict[str, object]]:
    """Adds `genre`, the one that says most: of a film's genres, the rarest in the catalog."""
    share = Counter(genre for film in films for genre in film["genres"])  # type: ignore[attr-defined]
    return [film | {"genre": min(film["genres"], key=lambda g: (share[g], g), default="unknown")} for film in films]  # type: ignore[call-overload]


_TYPED = """\
# MovieLens 100K, read where it lies. Written by feedwell; every key may be changed.

[project]
name = "ml-100k"

[data]
events = "{folder}/ml-100k.inter"
delimiter = "\\t"
columns = {{ user = "user_id:token", item = "item_id:token", value = "rating:float", ts = "timestamp:float" }}
type = "rating"                  # no column says it: every row is one
ts_unit = "s"

[entity.user]
path = "{folder}/ml-100k.user"
delimiter = "\\t"
id = "user_id:token"
rename = {{ age = "age:token", gender = "gender:token", occupation = "occupation:token" }}
columns = {{ age = "int", gender = "string", occupation = "string" }}
"""

_PUBLISHED = """\
# MovieLens 100K, read where it lies. Written by feedwell; every key may be changed.

[project]
name = "ml-100k"

[data]
events = "{folder}/u.data"
delimiter = "\\t"
header = ["user", "item", "value", "ts"]
type = "rating"                  # no column says it: every row is one
ts_unit = "s"

[entity.user]
path = "{folder}/u.user"
delimiter = "|"
header = ["user_id", "age", "gender", "occupation", "zip"]
columns = {{ age = "int", gender = "string", occupation = "string" }}
"""

_REST = """
[entity.item]
path = "catalog/items.jsonl"     # written from the published file: its genre flags as one column
columns = { title = "string", year = "int", genres = "list", genre = "string" }
text = ["title"]

[entity.genre]                   # the rarest of a film's genres, as a key of its own: pairs and caps can use it
from = "item.genre"

[event.rating]
value_scale = 1                  # whole stars: sums and means are exact

[objective.like]                 # one row per outcome; labels, heads, metrics and the slate's value read it here
events = ["rating"]
where = "value >= 4"
within = "1s"                    # the rating says it at once

# What is known at a time, in three readings that agree: for training, online, and rebuilt from history.
[feature.item_ratings]
entity = "item"
aggregate = "count"
events = ["rating"]
windows = ["7d", "30d"]

[feature.item_ratings_ever]
entity = "item"
aggregate = "count"
events = ["rating"]

[feature.item_likes_ever]
entity = "item"
aggregate = "count"
events = ["rating"]
where = "value >= 4"

[feature.item_stars]
entity = "item"
aggregate = "mean"
events = ["rating"]

[feature.item_year]
entity = "item"
aggregate = "column"
column = "year"

[feature.item_hot]
entity = "item"
aggregate = "decayed_count"
events = ["rating"]
half_life = "7d"

[feature.user_ratings_ever]
entity = "user"
aggregate = "count"
events = ["rating"]

[feature.user_stars]
entity = "user"
aggregate = "mean"
events = ["rating"]

[feature.user_age]
entity = "user"
aggregate = "column"
column = "age"

[feature.user_genre_ratings]
entity = ["user", "genre"]
aggregate = "count"
events = ["rating"]

[feature.user_genre_stars]
entity = ["user", "genre"]
aggregate = "mean"
events = ["rating"]

# Where candidates come from.
[source.popular]
k = 100
half_life = "30d"

[source.transitions]             # what people rated soon after
k = 150

[source.als]                     # matrix factorisation; a newcomer is folded in at once
k = 150
embedding_dim = 32

[filter.seen]
events = ["rating"]              # nobody is shown a film that they have rated

[ranker]
kind = "xgboost"

[slate]
kind = "dpp"
k = 10
diversity = 0.1
explore = { first = 6, last = 10, pool = 50, temperature = 0.2, epsilon = 0.05 }

[split]
by = "user"                      # people stay less than an hour: a split by time leaves 109 who are known before it

[train]
max_requests = 9000              # moments that the ranker learns from, spread evenly; more takes longer

[evaluate]
k = 10
relevant = "like"

[serving]
fallback = ["popular"]
"""

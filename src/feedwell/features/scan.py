"""The batch readings' input: the log's segments as columns in the order of everything, `(available_at, offset)`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core import columns as c
from feedwell.core.errors import DataError
from feedwell.core.event import catalog_type
from feedwell.core.objective import Term, parse_where, where_sql
from feedwell.engines import Engine
from feedwell.features.measures import LastValue, Moment, Selection, Tally
from feedwell.features.views import Catalog, Facts, Leaderboard, Relation, View
from feedwell.features.views import Sequence as SequenceView

Ints = NDArray[np.int64]
_MOST = 2.0**63
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class BatchLog:
    """E events in order. `type_E` indexes `types` (-1: a type that nobody names); `where` holds one mask per text."""

    at_E: Ints
    type_E: NDArray[np.int16]
    types: tuple[str, ...]
    keys: dict[str, Ints]
    value_E: Ints | None
    valued_E: Mask | None
    where: dict[str, Mask]

    def __len__(self) -> int:
        return len(self.at_E)

    @property
    def values(self) -> tuple[Ints, Mask]:
        """`value_scaled` (0 where there is none) and where there is one; TypeError if no view asked for them."""
        if self.value_E is None or self.valued_E is None:
            raise TypeError("these events were read without their values")
        return self.value_E, self.valued_E

    def mask(self, selection: Selection) -> Mask:
        """The selected events."""
        if selection.events:
            known = np.array([t in selection.events for t in self.types] + [False])
            chosen: Mask = known[self.type_E]
        else:
            chosen = np.ones(len(self), np.bool_)
        return chosen & self.where[selection.where] if selection.where else chosen

    def of_type(self, event: str) -> Mask:
        if event not in self.types:
            return np.zeros(len(self), np.bool_)
        chosen: Mask = self.type_E == self.types.index(event)
        return chosen


def selections_of(views: Iterable[View]) -> list[Selection]:
    """Every selection that the views keep something of."""
    found: dict[Selection, None] = {}
    for view in views:
        if isinstance(view, Facts):
            for part in (*view.tallies, *view.moments, *view.last_values):
                if isinstance(part, Tally | Moment | LastValue):
                    found[part.selection] = None
            relations: tuple[Relation, ...] = view.relations
        else:
            relations = (view,) if isinstance(view, Relation) else ()
        for relation in relations:
            found[Selection((relation.event, *([relation.undone_by] if relation.undone_by else [])))] = None
        if isinstance(view, SequenceView):
            found[view.selection] = None
        elif isinstance(view, Leaderboard) and view.by == "decayed":
            found[Selection(view.events)] = None
    return list(found)


def entities_of(views: Iterable[View]) -> list[str]:
    """Every entity whose key the views need of an event."""
    found: dict[str, None] = {}
    for view in views:
        if isinstance(view, Facts):
            found.update(dict.fromkeys(view.entities))
            for relation in view.relations:
                found.update(dict.fromkeys(("user", relation.object)))
        elif isinstance(view, Relation | SequenceView):
            found.update(dict.fromkeys(("user", view.object)))
        elif isinstance(view, Leaderboard):
            found[view.object] = None
    return list(found)


def needs_values(views: Iterable[View]) -> bool:
    for view in views:
        if isinstance(view, Facts):
            if view.last_values or any(isinstance(t, Tally) and t.of != "events" for t in view.tallies):
                return True
    return False


def read_log(
    engine: Engine, segments: Sequence[Path], views: Sequence[View], upto_offset: int | None = None
) -> BatchLog:
    """The events that the views are about; offsets above `upto_offset` stay out."""
    selections, entities = selections_of(views), entities_of(views)
    every = any(not s.events for s in selections)
    types = tuple(sorted({t for s in selections for t in s.events}))
    texts = sorted({s.where for s in selections if s.where})
    valued = needs_values(views)
    if not segments or not selections:
        return _empty(entities, types, texts, valued)
    table = engine.scan(
        segments,
        [
            f'"{c.AVAILABLE_AT}" AS a',
            f'"{c.OFFSET}" AS o',
            f"{_type_code(types)} AS ty",
            *(f'"{entity}" AS "k_{entity}"' for entity in entities),
            *([f'coalesce("{c.VALUE_SCALED}", 0) AS v, "{c.VALUE_SCALED}" IS NOT NULL AS hv'] if valued else []),
            *(f"coalesce({_where(text)}, FALSE) AS w{i}" for i, text in enumerate(texts)),
        ],
        _row_filter(types, every, upto_offset),
    )
    order = _order(_ints(table, "a"), _ints(table, "o"))
    if valued:
        _require_exact(np.abs(_ints(table, "v").astype(np.float64)), [_ints(table, f"k_{name}") for name in entities])

    def column(name: str) -> NDArray[Any]:
        values: NDArray[Any] = table.column(name).to_numpy()
        return values if order is None else values[order]

    return BatchLog(
        at_E=column("a"),
        type_E=column("ty").astype(np.int16, copy=False),
        types=types,
        keys={entity: column(f"k_{entity}") for entity in entities},
        value_E=column("v") if valued else None,
        valued_E=column("hv").astype(np.bool_) if valued else None,
        where={text: column(f"w{i}").astype(np.bool_) for i, text in enumerate(texts)},
    )


def count_events(
    engine: Engine, segments: Sequence[Path], views: Sequence[View], upto_offset: int | None = None
) -> int:
    """How many events `read_log` would read."""
    selections = selections_of(views)
    if not segments or not selections:
        return 0
    types = tuple(sorted({t for s in selections for t in s.events}))
    every = any(not s.events for s in selections)
    table = engine.scan(segments, ["count(*) AS n"], _row_filter(types, every, upto_offset))
    return int(table.column("n")[0].as_py())


@dataclass(frozen=True, kw_only=True)
class CatalogLog:
    """C catalog changes of one entity in order: its keys, the keys of derived entities, float columns, JSON rows."""

    at_C: Ints
    key_C: Ints
    derived_CD: Ints
    columns_CN: NDArray[np.float64]
    payload_C: list[str]

    def newest(self, keys_N: Ints, t_N: Ints) -> NDArray[np.intp]:
        """The row in force for each (key, t): the last with available_at < t; -1 where there is none."""
        n = len(self.at_C)
        found = np.full(len(keys_N), -1, np.intp)
        if n == 0 or len(keys_N) == 0:
            return found
        place = self.key_C * (n + 1) + np.arange(n)
        order = np.argsort(place)
        before = np.searchsorted(self.at_C, t_N, side="left")
        last = np.searchsorted(place[order], np.maximum(keys_N, 0) * (n + 1) + before, side="left") - 1
        row = order[np.maximum(last, 0)]
        good = (last >= 0) & (keys_N >= 0) & (self.key_C[row] == keys_N)
        found[good] = row[good]
        return found


def read_catalog(
    engine: Engine, segments: Sequence[Path], view: Catalog, upto_offset: int | None = None, *, rows: bool = False
) -> CatalogLog:
    """The entity's catalog changes; `rows` keeps each one's JSON."""
    empty = np.empty(0, np.int64)
    if not segments:
        return CatalogLog(
            at_C=empty,
            key_C=empty,
            derived_CD=np.empty((0, len(view.derived)), np.int64),
            columns_CN=np.empty((0, len(view.columns))),
            payload_C=[],
        )
    chosen = f'"{c.TYPE}" = \'{catalog_type(view.entity)}\' AND "{view.entity}" >= 0'
    if upto_offset is not None:
        chosen += f' AND "{c.OFFSET}" <= {upto_offset}'
    select = [f'"{c.AVAILABLE_AT}" AS a', f'"{c.OFFSET}" AS o', f'"{view.entity}" AS k']
    select += [f'"{name}" AS "d_{name}"' for name, _ in view.derived]
    if view.columns or rows:
        select.append(f'"{c.PAYLOAD}" AS p')
    table = engine.scan(segments, select, chosen)
    order = _order(_ints(table, "a"), _ints(table, "o"))
    if order is not None:
        table = table.take(pa.array(order))
    payloads: list[str] = [p or "{}" for p in table.column("p").to_pylist()] if view.columns or rows else []
    derived = [_ints(table, f"d_{name}") for name, _ in view.derived]
    return CatalogLog(
        at_C=_ints(table, "a"),
        key_C=_ints(table, "k"),
        derived_CD=np.stack(derived, axis=1) if derived else np.empty((len(table), 0), np.int64),
        columns_CN=numbers(payloads, view.columns) if view.columns else np.empty((len(table), 0)),
        payload_C=payloads if rows else [],
    )


def numbers(payloads: Sequence[str | None], names: Sequence[str]) -> NDArray[np.float64]:
    """[rows, names] of JSON objects; NaN where a cell is missing or no number."""
    found = np.full((len(payloads), len(names)), np.nan)
    for i, payload in enumerate(payloads):
        row = orjson.loads(payload or "{}")
        for j, name in enumerate(names):
            cell = row.get(name)
            if isinstance(cell, int | float):
                found[i, j] = cell
    return found


def _ints(table: pa.Table, name: str) -> Ints:
    values: Ints = table.column(name).to_numpy()
    return values


def _require_exact(size_E: NDArray[np.float64], keys: Sequence[Ints]) -> None:
    """DataError if the values of one key may sum to more than 64 bits hold; the keys are looked at only if all do."""
    if size_E.sum() < _MOST:
        return
    for key_E in keys:
        named = key_E >= 0
        if np.bincount(key_E[named], weights=size_E[named]).max(initial=0.0) >= _MOST:
            raise DataError("reading features: a sum of values exceeds 64 bits; lower value_scale")


def _order(at: Ints, offset: Ints) -> NDArray[np.intp] | None:
    """The permutation into (available_at, offset) order; None when the rows stand in it already."""
    if len(at) < 2:
        return None
    rising = (at[1:] > at[:-1]) | ((at[1:] == at[:-1]) & (offset[1:] > offset[:-1]))
    return None if rising.all() else np.lexsort((offset, at))


def _type_code(types: Sequence[str]) -> str:
    arms = " ".join(f"WHEN {_text(name)} THEN {i}" for i, name in enumerate(types))
    return f'CAST(CASE "{c.TYPE}" {arms} ELSE -1 END AS SMALLINT)' if types else "CAST(-1 AS SMALLINT)"


def _row_filter(types: Sequence[str], every: bool, upto_offset: int | None) -> str:
    chosen = f"\"{c.TYPE}\" NOT LIKE '$%'" if every else f'"{c.TYPE}" IN ({", ".join(map(_text, types))})'
    return chosen if upto_offset is None else f'{chosen} AND "{c.OFFSET}" <= {upto_offset}'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@lru_cache(maxsize=256)
def _where(text: str) -> str:
    """The condition; DuckDB orders NaN above every number, so that a NaN value is made NULL first."""
    terms: tuple[Term, ...] = parse_where(text)
    guard = f' AND NOT isnan("{c.VALUE}")' if any(t.column == c.VALUE for t in terms) else ""
    return f"({where_sql(terms)}{guard})"


def _empty(entities: Sequence[str], types: tuple[str, ...], texts: Sequence[str], valued: bool) -> BatchLog:
    none = np.empty(0, np.int64)
    return BatchLog(
        at_E=none,
        type_E=np.empty(0, np.int16),
        types=types,
        keys=dict.fromkeys(entities, none),
        value_E=none if valued else None,
        valued_E=np.empty(0, np.bool_) if valued else None,
        where={text: np.empty(0, np.bool_) for text in texts},
    )

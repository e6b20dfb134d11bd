"""Catalog rows as columns: of events as they come, or of the whole log as of a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from feedwell.core import columns as c
from feedwell.core.catalog import CatalogTable
from feedwell.core.event import catalog_type
from feedwell.core.project import Project
from feedwell.data.log_view import LogView

_NUMBERS = ("float", "int", "bool", "time")


def catalog_table(project: Project, entity: str, events: pa.Table) -> CatalogTable:
    """The newest row of each object among these catalog events of one entity, whatever order they are in."""
    key_E, at_E = events[entity].to_numpy(), events[c.AVAILABLE_AT].to_numpy()
    order = np.lexsort((events[c.OFFSET].to_numpy(), at_E, key_E))
    last = np.ones(len(order), np.bool_)
    last[:-1] = key_E[order][1:] != key_E[order][:-1]
    row_M = order[last & (key_E[order] >= 0)]
    cells = [_fields(payload) for payload in events[c.PAYLOAD].take(pa.array(row_M)).to_pylist()]
    section = project.entity.get(entity)
    numbers = {
        name: np.array([_number(row.get(name)) for row in cells], np.float64)
        for name, kind in (section.columns if section else {}).items()
        if kind in _NUMBERS
    }
    for name, (owner, column) in project.derived_entities.items():
        if owner == entity:
            derived_M = events[name].to_numpy()[row_M].astype(np.float64)
            numbers[column] = np.where(derived_M < 0, np.nan, derived_M)
    texts = section.text if section else ()
    return CatalogTable(
        keys_M=key_E[row_M].astype(np.int64),
        at_M=at_E[row_M].astype(np.int64),
        numbers=numbers,
        text_M=tuple(_text(row, texts) for row in cells),
    )


def catalog_asof(view: LogView, project: Project, entity: str, until: int | None = None) -> CatalogTable:
    """The rows that were available before `until` (µs; None: all of the log)."""
    derived = [name for name, (owner, _) in project.derived_entities.items() if owner == entity]
    wanted = ", ".join(f'"{name}"' for name in (entity, c.AVAILABLE_AT, c.OFFSET, c.PAYLOAD, *derived))
    before = "TRUE" if until is None else f"available_at < {until}"
    query = f"""SELECT {wanted} FROM log WHERE type = '{catalog_type(entity)}' AND {before}
        QUALIFY row_number() OVER (PARTITION BY "{entity}" ORDER BY available_at DESC, "offset" DESC) = 1"""
    with view.connect() as connection:
        return catalog_table(project, entity, connection.execute(query).to_arrow_table())


def _fields(payload: str | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = orjson.loads(payload) if payload else {}
    return found


def _number(cell: object) -> float:
    return float(cell) if isinstance(cell, int | float) else float("nan")


def _text(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    cells = [row.get(name) for name in columns]
    words = [" ".join(map(str, cell)) if isinstance(cell, list) else str(cell) for cell in cells if cell is not None]
    return " ".join(words)

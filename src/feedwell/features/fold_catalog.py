"""Folding catalog changes: the newest row wins, whole."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from feedwell.core.event import catalog_type
from feedwell.features.batch import Batch
from feedwell.features.layout import pack_catalog, row_keys
from feedwell.features.measures import Selection
from feedwell.features.views import Catalog, CatalogRows
from feedwell.stores.state import WriteTxn


def fold_catalog(view: Catalog, batch: Batch, txn: WriteTxn) -> None:
    rows = _newest(view.entity, batch)
    if len(rows) == 0:
        return
    derived = np.empty((len(rows), len(view.derived)), np.int64)
    for i, (name, _) in enumerate(view.derived):
        derived[:, i] = batch.key(name)[rows]
    numbers = np.full((len(rows), len(view.columns)), np.nan)
    if view.columns:
        for i, row in enumerate(rows.tolist()):
            fields = json.loads(batch.payload(row))
            numbers[i] = [_number(fields.get(name)) for name in view.columns]
    names = row_keys(view.prefix, [batch.key(view.entity)[rows]])
    txn.put_many(zip(names, pack_catalog(derived, numbers), strict=True))


def fold_catalog_rows(view: CatalogRows, batch: Batch, txn: WriteTxn) -> None:
    rows = _newest(view.entity, batch)
    if len(rows):
        names = row_keys(view.prefix, [batch.key(view.entity)[rows]])
        txn.put_many(zip(names, (batch.payload(row).encode() for row in rows.tolist()), strict=True))


def _newest(entity: str, batch: Batch) -> NDArray[np.intp]:
    """The last catalog change of each key in the batch."""
    rows = np.flatnonzero(batch.mask(Selection((catalog_type(entity),))) & (batch.key(entity) >= 0))
    _, from_end = np.unique(batch.key(entity)[rows][::-1], return_index=True)
    return rows[len(rows) - 1 - from_end] if len(rows) else rows


def _number(cell: object) -> float:
    return float(cell) if isinstance(cell, (int, float)) else float("nan")

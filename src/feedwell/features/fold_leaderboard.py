"""Folding into leaderboards. A score only rises, and only by an event of its object: the merged top list is exact."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from feedwell.core.event import catalog_type
from feedwell.features.batch import Batch, Ints
from feedwell.features.forward_decay import SHIFT, block_and_weight, order_of
from feedwell.features.layout import LEADERBOARD_TOP, join_words, row_keys, split_words
from feedwell.features.measures import Selection
from feedwell.features.views import Leaderboard
from feedwell.stores.state import WriteTxn

Float = NDArray[np.float64]


def fold_leaderboard(view: Leaderboard, batch: Batch, txn: WriteTxn) -> None:
    keys, order = _fold_decayed(view, batch, txn) if view.by == "decayed" else _fold_newest(view, batch, txn)
    if len(keys) == 0:
        return
    name = view.prefix + LEADERBOARD_TOP
    raw = np.frombuffer(txn.get(name) or b"", "<i8")
    top, score = raw[: len(raw) // 2], raw[len(raw) // 2 :].view(np.float64)
    others = ~np.isin(top, keys)
    keys, order = np.concatenate([keys, top[others]]), np.concatenate([order, score[others]])
    best = np.lexsort((keys, -order))[: view.k]
    txn.put_many([(name, keys[best].astype("<i8").tobytes() + order[best].astype("<f8").tobytes())])


def _fold_decayed(view: Leaderboard, batch: Batch, txn: WriteTxn) -> tuple[Ints, Float]:
    rows = np.flatnonzero(batch.mask(Selection(view.events)) & (batch.key(view.object) >= 0))
    if len(rows) == 0:
        return rows, np.empty(0)
    keys, of_key = np.unique(batch.key(view.object)[rows], return_inverse=True)
    names = row_keys(view.prefix, [keys])
    stored = join_words(txn.get_many(names, bytes(16)))[0].reshape(-1, 2)
    block, score = stored[:, 0].copy(), stored[:, 1].copy()
    block_E, weight_E = block_and_weight(batch.at_E[rows], view.half_life)
    for b in np.unique(block_E).tolist():
        here = block_E == b
        hit = np.unique(of_key[here])
        score[hit] >>= np.minimum(62, SHIFT * (b - block[hit]))
        block[hit] = b
        np.add.at(score, of_key[here], weight_E[here])
    words = np.stack([block, score], axis=1).reshape(-1)
    txn.put_many(zip(names, split_words(words, np.full(len(keys), 2, np.int64)), strict=True))
    return keys, order_of(block, score)


def _fold_newest(view: Leaderboard, batch: Batch, txn: WriteTxn) -> tuple[Ints, Float]:
    """An object is as new as its first event: its catalog row's `created_at`, or else when it became available."""
    rows = np.flatnonzero(batch.key(view.object) >= 0)
    keys, first = np.unique(batch.key(view.object)[rows], return_index=True)
    names = row_keys(view.prefix, [keys])
    fresh = np.array([not row for row in txn.get_many(names, b"")], np.bool_)
    keys, first = keys[fresh], rows[first[fresh]]
    if len(keys) == 0:
        return keys, np.empty(0)
    order = batch.at_E[first].astype(np.float64)
    if view.created_at:
        catalog = batch.mask(Selection((catalog_type(view.object),)))
        for i, row in enumerate(first.tolist()):
            cell = json.loads(batch.payload(row)).get(view.created_at) if catalog[row] else None
            if isinstance(cell, (int, float)):
                order[i] = cell
    names = [name for name, new in zip(names, fresh.tolist(), strict=True) if new]
    txn.put_many(zip(names, split_words(order.view(np.int64), np.ones(len(keys), np.int64)), strict=True))
    return keys, order

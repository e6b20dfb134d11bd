"""Folding into lists: relations (a sorted list of objects per user) and sequences (the last n per user)."""

from __future__ import annotations

import numpy as np

from feedwell.features.batch import Batch, Ints, Mask
from feedwell.features.layout import NO_OBJECTS, TYPE_BITS, WORD, join_words, row_keys
from feedwell.features.measures import Selection
from feedwell.features.views import Relation, Sequence
from feedwell.stores.state import WriteTxn

_OBJECT_BITS = 40


def fold_relation(view: Relation, batch: Batch, txn: WriteTxn) -> Ints:
    """+1 or -1 at the batch's last event of each (user, object) whose relation it changed; writes the lists."""
    moves = np.zeros(len(batch), np.int64)
    do = batch.mask(Selection((view.event,)))
    either = do | batch.mask(Selection((view.undone_by,))) if view.undone_by else do
    rows = np.flatnonzero(either & (batch.key("user") >= 0) & (batch.key(view.object) >= 0))
    if len(rows) == 0:
        return moves
    users, of_user = np.unique(batch.key("user")[rows], return_inverse=True)
    pair = (of_user.astype(np.int64) << _OBJECT_BITS) | batch.key(view.object)[rows]
    # The last event of a pair decides: whatever came before it in this batch, it leaves the relation begun or ended.
    pairs, from_end = np.unique(pair[::-1], return_index=True)
    deciding = rows[len(rows) - 1 - from_end]
    names = row_keys(view.prefix, [users])
    objects, edges = join_words(txn.get_many(names, NO_OBJECTS))
    standing = (np.repeat(np.arange(len(users)), np.diff(edges)) << _OBJECT_BITS) | objects
    at = np.atleast_1d(np.searchsorted(standing, pairs))
    stood: Mask = np.append(standing, -1)[at] == pairs
    begun, ended = do[deciding] & ~stood, ~do[deciding] & stood
    moves[deciding[begun]] = 1
    moves[deciding[ended]] = -1
    if not (begun.any() or ended.any()):
        return moves
    after = np.sort(np.concatenate([np.delete(standing, at[ended]), pairs[begun]]))
    _write_lists(txn, names, after, np.unique(pairs[begun | ended] >> _OBJECT_BITS))
    return moves


def _write_lists(txn: WriteTxn, names: list[bytes], pairs: Ints, changed: Ints) -> None:
    lower = np.searchsorted(pairs, changed << _OBJECT_BITS).tolist()
    upper = np.searchsorted(pairs, (changed + 1) << _OBJECT_BITS).tolist()
    raw = (pairs & ((1 << _OBJECT_BITS) - 1)).astype("<i8").tobytes()
    written, emptied = [], []
    for g, a, b in zip(changed.tolist(), lower, upper, strict=True):
        if a == b:
            emptied.append(names[g])
        else:
            written.append((names[g], raw[a * WORD : b * WORD]))
    txn.put_many(written)
    txn.delete_many(emptied)


def fold_sequence(view: Sequence, batch: Batch, txn: WriteTxn) -> None:
    """Appends each user's new objects and lets the oldest beyond n go."""
    users_E = batch.key("user")
    rows = np.flatnonzero(batch.mask(view.selection) & (users_E >= 0) & (batch.key(view.object) >= 0))
    if len(rows) == 0:
        return
    rows = rows[np.argsort(users_E[rows], kind="stable")]
    users, starts = np.unique(users_E[rows], return_index=True)
    entries = np.empty((len(rows), 2), "<i8")
    entries[:, 0] = batch.key(view.object)[rows]
    entries[:, 1] = (batch.at_E[rows] << TYPE_BITS) | batch.type_index(view.selection.events)[rows]
    raw = entries.tobytes()
    edges = [*(starts * 2 * WORD).tolist(), len(raw)]
    names = row_keys(view.prefix, [users])
    longest = view.n * 2 * WORD
    old = txn.get_many(names, b"")
    txn.put_many((names[i], (old[i] + raw[edges[i] : edges[i + 1]])[-longest:]) for i in range(len(names)))

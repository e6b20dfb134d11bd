"""hydrate: the online state built from history by the batch plan, as a fold of the same events would have left it.

E events that touch a view, G distinct keys, X tiles
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feedwell.core.errors import Unavailable
from feedwell.core.event import catalog_type
from feedwell.engines import Engine, LocalEngine
from feedwell.features.definition import FeatureSet
from feedwell.features.forward_decay import SHIFT, block_and_weight, order_of
from feedwell.features.layout import (
    LEADERBOARD_TOP,
    TYPE_BITS,
    facts_layout,
    pack_catalog,
    row_keys,
    spans,
    split_words,
)
from feedwell.features.measures import EMPTY, ActiveTally, LastValue, Moment, Selection, Tally
from feedwell.features.memory import require_memory
from feedwell.features.probe import relation_moves
from feedwell.features.scan import BatchLog, numbers, read_catalog, read_log
from feedwell.features.statefile import Head, read_head, view_item, view_offset
from feedwell.features.views import Catalog, CatalogRows, Facts, Leaderboard, Relation, Tiles, View
from feedwell.features.views import Sequence as SequenceView
from feedwell.stores.state import StateStore

Ints = NDArray[np.int64]
Items = list[tuple[bytes, bytes]]
_CHUNK = 200_000
_ENGINE = LocalEngine()


def hydrate(
    features: FeatureSet,
    segments: Sequence[Path],
    state: StateStore,
    *,
    epoch: int,
    upto_offset: int,
    engine: Engine = _ENGINE,
) -> None:
    """Builds every view of `features` that `state` does not keep yet, from the segments' events up to `upto_offset`.

    A view counts as kept only when it is whole. In a state that is further along, `Fold` brings the new views up to it
    from `upto_offset` on. Unavailable if the state is of another epoch, or memory would not do.
    """
    with state.read() as txn:
        head = read_head(txn)
        missing = [view for view in features.views if view_offset(txn, view) is None]
    if head is not None and head.epoch != epoch:
        raise Unavailable(f"this state is of epoch {head.epoch}: hydrate epoch {epoch} into a fresh one")
    require_memory("the online state", engine, segments, missing)
    log = read_log(engine, segments, missing, upto_offset)
    for view in sorted(missing, key=lambda v: v.prefix):
        state.update(lambda txn, prefix=view.prefix: txn.delete_prefix(prefix))  # type: ignore[misc]
        _build(view, log, segments, state, engine, upto_offset)
    newest = _newest_at(engine, segments, upto_offset)
    grown = Head(epoch=epoch, offset=upto_offset, newest_at=newest)
    kept = head if head is not None and head.offset > upto_offset else grown
    state.update(lambda txn: txn.put_many([*(view_item(v, upto_offset) for v in missing), kept.item]))


def _newest_at(engine: Engine, segments: Sequence[Path], upto_offset: int) -> int:
    if not segments:
        return 0
    table = engine.scan(segments, ["coalesce(max(available_at), 0) AS a"], f'"offset" <= {upto_offset}')
    return int(table.column("a")[0].as_py())


def _build(view: View, log: BatchLog, segments: Sequence[Path], state: StateStore, engine: Engine, upto: int) -> None:
    match view:
        case Facts():
            _build_facts(view, log, state)
            for relation in view.relations:
                state.update(lambda txn, prefix=relation.prefix: txn.delete_prefix(prefix))  # type: ignore[misc]
                _build_relation(relation, log, state)
        case Relation():
            _build_relation(view, log, state)
        case SequenceView():
            _build_sequence(view, log, state)
        case Leaderboard():
            _build_leaderboard(view, log, segments, state, engine, upto)
        case Catalog():
            found = read_catalog(engine, segments, view, upto)
            last = _last_rows(found.key_C)
            rows = pack_catalog(found.derived_CD[last], found.columns_CN[last])
            _put(state, row_keys(view.prefix, [found.key_C[last]]), rows)
        case CatalogRows():
            whole = read_catalog(engine, segments, Catalog(view.entity, (), ()), upto, rows=True)
            last = _last_rows(whole.key_C)
            _put(
                state, row_keys(view.prefix, [whole.key_C[last]]), [whole.payload_C[i].encode() for i in last.tolist()]
            )


def _put(state: StateStore, names: list[bytes], rows: list[bytes]) -> None:
    """Rows with ascending names, in transactions that are neither many nor vast."""
    for a in range(0, len(names), _CHUNK):
        chunk = list(zip(names[a : a + _CHUNK], rows[a : a + _CHUNK], strict=True))
        state.update(lambda txn, chunk=chunk: txn.put_sorted(chunk))  # type: ignore[misc]


def _last_rows(keys: Ints) -> NDArray[np.intp]:
    """The last row of each distinct key, by key."""
    _, from_end = np.unique(keys[::-1], return_index=True)
    return len(keys) - 1 - from_end


class _Sorted:
    """The rows of a view's touching events by key, then log order; where each of the G keys starts."""

    def __init__(self, rows: NDArray[np.intp], keys: Sequence[Ints]) -> None:
        order = _by_key([k[rows] for k in keys])
        self.rows = rows[order]
        self.keys = [k[self.rows] for k in keys]
        first = np.ones(len(rows), np.bool_)
        first[1:] = np.any(np.stack([k[1:] != k[:-1] for k in self.keys]), axis=0)
        self.starts = np.flatnonzero(first)
        self.of = np.cumsum(first) - 1

    def names(self, prefix: bytes, a: int, b: int) -> list[bytes]:
        return row_keys(prefix, [k[self.starts[a:b]] for k in self.keys])


def _by_key(keys: Sequence[Ints]) -> NDArray[np.intp]:
    code, bits = keys[0], int(keys[0].max(initial=0)).bit_length()
    for more in keys[1:]:
        width = int(more.max(initial=0)).bit_length()
        code, bits = (code << width) | more, bits + width
    place = max(1, len(code).bit_length())
    if bits + place > 62:
        return np.lexsort(tuple(reversed(keys)))
    # One sort of one integer is ten times faster than a stable argsort.
    packed: Ints = np.sort((code << place) | np.arange(len(code))) & ((1 << place) - 1)
    return packed


def _build_facts(view: Facts, log: BatchLog, state: StateStore) -> None:
    moves = {r.event: relation_moves(log, r.event, r.undone_by, r.object) for r in view.relations}
    touched = np.zeros(len(log), np.bool_)
    for step in (_steps(log, tally, moves) for tally in view.tallies):
        touched |= step != 0
    for part in view.cells:
        touched |= log.mask(part.selection)
    for entity in view.entities:
        touched &= log.keys[entity] >= 0
    rows = np.flatnonzero(touched)
    if len(rows) == 0:
        return
    by_key = _Sorted(rows, [log.keys[e] for e in view.entities])
    sums_T = [np.cumsum(_steps(log, tally, moves)[by_key.rows], dtype=np.int64) for tally in view.tallies]
    n_keys = len(by_key.starts)
    ends = np.append(by_key.starts[1:], len(by_key.rows)) - 1
    before_TG = [np.where(by_key.starts > 0, sums[by_key.starts - 1], 0) for sums in sums_T]
    fixed = np.empty((n_keys, facts_layout(view).fixed), np.int64)
    for i, sums in enumerate(sums_T):
        fixed[:, len(view.tiles) + i] = sums[ends] - before_TG[i]
    _fill_cells(view, log, by_key, fixed)
    tables = [_tiles(tiles, log, by_key, sums_T, before_TG) for tiles in view.tiles]
    for h, (_, n_G) in enumerate(tables):
        fixed[:, h] = n_G
    _pack(view, by_key, fixed, tables, state)


def _steps(log: BatchLog, tally: Tally | ActiveTally, moves: dict[str, Ints]) -> NDArray[np.generic]:
    if isinstance(tally, ActiveTally):
        return moves[tally.event]
    chosen = log.mask(tally.selection)
    if tally.of == "events":
        return chosen
    value_E, valued_E = log.values
    return chosen & valued_E if tally.of == "valued" else np.where(chosen, value_E, 0)


def _fill_cells(view: Facts, log: BatchLog, by_key: _Sorted, fixed: Ints) -> None:
    layout = facts_layout(view)
    for i, part in enumerate(view.cells):
        chosen, column = log.mask(part.selection), log.at_E
        if isinstance(part, LastValue):
            chosen, column = chosen & log.values[1], log.values[0]
        match = np.flatnonzero(chosen[by_key.rows])
        of = by_key.of[match]
        cell = np.full(len(by_key.starts), EMPTY, np.int64)
        backwards = isinstance(part, Moment) and part.which == "first"
        # Of several writes to one place, numpy keeps the last: so the order of writing chooses first or last.
        turn = slice(None, None, -1) if backwards else slice(None)
        cell[of[turn]] = column[by_key.rows[match]][turn]
        fixed[:, layout.moments + i] = cell


def _tiles(
    tiles: Tiles, log: BatchLog, by_key: _Sorted, sums_T: Sequence[Ints], before_TG: Sequence[Ints]
) -> tuple[Ints, Ints]:
    """(X entries of (tile, cumulative sums), how many each key has), expired ones gone but for the base."""
    chosen = [np.diff(sums_T[i], prepend=0) != 0 for i in tiles.tallies]
    e = np.flatnonzero(np.any(np.stack(chosen), axis=0))
    of, tile = by_key.of[e], log.at_E[by_key.rows[e]] // tiles.hop
    last = np.ones(len(e), np.bool_)
    last[:-1] = (of[1:] != of[:-1]) | (tile[1:] != tile[:-1])
    e, of, tile = e[last], of[last], tile[last]
    newest = np.full(len(by_key.starts), EMPTY, np.int64)
    newest[of] = tile
    oldest = newest[of] - tiles.reach
    following = np.append(tile[1:], EMPTY)
    following[np.append(of[1:] != of[:-1], True)] = np.iinfo(np.int64).max
    stays = (tile >= oldest) | (following >= oldest)
    e, of, tile = e[stays], of[stays], tile[stays]
    entries = np.empty((len(e), 1 + len(tiles.tallies)), np.int64)
    entries[:, 0] = tile
    for column, i in enumerate(tiles.tallies):
        entries[:, 1 + column] = sums_T[i][e] - before_TG[i][of]
    return entries, np.bincount(of, minlength=len(by_key.starts))


def _pack(view: Facts, by_key: _Sorted, fixed: Ints, tables: Sequence[tuple[Ints, Ints]], state: StateStore) -> None:
    edges_H = [np.concatenate([[0], np.cumsum(n_G)]) for _, n_G in tables]
    for a in range(0, len(fixed), _CHUNK):
        b = min(a + _CHUNK, len(fixed))
        width, n_H = fixed.shape[1], [n_G[a:b] for _, n_G in tables]
        wide_H = [n * entries.shape[1] for n, (entries, _) in zip(n_H, tables, strict=True)]
        lengths = width + sum(wide_H, np.zeros(b - a, np.int64))
        start = np.cumsum(lengths) - lengths
        words = np.empty(int(lengths.sum()), np.int64)
        words[start[:, None] + np.arange(width)] = fixed[a:b]
        at = start + width
        for h, (entries, _) in enumerate(tables):
            words[spans(at, wide_H[h])] = entries[edges_H[h][a] : edges_H[h][b]].reshape(-1)
            at = at + wide_H[h]
        _put(state, by_key.names(view.prefix, a, b), split_words(words, lengths))


def _build_relation(view: Relation, log: BatchLog, state: StateStore) -> None:
    moves = relation_moves(log, view.event, view.undone_by, view.object)
    moved = np.flatnonzero(moves)
    user, other = log.keys["user"][moved], log.keys[view.object][moved]
    order = np.lexsort((moved, other, user))
    user, other, move = user[order], other[order], moves[moved][order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = (user[1:] != user[:-1]) | (other[1:] != other[:-1])
    standing = last & (move > 0)
    users, n = np.unique(user[standing], return_counts=True)
    if len(users):
        _put(state, row_keys(view.prefix, [users]), split_words(other[standing], n))


def _build_sequence(view: SequenceView, log: BatchLog, state: StateStore) -> None:
    user, other = log.keys["user"], log.keys[view.object]
    rows = np.flatnonzero(log.mask(view.selection) & (user >= 0) & (other >= 0))
    if len(rows) == 0:
        return
    by_key = _Sorted(rows, [user])
    ends = np.append(by_key.starts[1:], len(rows))
    n = np.minimum(ends - by_key.starts, view.n)
    kept = by_key.rows[spans(ends - n, n)]
    place = np.array([view.selection.events.index(t) if t in view.selection.events else 0 for t in log.types] + [0])
    entries = np.stack([other[kept], (log.at_E[kept] << TYPE_BITS) | place[log.type_E[kept]]], axis=1)
    _put(state, by_key.names(view.prefix, 0, len(n)), split_words(entries.reshape(-1), 2 * n))


def _build_leaderboard(
    view: Leaderboard, log: BatchLog, segments: Sequence[Path], state: StateStore, engine: Engine, upto: int
) -> None:
    if view.by == "decayed":
        keys, order, rows = _decayed(view, log)
    else:
        keys, order, rows = _newest(view, segments, engine, upto)
    if len(keys) == 0:
        return
    _put(state, row_keys(view.prefix, [keys]), rows)
    best = np.lexsort((keys, -order))[: view.k]
    top = keys[best].astype("<i8").tobytes() + order[best].astype("<f8").tobytes()
    state.update(lambda txn: txn.put_many([(view.prefix + LEADERBOARD_TOP, top)]))


def _decayed(view: Leaderboard, log: BatchLog) -> tuple[Ints, NDArray[np.float64], list[bytes]]:
    rows = np.flatnonzero(log.mask(Selection(view.events)) & (log.keys[view.object] >= 0))
    keys, of = np.unique(log.keys[view.object][rows], return_inverse=True)
    block = np.zeros(len(keys), np.int64)
    score = np.zeros(len(keys), np.int64)
    block_E, weight_E = block_and_weight(log.at_E[rows], view.half_life)
    # The log rises in time, so that blocks are runs: one pass over each, shifting what the block before has left.
    edges = np.flatnonzero(np.diff(block_E, prepend=-1, append=-1)) if len(rows) else np.zeros(0, np.int64)
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        now = int(block_E[a])
        total = np.zeros(len(keys), np.int64)
        np.add.at(total, of[a:b], weight_E[a:b])
        hit = total > 0
        score[hit] = (score[hit] >> np.minimum(62, SHIFT * (now - block[hit]))) + total[hit]
        block[hit] = now
    packed = split_words(np.stack([block, score], axis=1).reshape(-1), np.full(len(keys), 2, np.int64))
    return keys, order_of(block, np.maximum(score, 1)), packed


def _newest(
    view: Leaderboard, segments: Sequence[Path], engine: Engine, upto: int
) -> tuple[Ints, NDArray[np.float64], list[bytes]]:
    if not segments:
        return np.empty(0, np.int64), np.empty(0), []
    place = f'row_number() OVER (PARTITION BY "{view.object}" ORDER BY available_at, "offset") = 1'
    table = engine.scan(
        segments,
        [f'"{view.object}" AS k', "available_at AS a", '"type" AS ty', "payload AS p"],
        f'"{view.object}" >= 0 AND "offset" <= {upto} QUALIFY {place} ORDER BY k',
    )
    keys: Ints = table.column("k").to_numpy()
    order = table.column("a").to_numpy().astype(np.float64)
    if view.created_at:
        is_catalog = np.array(table.column("ty").to_pylist()) == catalog_type(view.object)
        first = [p if is_catalog[i] else "{}" for i, p in enumerate(table.column("p").to_pylist())]
        created = numbers(first, (view.created_at,))[:, 0]
        order = np.where(np.isnan(created), order, created)
    return keys, order, split_words(order.view(np.int64), np.ones(len(keys), np.int64))

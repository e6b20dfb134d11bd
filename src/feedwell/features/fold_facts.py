"""Folding into `Facts` rows: totals, moments, last values and tiles of all touched keys at once.

E events of the batch that touch the view, G distinct keys, T tallies
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedwell.core.errors import DataError
from feedwell.features.batch import Batch, Ints, Mask
from feedwell.features.fold_lists import fold_relation
from feedwell.features.layout import FactsLayout, facts_layout, join_words, row_keys, spans, split_words
from feedwell.features.measures import EMPTY, ActiveTally, Selection
from feedwell.features.views import Facts, Tiles
from feedwell.stores.state import WriteTxn

_LATEST = int(np.iinfo(np.int64).max)


def fold_facts(view: Facts, batch: Batch, txn: WriteTxn) -> None:
    moves = {r.event: fold_relation(r, batch, txn) for r in view.relations}
    steps = [_steps(view, batch, i, moves) for i in range(len(view.tallies))]
    touched = np.zeros(len(batch), np.bool_)
    for step in steps:
        touched |= step != 0
    for part in view.cells:
        touched |= batch.mask(part.selection)
    for entity in view.entities:
        touched &= batch.key(entity) >= 0
    rows = np.flatnonzero(touched)
    if len(rows) == 0:
        return
    keys = [batch.key(entity)[rows] for entity in view.entities]
    order = np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(tuple(reversed(keys)))
    groups = _Groups.of(rows[order], [k[order] for k in keys])
    step_TE = np.stack([s[groups.rows_E] for s in steps]) if steps else np.zeros((0, len(rows)), np.int64)
    names = row_keys(view.prefix, [k[groups.starts_G] for k in groups.keys])
    layout = facts_layout(view)
    old, edges = join_words(txn.get_many(names, layout.empty))
    words, lengths = _merge(layout, old, edges, groups, step_TE, batch)
    txn.put_many(zip(names, split_words(words, lengths), strict=True))


@dataclass(frozen=True)
class _Groups:
    """The touching events sorted by key, log order within: `rows_E` of the batch, `of_E` their group, `starts_G`."""

    rows_E: NDArray[np.intp]
    keys: list[Ints]
    of_E: NDArray[np.intp]
    starts_G: NDArray[np.intp]

    @staticmethod
    def of(rows_E: NDArray[np.intp], keys: list[Ints]) -> _Groups:
        first = np.ones(len(rows_E), np.bool_)
        first[1:] = np.any(np.stack([k[1:] != k[:-1] for k in keys]), axis=0)
        return _Groups(rows_E, keys, np.cumsum(first) - 1, np.flatnonzero(first))


def _steps(view: Facts, batch: Batch, i: int, moves: dict[str, Ints]) -> Ints:
    tally = view.tallies[i]
    if isinstance(tally, ActiveTally):
        return moves[tally.event]
    chosen = batch.mask(tally.selection)
    if tally.of == "value":
        return np.where(chosen, batch.value_E, 0)
    return (chosen & batch.valued_E if tally.of == "valued" else chosen).astype(np.int64)


def _merge(
    layout: FactsLayout, old: Ints, edges: Ints, groups: _Groups, step_TE: Ints, batch: Batch
) -> tuple[Ints, Ints]:
    view, row_G = layout.view, edges[:-1]
    fixed_GF = old[row_G[:, None] + np.arange(layout.fixed)]
    total_GT = fixed_GF[:, layout.totals : layout.moments].copy()
    running_TE = np.cumsum(step_TE, axis=1)
    before_TG = running_TE[:, groups.starts_G] - step_TE[:, groups.starts_G]
    running_TE += (total_GT.T - before_TG)[:, groups.of_E]
    last_E = np.append(groups.starts_G[1:], len(groups.rows_E)) - 1
    after_GT = running_TE[:, last_E].T
    # Two of one sign whose sum has the other.
    if (((total_GT ^ after_GT) & ((after_GT - total_GT) ^ after_GT)) < 0).any():
        raise DataError(
            f"folding up to offset {batch.offset_E[-1]}: a sum of values exceeds 64 bits; lower value_scale"
        )
    fixed_GF[:, layout.totals : layout.moments] = after_GT
    _merge_cells(layout, fixed_GF, groups, batch)
    tile_row_G = row_G + layout.fixed
    at_E = batch.at_E[groups.rows_E]
    tables: list[tuple[Ints, Ints]] = []
    for h, tiles in enumerate(view.tiles):
        n_old_G = fixed_GF[:, h].copy()
        chosen = list(tiles.tallies)
        entries, of_entry = _merge_tiles(
            tiles, old, tile_row_G, n_old_G, groups, at_E, np.any(step_TE[chosen] != 0, axis=0), running_TE[chosen]
        )
        fixed_GF[:, h] = np.bincount(of_entry, minlength=len(row_G))
        tables.append((entries, of_entry))
        tile_row_G = tile_row_G + n_old_G * layout.strides[h]
    return _assemble(layout, fixed_GF, tables)


def _merge_cells(layout: FactsLayout, fixed_GF: Ints, groups: _Groups, batch: Batch) -> None:
    at_E = batch.at_E[groups.rows_E]
    for i, moment in enumerate(layout.view.moments):
        chosen = _chosen(batch, groups, moment.selection)
        cell_G = fixed_GF[:, layout.moments + i]
        if moment.which == "last":
            newest_G = np.maximum.reduceat(np.where(chosen, at_E, EMPTY), groups.starts_G)
            cell_G[:] = np.maximum(cell_G, newest_G)
        else:
            oldest_G = np.minimum.reduceat(np.where(chosen, at_E, _LATEST), groups.starts_G)
            cell_G[:] = np.where((cell_G == EMPTY) & (oldest_G != _LATEST), oldest_G, cell_G)
    for i, last in enumerate(layout.view.last_values):
        chosen = _chosen(batch, groups, last.selection) & batch.valued_E[groups.rows_E]
        newest_G = np.maximum.reduceat(np.where(chosen, np.arange(len(chosen)), -1), groups.starts_G)
        cell_G = fixed_GF[:, layout.last_values + i]
        cell_G[:] = np.where(newest_G >= 0, batch.value_E[groups.rows_E][newest_G], cell_G)


def _chosen(batch: Batch, groups: _Groups, selection: Selection) -> Mask:
    return batch.mask(selection)[groups.rows_E]


def _merge_tiles(
    tiles: Tiles,
    old: Ints,
    tile_row_G: Ints,
    n_old_G: Ints,
    groups: _Groups,
    at_E: Ints,
    moved_E: Mask,
    running_TE: Ints,
) -> tuple[Ints, Ints]:
    """(entries, the group of each): what stands in the row afterwards, oldest first, expired tiles gone."""
    width = 1 + len(tiles.tallies)
    e = np.flatnonzero(moved_E)
    of_new, tile = groups.of_E[e], at_E[e] // tiles.hop
    ends = np.ones(len(e), np.bool_)
    ends[:-1] = (of_new[1:] != of_new[:-1]) | (tile[1:] != tile[:-1])
    e, of_new, tile = e[ends], of_new[ends], tile[ends]
    new = np.concatenate([tile[None], running_TE[:, e]]).T
    of_old = np.repeat(np.arange(len(n_old_G)), n_old_G)
    nth = spans(np.zeros(len(n_old_G), np.int64), n_old_G)
    kept = old[(tile_row_G[of_old] + nth * width)[:, None] + np.arange(width)]
    entries = np.concatenate([kept, new])
    of_entry = np.concatenate([of_old, of_new])
    order = np.argsort(of_entry, kind="stable")
    entries, of_entry = entries[order], of_entry[order]
    if len(entries) == 0:
        return entries, of_entry
    last = np.ones(len(of_entry), np.bool_)
    last[:-1] = of_entry[1:] != of_entry[:-1]
    # The next entry of the same key tells what becomes of one: replaced by it (same tile), or expired behind a base.
    following = np.where(last, _LATEST, np.append(entries[1:, 0], _LATEST))
    newest_G = np.full(len(n_old_G), EMPTY, np.int64)
    newest_G[of_entry[last]] = entries[last, 0]
    oldest = newest_G[of_entry] - tiles.reach
    stays = (following != entries[:, 0]) & ((entries[:, 0] >= oldest) | (following >= oldest))
    return entries[stays], of_entry[stays]


def _assemble(layout: FactsLayout, fixed_GF: Ints, tables: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    n_GH = fixed_GF[:, : layout.totals]
    lengths = layout.fixed + n_GH @ layout.strides if tables else np.full(len(fixed_GF), layout.fixed, np.int64)
    start_G = np.cumsum(lengths) - lengths
    words = np.empty(int(lengths.sum()), np.int64)
    words[start_G[:, None] + np.arange(layout.fixed)] = fixed_GF
    at_G = start_G + layout.fixed
    for h, (entries, _) in enumerate(tables):
        n_G, width = n_GH[:, h], int(layout.strides[h])
        words[spans(at_G, n_G * width)] = entries.reshape(-1)
        at_G = at_G + n_G * width
    return words, lengths

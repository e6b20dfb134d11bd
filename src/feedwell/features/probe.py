"""Cumulative sums per key, probed at t and at each lower edge, and their differences: the batch plan as arrays.

All events of a key stand together in log order; `place` = (key's code, position in the log) in one integer is sorted,
so that a binary search of (code, first position at or after a time) finds the edge of any window. One sort per key
tuple serves all windows and measures, and a key with a million events costs no more than a million keys with one.

    E events, R rows of the frame
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.features.hops import decay_tiles, hop_of
from feedwell.features.measures import EMPTY, ActiveTally, LastValue, Moment, Selection, Tally
from feedwell.features.scan import BatchLog

Ints = NDArray[np.int64]


class Edges:
    """For rows at `t_R`: how many events of the log come before a time that depends on t. Shared by all key tuples."""

    def __init__(self, at_E: Ints, t_R: Ints) -> None:
        self._at_E, self.t_R = at_E, t_R
        self._by_time = np.argsort(t_R, kind="stable")
        self._known: dict[tuple[int, int], Ints] = {}

    def at(self, hop: int, back: int) -> Ints:
        """Events before floor(t / hop) * hop - back; hop 0: before t itself."""
        return self._before((hop, back), self.t_R // hop * hop - back if hop else self.t_R)

    def block(self, hop: int, size: int) -> Ints:
        """Events before the first tile of the block of `size` tiles that t stands in."""
        return self._before((hop, -size), self.t_R // (hop * size) * (hop * size))

    def _before(self, name: tuple[int, int], time_R: Ints) -> Ints:
        # Times that rise with t are searched in t's order: ten times faster than at random.
        if name not in self._known:
            before = np.empty(len(time_R), np.int64)
            before[self._by_time] = np.searchsorted(self._at_E, time_R[self._by_time], side="left")
            self._known[name] = before
        return self._known[name]


class Keyed:
    """The events of one key tuple that some measure counts, by key and then by log order."""

    def __init__(
        self, log: BatchLog, keys_E: Sequence[Ints], chosen_E: NDArray[np.bool_], keys_R: Sequence[Ints]
    ) -> None:
        self.log = log
        for keys in keys_E:
            chosen_E = chosen_E & (keys >= 0)
        rows = np.flatnonzero(chosen_E)
        self._bits = max(1, len(log).bit_length())
        codes, self.code_R = _codes([k[rows] for k in keys_E], keys_R, 62 - self._bits)
        if codes is None:
            codes, rows, self.code_R = _dense([k[rows] for k in keys_E], rows, keys_R)
        self.place = np.sort((codes << self._bits) | rows)
        self.order = self.place & ((1 << self._bits) - 1)

    def find(self, before_R: Ints, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """For those frame rows: where, in the key's order, its events at log position `before_R` and later begin."""
        return np.searchsorted(self.place, (self.code_R[rows] << self._bits) + before_R[rows], side="left")


class Probe:
    """The measures of one key tuple for every row of a frame; rows with a null key read as keys without events."""

    def __init__(
        self,
        log: BatchLog,
        edges: Edges,
        keys_E: Sequence[Ints],
        keys_R: Sequence[Ints],
        chosen_E: NDArray[np.bool_],
        moves: dict[str, Ints],
    ) -> None:
        null_R = np.any(np.stack([k < 0 for k in keys_R]), axis=0)
        self._keyed = Keyed(log, keys_E, chosen_E, [np.where(null_R, 0, k) for k in keys_R])
        self._log, self._edges, self._moves = log, edges, moves
        self._null_R = null_R if null_R.any() else None
        # Queries in ascending order run several times faster; every result is put back into the frame's order.
        self._sorted = np.argsort(self._keyed.code_R, kind="stable")
        self._found: dict[tuple[int, int], NDArray[np.intp]] = {}
        self._sums: dict[Tally | ActiveTally, Ints] = {}

    def tally(self, tally: Tally | ActiveTally, window: int | None) -> Ints:
        sums = self._sum(tally)
        upper = sums[self._upper]
        lower = self._start if window is None else self._edge(hop_of(window), window)
        return self._whole(upper - sums[lower], 0)

    def decayed(self, tally: Tally, half_life: int) -> NDArray[np.float64]:
        hop = hop_of(8 * half_life)
        size = decay_tiles(half_life) + 1
        events = self._increments(tally)
        tile = self._log.at_E[self._keyed.order] // hop
        in_block = tile % size
        # Weights are integers, so that sums and their differences are exact; as many bits as a key's sum can take.
        busiest = int(np.max(self._upper - self._start, initial=1))
        bits = min(44, 62 - 9 - busiest.bit_length())
        weight = np.rint(np.exp2(bits + in_block * (hop / half_life))).astype(np.int64)
        sums = _cumulative(events * weight)
        t_tile = self._edges.t_R // hop
        middle = self._locate(self._edges.block(hop, size))
        lower = self._edge(hop, (size - 1) * hop)
        into = t_tile % size
        here = (sums[self._upper] - sums[middle]) * np.exp2(-bits - into * (hop / half_life))
        there = (sums[middle] - sums[lower]) * np.exp2(-bits - (into + size) * (hop / half_life))
        value: NDArray[np.float64] = here + there
        if self._null_R is not None:
            value[self._null_R] = 0.0
        return value

    def moment(self, moment: Moment) -> Ints:
        sums = self._sum(Tally(moment.selection))
        match = np.flatnonzero(np.diff(sums))
        first, last = sums[self._start], sums[self._upper]
        return self._cell(match, first if moment.which == "first" else last - 1, first < last, self._log.at_E)

    def last_value(self, measure: LastValue) -> Ints:
        sums = self._sum(Tally(measure.selection, "valued"))
        match = np.flatnonzero(np.diff(sums))
        first, last = sums[self._start], sums[self._upper]
        return self._cell(match, last - 1, first < last, self._log.values[0])

    def last_n(self, selection: Selection, n: int) -> tuple[Ints, Ints]:
        """(positions in the log, R + 1 edges): each row's last `n` selected events, oldest first."""
        sums = self._sum(Tally(selection))
        match = self._keyed.order[np.flatnonzero(np.diff(sums))]
        last = sums[self._upper].astype(np.int64)
        length = self._whole(np.minimum(last - sums[self._start], n), 0)
        edges = np.zeros(len(length) + 1, np.int64)
        np.cumsum(length, out=edges[1:])
        at = np.repeat(last - length - edges[:-1], length) + np.arange(edges[-1])
        return match[at], edges

    def _cell(self, match: NDArray[np.intp], nth: Ints, any_R: NDArray[np.bool_], column_E: Ints) -> Ints:
        cell = np.full(len(nth), EMPTY, np.int64)
        cell[any_R] = column_E[self._keyed.order[match[nth[any_R]]]]
        return self._whole(cell, EMPTY)

    def _whole(self, column: Ints, null: int) -> Ints:
        if self._null_R is not None:
            column[self._null_R] = null
        return column

    @cached_property
    def _upper(self) -> NDArray[np.intp]:
        return self._edge(0, 0)

    @cached_property
    def _start(self) -> NDArray[np.intp]:
        return self._locate(np.zeros(len(self._edges.t_R), np.int64))

    def _edge(self, hop: int, back: int) -> NDArray[np.intp]:
        if (hop, back) not in self._found:
            self._found[hop, back] = self._locate(self._edges.at(hop, back))
        return self._found[hop, back]

    def _locate(self, before_R: Ints) -> NDArray[np.intp]:
        found = np.empty(len(before_R), np.intp)
        found[self._sorted] = self._keyed.find(before_R, self._sorted)
        return found

    def _sum(self, tally: Tally | ActiveTally) -> Ints:
        if tally not in self._sums:
            self._sums[tally] = _cumulative(self._increments(tally))
        return self._sums[tally]

    def _increments(self, tally: Tally | ActiveTally) -> NDArray[Any]:
        order = self._keyed.order
        if isinstance(tally, ActiveTally):
            moved: Ints = self._moves[tally.event][order]
            return moved
        chosen: NDArray[Any] = self._log.mask(tally.selection)
        if tally.of == "value":
            chosen = np.where(chosen, self._log.values[0], 0)
        elif tally.of == "valued":
            chosen = chosen & self._log.values[1]
        steps: NDArray[Any] = chosen[order]
        return steps


def relation_moves(log: BatchLog, event: str, undone_by: str | None, entity: str) -> Ints:
    """+1 at each event that begins a relation (user, object), -1 at each that ends one, else 0.

    A repeated do and an undo of nothing are 0: what counts is whether the last do or undo before was a do.
    """
    moves = np.zeros(len(log), np.int64)
    user, other = log.keys["user"], log.keys[entity]
    do = log.of_type(event)
    rows = np.flatnonzero((do | (log.of_type(undone_by) if undone_by else False)) & (user >= 0) & (other >= 0))
    if len(rows) == 0:
        return moves
    order = rows[np.lexsort((rows, other[rows], user[rows]))]
    same = np.zeros(len(order), np.bool_)
    same[1:] = (user[order][1:] == user[order][:-1]) & (other[order][1:] == other[order][:-1])
    did = do[order]
    before = np.zeros(len(order), np.bool_)
    before[1:] = did[:-1] & same[1:]
    moves[order] = did.astype(np.int64) - before
    return moves


def _cumulative(increments: NDArray[np.generic]) -> Ints:
    sums = np.zeros(len(increments) + 1, np.int64)
    np.cumsum(increments, out=sums[1:])
    return sums


def _codes(keys_E: Sequence[Ints], keys_R: Sequence[Ints], bits: int) -> tuple[Ints | None, Ints]:
    """One integer per key tuple, alike for events and rows; None when it would not fit `bits`."""
    code_E, code_R, size = keys_E[0], keys_R[0], _size(keys_E[0], keys_R[0])
    for of_events, of_rows in zip(keys_E[1:], keys_R[1:], strict=True):
        width = _size(of_events, of_rows)
        code_E, code_R, size = code_E * width + of_events, code_R * width + of_rows, size * width
    return (code_E if size.bit_length() <= bits else None), code_R


def _size(keys_E: Ints, keys_R: Ints) -> int:
    return 1 + max(int(keys_E.max(initial=0)), int(keys_R.max(initial=0)))


def _dense(keys_E: Sequence[Ints], rows: Ints, keys_R: Sequence[Ints]) -> tuple[Ints, Ints, Ints]:
    """Codes numbered over the frame's own tuples; events of other tuples are left out."""
    code_E, code_R = np.zeros(len(rows), np.int64), np.zeros(len(keys_R[0]), np.int64)
    kept = np.ones(len(rows), np.bool_)
    for of_events, of_rows in zip(keys_E, keys_R, strict=True):
        nth, known = _rank(of_events, of_rows)
        kept &= known[nth] == of_events
        # Renumbered after each entity, so that the product never leaves 63 bits.
        code_R = code_R * len(known) + np.searchsorted(known, of_rows)
        wide_E = code_E * len(known) + nth
        code_E, codes = _rank(wide_E, code_R)
        kept &= codes[code_E] == wide_E
        code_R = np.searchsorted(codes, code_R)
    return code_E[kept], rows[kept], code_R


def _rank(of_events: Ints, of_rows: Ints) -> tuple[Ints, Ints]:
    known = np.unique(of_rows) if len(of_rows) else np.zeros(1, np.int64)
    return np.minimum(np.searchsorted(known, of_events), len(known) - 1), known

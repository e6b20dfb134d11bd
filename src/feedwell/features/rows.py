"""FactRows: N packed rows of one view, read together: every window of every row from one bisection.

N rows, Q = (row, window) questions
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feedwell.features.hops import DECAY_HALF_LIVES, decay_tiles, hop_of
from feedwell.features.layout import FactsLayout, Words, join_words, spans
from feedwell.features.measures import Decayed, LastValue, Measure, Moment, Tally, Windowed


class FactRows:
    """What the rows say at t, measure by measure."""

    def __init__(self, layout: FactsLayout, rows: Sequence[bytes], t: int) -> None:
        self._layout, self._t = layout, t
        self._words, edges = join_words(rows)
        self._start_N = edges[:-1]
        self._tally = {tally: i for i, tally in enumerate(layout.view.tallies)}
        self._hop = {tiles.hop: h for h, tiles in enumerate(layout.view.tiles)}
        self._lower: dict[int, Words] = {}
        if layout.view.tiles:
            self._find_tiles()

    def prepare(self, measures: Sequence[Measure]) -> None:
        """Finds the lower edges of all windows of `measures` in one bisection."""
        windows = sorted({m.window for m in measures if isinstance(m, Windowed) and m.window is not None})
        if not windows:
            return
        hops = [self._hop[hop_of(w)] for w in windows]
        target_W = np.array([self._t // hop_of(w) - w // hop_of(w) for w in windows], np.int64)
        base_Q = np.concatenate([self._tile_NH[:, h] for h in hops])
        n_Q = np.concatenate([self._n_NH[:, h] for h in hops])
        stride_Q = np.repeat(self._layout.strides[hops], len(self._start_N))
        entry_Q = _before(self._words, base_Q, n_Q, stride_Q, np.repeat(target_W, len(self._start_N)))
        for window, entry_N in zip(windows, np.split(entry_Q, len(windows)), strict=True):
            self._lower[window] = entry_N

    def read(self, measure: Measure) -> NDArray[np.generic]:
        """One measure's column; `prepare` must have seen it."""
        match measure:
            case Windowed():
                return self._windowed(measure)
            case Decayed():
                return self._decayed(measure.tally, measure.half_life)
            case Moment():
                return self._cell(self._layout.moments + self._layout.view.moments.index(measure))
            case LastValue():
                return self._cell(self._layout.last_values + self._layout.view.last_values.index(measure))
            case _:
                raise TypeError(f"{measure} is not kept in rows of facts")

    def _find_tiles(self) -> None:
        H = self._layout.totals
        self._n_NH = self._words[self._start_N[:, None] + np.arange(H)]
        sizes_NH = self._n_NH * self._layout.strides
        before_NH = np.cumsum(sizes_NH, axis=1) - sizes_NH
        self._tile_NH = before_NH + (self._start_N + self._layout.fixed)[:, None]

    def _cell(self, at: int) -> Words:
        return self._words[self._start_N + at]

    def _windowed(self, measure: Windowed) -> Words:
        i = self._tally[measure.tally]
        total_N = self._cell(self._layout.totals + i)
        if measure.window is None:
            return total_N
        h = self._hop[hop_of(measure.window)]
        column = 1 + self._layout.view.tiles[h].tallies.index(i)
        entry_N = self._lower[measure.window]
        lower_N = np.where(entry_N < 0, 0, self._words[np.maximum(entry_N, 0) + column])
        return total_N - lower_N

    def _decayed(self, tally: Tally, half_life: int) -> NDArray[np.float64]:
        hop = hop_of(DECAY_HALF_LIVES * half_life)
        h = self._hop[hop]
        column = 1 + self._layout.view.tiles[h].tallies.index(self._tally[tally])
        n_N, stride = self._n_NH[:, h], int(self._layout.strides[h])
        row_X = np.repeat(np.arange(len(n_N)), n_N)
        at_X = np.repeat(self._tile_NH[:, h], n_N) + spans(np.zeros(len(n_N), np.int64), n_N) * stride
        tile_X, sum_X = self._words[at_X], self._words[at_X + column]
        count_X = sum_X.copy()
        count_X[1:] -= np.where(row_X[1:] == row_X[:-1], sum_X[:-1], 0)
        ago_X = self._t // hop - tile_X
        # Oldest first, always: a fixed order of a float sum. A row's first entry is only a base where it is out of reach.
        weight_X = np.where(ago_X <= decay_tiles(half_life), count_X * np.exp2(-ago_X * (hop / half_life)), 0.0)
        return np.bincount(row_X, weights=weight_X, minlength=len(n_N))


def _before(words: Words, base_Q: Words, n_Q: Words, stride_Q: Words, target_Q: Words) -> Words:
    """Where the last tile before `target_Q` begins, among the n_Q tiles from base_Q on; -1 where there is none."""
    low, high = np.zeros(len(base_Q), np.int64), n_Q.copy()
    if len(words) == 0:
        return low - 1
    for _ in range(int(n_Q.max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        open_Q = low < high
        # A closed question's middle may stand behind the last tile; any word does there.
        tile = words[np.minimum(base_Q + middle * stride_Q, len(words) - 1)]
        earlier = (tile < target_Q) & open_Q
        low = np.where(earlier, middle + 1, low)
        high = np.where(earlier | ~open_Q, high, middle)
    return np.where(low > 0, base_Q + (low - 1) * stride_Q, -1)

"""Reading N packed rows of one view together: every window of every row from one bisection.

N rows, P windowed measures, W distinct windows, Q = W × N questions
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from feedwell.features.hops import DECAY_HALF_LIVES, decay_tiles, hop_of
from feedwell.features.layout import FactsLayout, Words, facts_layout, join_words, spans
from feedwell.features.measures import Decayed, LastValue, Measure, Moment, Windowed
from feedwell.features.views import Facts

Column = NDArray[np.int64] | NDArray[np.float64]


@dataclass(kw_only=True)
class RowPlan:
    """Where each measure of a view stands in its rows, looked up once so that a request computes on positions only."""

    layout: FactsLayout
    n_measures: int
    hop_W: Words
    tiles_W: Words
    hop_at_W: Words
    window_P: Words
    tally_P: Words
    column_P: Words
    windowed: list[int] = field(default_factory=list)
    fixed: list[tuple[int, int]] = field(default_factory=list)
    """(measure, word) of all that stands at a fixed place: totals, moments, last values"""
    decayed: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(measure, half-life, place of its hop, column in the tile)"""


def plan_rows(view: Facts, measures: Sequence[Measure]) -> RowPlan:
    """The plan that `read_rows` follows; its results come in the order of `measures`."""
    layout = facts_layout(view)
    tally_at = {tally: i for i, tally in enumerate(view.tallies)}
    hop_at = {tiles.hop: h for h, tiles in enumerate(view.tiles)}
    windows = sorted({m.window for m in measures if isinstance(m, Windowed) and m.window is not None})
    hops = [hop_of(w) for w in windows]
    windowed: list[tuple[int, int, int, int]] = []
    fixed, decayed = [], []
    for at, measure in enumerate(measures):
        match measure:
            case Windowed(tally=tally, window=None):
                fixed.append((at, layout.totals + tally_at[tally]))
            case Windowed(tally=tally, window=int(window)):
                chosen = view.tiles[hop_at[hop_of(window)]].tallies
                windowed.append((at, windows.index(window), tally_at[tally], 1 + chosen.index(tally_at[tally])))
            case Decayed(tally=tally, half_life=half_life):
                h = hop_at[hop_of(DECAY_HALF_LIVES * half_life)]
                decayed.append((at, half_life, h, 1 + view.tiles[h].tallies.index(tally_at[tally])))
            case Moment():
                fixed.append((at, layout.moments + view.moments.index(measure)))
            case LastValue():
                fixed.append((at, layout.last_values + view.last_values.index(measure)))
            case _:
                raise TypeError(f"{measure} is not kept in rows of facts")
    columns = np.array(windowed, np.int64).reshape(-1, 4)
    return RowPlan(
        layout=layout,
        n_measures=len(measures),
        hop_W=np.array(hops, np.int64),
        tiles_W=np.array([w // hop for w, hop in zip(windows, hops, strict=True)], np.int64),
        hop_at_W=np.array([hop_at[hop] for hop in hops], np.int64),
        window_P=columns[:, 1],
        tally_P=columns[:, 2] + layout.totals,
        column_P=columns[:, 3],
        windowed=columns[:, 0].tolist(),
        fixed=fixed,
        decayed=decayed,
    )


def read_rows(plan: RowPlan, rows: Sequence[bytes], t: int) -> list[Column]:
    """One column over N per measure of the plan: int64 facts, float64 for decayed ones."""
    words, edges = join_words(rows)
    start_N = edges[:-1]
    found: list[Column] = [start_N] * plan.n_measures
    fixed_FN = words[np.arange(plan.layout.fixed)[:, None] + start_N]
    for at, word in plan.fixed:
        found[at] = fixed_FN[word]
    if plan.layout.totals == 0:
        return found
    n_HN = fixed_FN[: plan.layout.totals]
    sizes_HN = n_HN * plan.layout.strides[:, None]
    tile_HN = np.cumsum(sizes_HN, axis=0) - sizes_HN + start_N + plan.layout.fixed
    if plan.windowed:
        value_PN = _windowed(plan, words, fixed_FN, n_HN, tile_HN, t)
        for p, at in enumerate(plan.windowed):
            found[at] = value_PN[p]
    for at, half_life, h, column in plan.decayed:
        found[at] = _decayed(words, n_HN[h], tile_HN[h], int(plan.layout.strides[h]), column, half_life, t)
    return found


def _windowed(plan: RowPlan, words: Words, fixed_FN: Words, n_HN: Words, tile_HN: Words, t: int) -> Words:
    """Totals less what had come before each lower edge, [P, N]."""
    target_W = t // plan.hop_W - plan.tiles_W
    stride_W = plan.layout.strides[plan.hop_at_W]
    entry_WN = _before(words, tile_HN[plan.hop_at_W], n_HN[plan.hop_at_W], stride_W[:, None], target_W[:, None])
    entry_PN = entry_WN[plan.window_P]
    # A negative entry picks any word; it is not used.
    lower_PN = words[np.maximum(entry_PN, 0) + plan.column_P[:, None]]
    lower_PN[entry_PN < 0] = 0
    value_PN: Words = fixed_FN[plan.tally_P] - lower_PN
    return value_PN


def _before(words: Words, base_WN: Words, n_WN: Words, stride_W1: Words, target_W1: Words) -> Words:
    """Where the last tile before the target begins, among the n tiles from base on; -1 where there is none."""
    count_WN = np.zeros_like(n_WN)
    step = 1 << max(0, int(n_WN.max(initial=0)).bit_length() - 1)
    # A binary search by halving steps needs no bounds but `count + step <= n`; padded words would cost a copy.
    last = len(words) - 1
    while step:
        tried_WN = count_WN + step
        tile_WN = words[np.minimum(base_WN + (tried_WN - 1) * stride_W1, last)]
        count_WN += step * ((tried_WN <= n_WN) & (tile_WN < target_W1))
        step >>= 1
    return np.where(count_WN > 0, base_WN + (count_WN - 1) * stride_W1, -1)


def _decayed(
    words: Words, n_N: Words, tile_N: Words, stride: int, column: int, half_life: int, t: int
) -> NDArray[np.float64]:
    hop = hop_of(DECAY_HALF_LIVES * half_life)
    row_X = np.repeat(np.arange(len(n_N)), n_N)
    at_X = np.repeat(tile_N, n_N) + spans(np.zeros(len(n_N), np.int64), n_N) * stride
    tile_X, sum_X = words[at_X], words[at_X + column]
    count_X = sum_X.copy()
    count_X[1:] -= np.where(row_X[1:] == row_X[:-1], sum_X[:-1], 0)
    ago_X = t // hop - tile_X
    # Oldest first, always: a fixed order of a float sum. A row's first entry is only a base where it is out of reach.
    weight_X = np.where(ago_X <= decay_tiles(half_life), count_X * np.exp2(-ago_X * (hop / half_life)), 0.0)
    return np.bincount(row_X, weights=weight_X, minlength=len(n_N)).astype(np.float64, copy=False)

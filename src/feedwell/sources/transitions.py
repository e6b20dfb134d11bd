"""What comes next: an item-transition counter, the baseline that every sequence model must beat.

E events, B requests, L history, I items of the model, M expanded (request, item) pairs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from feedwell.core.candidates import Float, Retrieved
from feedwell.core.errors import NotTrained
from feedwell.core.keys import avoided, rows_of, union
from feedwell.core.needs import HistoryNeed, Need
from feedwell.core.protocols import Examples, Interactions, Setting, fit, serve
from feedwell.core.registry import source
from feedwell.core.request import NO_KEYS, Keys, Request
from feedwell.sources._source import NOTHING, SourceConfig, best_of, positive_events, wanted
from feedwell.stores.arrays import load_arrays, save_arrays

_FILE = "transitions.safetensors"
_NAMES = ("keys", "indptr", "indices", "weights", "counts")
_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class _Model:
    """CSR over I × I of weighted counts "from row to column"; `counts_I` how often each item occurred."""

    keys_I: Keys
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]
    counts_I: NDArray[np.int64]
    popular_I: NDArray[np.intp]
    """Rows, most frequent first, ties by smaller key."""
    rank_I: NDArray[np.intp]
    """The place of each row in `popular_I`."""


@source("transitions")
class Transitions:
    """The `k` items that most often followed the user's last ones.

    score(j) = Σ_d count(h_d → j) / d over the last `history` items h_d, d = 1 the newest; count(i → j) adds
    1 / distance for each j at most `window` places after i in one user's sequence; i → i is not counted. Ties: the more
    popular first. Where fewer than `k` ever followed, popularity fills up with score 0 (`fill`); a user of whom no
    item is known gets nothing. Cost: the neighbours of `history` rows.
    """

    examples: ClassVar[Examples] = ({}, {"window": 1, "neighbours": 2, "history": 8, "fill": False})

    class Config(SourceConfig):
        events: tuple[str, ...] = fit(())
        """Default: every type but undoing ones and those of a `down` objective."""
        window: int = fit(3, ge=1, le=100)
        neighbours: int = fit(1000, ge=1)
        """At most so many successors are kept of an item, the strongest: the memory is bounded by items × this."""
        history: int = serve(3, ge=1, le=512)
        fill: bool = serve(True)

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._setting = setting
        self._events = positive_events(config.events, setting)
        self._need = HistoryNeed(self._events, config.history)
        self._model: _Model | None = None

    @property
    def needs(self) -> tuple[Need, ...]:
        return (self._need,)

    def __call__(self, request: Request) -> Retrieved:
        return self._retrieve(self._trained(), [request])[0]

    def batch(self, requests: Sequence[Request]) -> list[Retrieved]:
        model = self._trained()
        found: list[Retrieved] = []
        for at in range(0, len(requests), _BATCH):
            found += self._retrieve(model, requests[at : at + _BATCH])
        return found

    def fit(self, data: Interactions) -> None:
        events = data.of(self._events)
        keys_I, row_E = np.unique(events.item_E, return_inverse=True)
        by_user = np.argsort(events.user_E, kind="stable")
        pairs = _count_pairs(events.user_E[by_user], row_E[by_user], len(keys_I), self.config.window)
        pairs = _strongest(pairs, self.config.neighbours)
        self._model = _model(keys_I, pairs.indptr, pairs.indices, pairs.data, np.bincount(row_E, minlength=len(keys_I)))

    def save(self, folder: Path) -> None:
        model = self._trained()
        arrays = (model.keys_I, model.indptr, model.indices, model.weights, model.counts_I)
        save_arrays(folder / _FILE, dict(zip(_NAMES, arrays, strict=True)))

    def load(self, folder: Path) -> None:
        arrays = load_arrays(folder / _FILE, _NAMES)
        self._model = _model(*(arrays[name] for name in _NAMES))

    def _trained(self) -> _Model:
        if self._model is None:
            raise NotTrained.of(self._setting.name)
        return self._model

    def _retrieve(self, model: _Model, requests: Sequence[Request]) -> list[Retrieved]:
        avoid_B = [avoided(request) for request in requests]
        request_E, row_E, weight_E = self._history_rows(model, requests)
        known_B = np.bincount(request_E, minlength=len(requests)) > 0
        request_M, row_M, score_M = _score(model, request_E, row_E, weight_E)
        n_items = len(model.keys_I)
        if len(row_M):
            banned = _codes([rows_of(model.keys_I, avoid) for avoid in avoid_B], n_items)
            keep_M = rows_of(banned, request_M * n_items + row_M) < 0
            request_M, row_M, score_M = request_M[keep_M], row_M[keep_M], score_M[keep_M]
        best_first = np.lexsort((model.rank_I[row_M], -score_M, request_M))
        keys_M, score_M = model.keys_I[row_M[best_first]], score_M[best_first]
        edges = np.searchsorted(request_M[best_first], np.arange(len(requests) + 1))
        return [
            self._filled(model, keys_M[a:b], score_M[a:b], avoid_B[i], wanted(requests[i], self.config.k))
            if known_B[i]
            else NOTHING
            for i, (a, b) in enumerate(pairwise(edges))
        ]

    def _history_rows(
        self, model: _Model, requests: Sequence[Request]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], Float]:
        """(request, row, weight) of every known history item, newest first within a request."""
        lists = [_newest(request, self._need) for request in requests]
        lengths = np.array([len(keys) for keys in lists], np.intp)
        request_E = np.repeat(np.arange(len(requests)), lengths)
        starts = np.cumsum(lengths) - lengths
        distance_E = np.arange(len(request_E)) - np.repeat(starts, lengths) + 1
        row_E = rows_of(model.keys_I, np.concatenate(lists)) if lists else np.empty(0, np.intp)
        known = row_E >= 0
        return request_E[known], row_E[known], 1.0 / distance_E[known]

    def _filled(self, model: _Model, keys_N: Keys, scores_N: Float, avoid: Keys, k: int) -> Retrieved:
        keys_N, scores_N = keys_N[:k], scores_N[:k]
        missing = k - len(keys_N)
        if not missing or not self.config.fill:
            return Retrieved(keys_N=keys_N, scores_N=scores_N)
        reach = missing + len(avoid) + len(keys_N)
        popular = model.keys_I[model.popular_I[:reach]]
        rest = best_of(popular, np.zeros(len(popular)), union(avoid, keys_N), missing)
        return Retrieved(
            keys_N=np.concatenate([keys_N, rest.keys_N]), scores_N=np.concatenate([scores_N, rest.scores_N])
        )


def _newest(request: Request, need: HistoryNeed) -> Keys:
    history = request.side.histories.get(need)
    return NO_KEYS if history is None else history.keys_L[::-1][: need.n]


def _count_pairs(user_E: Keys, row_E: NDArray[np.intp], n_items: int, window: int) -> csr_array:
    """CSR I × I of Σ 1 / d over pairs of one user that stand d ≤ window apart; rows grouped by user, in order."""
    pairs = csr_array((n_items, n_items), dtype=np.float64)
    for d in range(1, window + 1):
        together = (user_E[:-d] == user_E[d:]) & (row_E[:-d] != row_E[d:])
        a, b = row_E[:-d][together], row_E[d:][together]
        pairs = pairs + coo_array((np.full(len(a), 1.0 / d), (a, b)), shape=(n_items, n_items)).tocsr()
    return pairs


def _strongest(pairs: csr_array, per_row: int) -> csr_array:
    """The same with at most `per_row` entries a row: the greatest, ties by smaller column."""
    n_R = np.diff(pairs.indptr)
    if not len(n_R) or n_R.max() <= per_row:
        return pairs
    row_M = np.repeat(np.arange(len(n_R)), n_R)
    order = np.lexsort((pairs.indices, -pairs.data, row_M))
    place = np.arange(len(order)) - np.repeat(pairs.indptr[:-1], n_R)
    kept = np.sort(order[place < per_row])
    return coo_array((pairs.data[kept], (row_M[kept], pairs.indices[kept])), shape=pairs.shape).tocsr()


def _model(keys_I: NDArray, indptr: NDArray, indices: NDArray, weights: NDArray, counts_I: NDArray) -> _Model:  # type: ignore[type-arg]
    popular_I = np.lexsort((keys_I, -counts_I.astype(np.int64)))
    rank_I = np.empty(len(popular_I), np.intp)
    rank_I[popular_I] = np.arange(len(popular_I))
    return _Model(
        keys_I=keys_I.astype(np.int64),
        indptr=indptr.astype(np.int64),
        indices=indices.astype(np.int32),
        weights=weights.astype(np.float32),
        counts_I=counts_I.astype(np.int64),
        popular_I=popular_I,
        rank_I=rank_I,
    )


def _score(
    model: _Model, request_E: NDArray[np.intp], row_E: NDArray[np.intp], weight_E: Float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Float]:
    """(request, row, score) of every item that follows a history item, one entry per pair."""
    start_E = model.indptr[row_E]
    n_E = model.indptr[row_E + 1] - start_E
    at_M = np.repeat(start_E - (np.cumsum(n_E) - n_E), n_E) + np.arange(n_E.sum())
    code_M = np.repeat(request_E * len(model.keys_I), n_E) + model.indices[at_M]
    part_M = np.repeat(weight_E, n_E) * model.weights[at_M]
    # A stable sort: parts are summed newest first whatever else is in the batch, so batch and single agree to the bit.
    order = np.argsort(code_M, kind="stable")
    code_M, first = np.unique(code_M[order], return_index=True)
    score_M = np.add.reduceat(part_M[order], first) if len(first) else np.empty(0)
    return code_M // len(model.keys_I), code_M % len(model.keys_I), score_M


def _codes(rows_B: Sequence[NDArray[np.intp]], n_items: int) -> Keys:
    """Sorted codes request * I + row of the known rows of each request."""
    parts = [b * n_items + rows[rows >= 0] for b, rows in enumerate(rows_B)]
    return np.concatenate(parts).astype(np.int64) if parts else NO_KEYS

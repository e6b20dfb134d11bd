"""What sources with a weight per pair of items share: all but how the weights are found.

    U users, I items, B requests, M stored weights of the items that a request's history names

A weight w_ij says what item i in a history adds to the score of item j: score(j) = Σ_i w_ij over the distinct known
items of the user's last events. Rows are kept sparse; a request costs the stored weights of its history's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from feedwell.core.candidates import Retrieved
from feedwell.core.errors import NotTrained
from feedwell.core.keys import avoided, contains, rows_of
from feedwell.core.needs import HistoryNeed, Need
from feedwell.core.protocols import Interactions, Setting, fit, serve
from feedwell.core.request import Keys, Request
from feedwell.sources._source import NOTHING, SourceConfig, best_scores, positive_events, wanted
from feedwell.stores.arrays import load_arrays, save_arrays

_NAMES = ("keys", "indptr", "indices", "weights")
_BATCH = 512


class ItemItemConfig(SourceConfig):
    events: tuple[str, ...] = fit(())
    """Default: every type but undoing ones and those of a `down` objective. Pairs count once, undone ones not."""
    user_items: int = fit(1000, ge=1)
    """Of each user the last so many distinct items: one crawler must not cost the square of its clicks."""
    history: int = serve(200, ge=1, le=512)
    """How many of the user's last events name the items that weights are added up of."""


class ItemItemSource:
    """A source that answers from `ItemWeights`; its own `fit` sets `_weights`, saved under the name `file`."""

    file: ClassVar[str]

    def __init__(self, config: ItemItemConfig, setting: Setting) -> None:
        self.config = config
        self._setting = setting
        self._events = positive_events(config.events, setting)
        self._need = HistoryNeed(self._events, config.history)
        self._weights: ItemWeights | None = None

    @property
    def needs(self) -> tuple[Need, ...]:
        return (self._need,)

    def __call__(self, request: Request) -> Retrieved:
        return self.batch([request])[0]

    def batch(self, requests: Sequence[Request]) -> list[Retrieved]:
        return self._trained().answer(requests, self._need, self.config.k)

    def save(self, folder: Path) -> None:
        self._trained().save(folder / self.file)

    def load(self, folder: Path) -> None:
        self._weights = ItemWeights.load(folder / self.file)

    def _trained(self) -> ItemWeights:
        if self._weights is None:
            raise NotTrained.of(self._setting.name)
        return self._weights


@dataclass(frozen=True, kw_only=True)
class Incidence:
    """Who has what: `has_UI` CSR of ones; column i is item `keys_I[i]`."""

    has_UI: csr_array
    keys_I: Keys

    @staticmethod
    def of(events: Interactions, per_user: int, most_items: int | None = None) -> Incidence:
        """Each pair once, undone ones not; of a user the last `per_user` pairs, so that nobody costs their square;
        of the items the `most_items` with the most users (ties: smaller key)."""
        kept_E = np.ones(len(events.user_E), np.bool_) if events.undone_E is None else ~events.undone_E
        _, user_E = np.unique(events.user_E[kept_E], return_inverse=True)
        keys_I, item_E = np.unique(events.item_E[kept_E], return_inverse=True)
        # The last time of each pair, newest first: np.unique of the reversed codes finds it.
        code_P, last_P = np.unique((user_E * max(1, len(keys_I)) + item_E)[::-1], return_index=True)
        user_P, item_P = np.divmod(code_P, max(1, len(keys_I)))
        newest_first = np.lexsort((last_P, user_P))
        user_P, item_P = user_P[newest_first], item_P[newest_first]
        n_U = np.bincount(user_P)
        place_P = np.arange(len(user_P)) - np.repeat(np.cumsum(n_U) - n_U, n_U)
        user_P, item_P = user_P[place_P < per_user], item_P[place_P < per_user]
        if most_items is not None and len(keys_I) > most_items:
            n_I = np.bincount(item_P, minlength=len(keys_I))
            row_N = np.sort(np.lexsort((keys_I, -n_I))[:most_items])
            at_P = rows_of(row_N, item_P)
            user_P, item_P, keys_I = user_P[at_P >= 0], at_P[at_P >= 0], keys_I[row_N]
        ones = np.ones(len(user_P), np.float32)
        has_UI = csr_array((ones, (user_P, item_P)), shape=(len(n_U), len(keys_I)))
        return Incidence(has_UI=has_UI, keys_I=keys_I.astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class ItemWeights:
    """CSR over I × I of w_ij, row i the item of the history."""

    keys_I: Keys
    rows: csr_array

    @staticmethod
    def of(keys_I: Keys, parts: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]]) -> ItemWeights:
        """From the (columns, weights) of every row."""
        indptr = np.cumsum([0, *(len(columns) for columns, _ in parts)])
        indices = np.concatenate([columns for columns, _ in parts]) if parts else np.empty(0, np.int32)
        weights = np.concatenate([w for _, w in parts]) if parts else np.empty(0, np.float32)
        return ItemWeights(keys_I=keys_I, rows=_csr(len(keys_I), indptr, indices, weights))

    def save(self, path: Path) -> None:
        arrays = (self.keys_I, self.rows.indptr, self.rows.indices, self.rows.data)
        save_arrays(path, dict(zip(_NAMES, arrays, strict=True)))

    @staticmethod
    def load(path: Path) -> ItemWeights:
        arrays = load_arrays(path, _NAMES)
        keys_I = arrays["keys"].astype(np.int64)
        return ItemWeights(keys_I=keys_I, rows=_csr(len(keys_I), *(arrays[name] for name in _NAMES[1:])))

    def answer(self, requests: Sequence[Request], need: HistoryNeed, k: int) -> list[Retrieved]:
        """The `k` items of greatest positive score for each request; none where no item of the history is known."""
        found: list[Retrieved] = []
        # Indices of another width than the weights' make the product convert all weights: 8 ms a request, not 0.15.
        width = self.rows.indices.dtype
        for at in range(0, len(requests), _BATCH):
            part = requests[at : at + _BATCH]
            lists = [self._known(request, need) for request in part]
            indptr = np.cumsum([0, *map(len, lists)], dtype=width)
            ones, items = np.ones(int(indptr[-1]), np.float32), np.concatenate(lists).astype(width)
            has_BI = csr_array((ones, items, indptr), shape=(len(part), len(self.keys_I)))
            scores_BM = has_BI @ self.rows
            for b, request in enumerate(part):
                row = slice(scores_BM.indptr[b], scores_BM.indptr[b + 1])
                found.append(self._best(request, scores_BM.indices[row], scores_BM.data[row], k))
        return found

    def _known(self, request: Request, need: HistoryNeed) -> NDArray[np.intp]:
        history = request.side.histories.get(need)
        if history is None:
            return np.empty(0, np.intp)
        row_L = rows_of(self.keys_I, np.unique(history.keys_L[-need.n :]))
        return row_L[row_L >= 0]

    def _best(self, request: Request, item_M: NDArray[np.int32], score_M: NDArray[np.float32], k: int) -> Retrieved:
        keys_M = self.keys_I[item_M]
        keep_M = (score_M > 0) & ~contains(avoided(request), keys_M)
        if not keep_M.any():
            return NOTHING
        return best_scores(keys_M[keep_M], score_M[keep_M], wanted(request, k))


def strongest(strength_M: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    """The places of the `n` greatest strengths above 0, ascending; ties by smaller place."""
    place_N = np.flatnonzero(strength_M > 0)
    if len(place_N) <= n:
        return place_N
    least = np.partition(strength_M, -n)[-n]
    above = strength_M > least
    ties = np.flatnonzero(strength_M == least)[: n - int(above.sum())]
    above[ties] = True
    return np.flatnonzero(above)


def _csr(n_items: int, indptr: NDArray, indices: NDArray, weights: NDArray) -> csr_array:  # type: ignore[type-arg]
    # Weights are read-only where they come from an artifact: scipy shares them.
    narrow = np.int32 if len(indices) < 2**31 else np.int64
    shape = (n_items, n_items)
    return csr_array((weights.astype(np.float32), indices.astype(narrow), indptr.astype(narrow)), shape=shape)

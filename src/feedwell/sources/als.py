"""What similar tastes chose: matrix factorisation for implicit feedback by alternating least squares.

    U users, I items, D embedding, B users of one chunk, L their longest history

Hu, Koren and Volinsky (2008), with the loss and the practice of Rendle, Krichene, Zhang and Koren (2022, "Revisiting
the Performance of iALS on Item Recommendation Benchmarks"): every pair weighs `unobserved_weight`, observed ones 1
more, and the regularisation of a row grows with how often it occurs. User vectors are not kept: one is computed per
request from the user's history by the same normal equations, so a user who came after training is served like others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from feedwell.core.candidates import Retrieved
from feedwell.core.errors import NotTrained
from feedwell.core.keys import avoided, rows_of
from feedwell.core.needs import HistoryNeed, Need
from feedwell.core.protocols import Examples, Interactions, Setting, fit, serve
from feedwell.core.registry import source
from feedwell.core.request import NO_KEYS, Keys, Request
from feedwell.core.rng import stream
from feedwell.sources._source import NOTHING, SourceConfig, best_scores, positive_events, wanted
from feedwell.stores.arrays import load_arrays, save_arrays

Matrix = NDArray[np.float32]
_FILE = "als.safetensors"
_CHUNK_FLOATS = 2_000_000
_BATCH = 512
_UNOBSERVED_PER_OBSERVED, _MOST_UNOBSERVED = 10.0, 0.1


@dataclass(frozen=True, kw_only=True)
class _Side:
    """The rows that a factor is solved for, as CSR lists of the other side's rows; `lengths` are their counts."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.intp]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.indptr)


@dataclass(frozen=True, kw_only=True)
class _Basis:
    """A factor turned into the eigenbasis of its Gram matrix, where α₀ HᵀH + λI is diagonal for every λ.

    `rotated` is H Q with a row of zeros added, `eigen_D` the eigenvalues of HᵀH, `turn_DD` is Q, `unobserved` is α₀.
    """

    rotated: Matrix
    eigen_D: Matrix
    turn_DD: Matrix
    unobserved: float

    @staticmethod
    def of(factor: Matrix, unobserved: float) -> _Basis:
        eigen_D, turn_DD = np.linalg.eigh(factor.T.astype(np.float64) @ factor)
        rotated = np.zeros((len(factor) + 1, factor.shape[1]), np.float32)
        rotated[:-1] = factor @ turn_DD.astype(np.float32)
        return _Basis(
            rotated=rotated,
            eigen_D=np.maximum(eigen_D, 0.0).astype(np.float32),
            turn_DD=turn_DD.astype(np.float32),
            unobserved=unobserved,
        )


@source("als")
class Als:
    """The `k` items with the greatest ⟨user vector, item vector⟩, which are the scores; no known history: nothing.

    A request costs one solve of min(history, D) unknowns and I × D multiplications.
    """

    examples: ClassVar[Examples] = ({"epochs": 2, "embedding_dim": 4}, {"epochs": 1, "embedding_dim": 32, "history": 3})

    class Config(SourceConfig):
        events: tuple[str, ...] = fit(())
        """Default: every type but undoing ones and those of a `down` objective. Pairs count once, undone ones not."""
        embedding_dim: int = fit(64, ge=1, le=2048)
        epochs: int = fit(12, ge=1, le=1000)
        regularization: float = fit(0.003, gt=0)
        unobserved_weight: float | None = fit(None, gt=0)
        """α₀. Default: 10 times the share of all pairs that is observed, 0.1 at most; with more, what nobody touched in
        a large catalog outweighs the little that a user did."""
        frequency_exponent: float = fit(1.0, ge=0, le=1)
        """ν: a row's regularisation is λ (observed + α₀ × all others)^ν."""
        history: int = serve(200, ge=1, le=512)

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._setting = setting
        self._events = positive_events(config.events, setting)
        self._need = HistoryNeed(self._events, config.history)
        self._keys_I: Keys = NO_KEYS
        self._items: Matrix | None = None
        self._basis: _Basis | None = None

    @property
    def needs(self) -> tuple[Need, ...]:
        return (self._need,)

    def __call__(self, request: Request) -> Retrieved:
        items, basis = self._trained()
        row_L = self._known(request)
        if not len(row_L):
            return NOTHING
        one = _Side(indptr=np.array([0, len(row_L)]), indices=row_L)
        return self._best(request, items @ self._solve(one, basis)[0])

    def batch(self, requests: Sequence[Request]) -> list[Retrieved]:
        items, basis = self._trained()
        found: list[Retrieved] = []
        for at in range(0, len(requests), _BATCH):
            part = requests[at : at + _BATCH]
            rows = [self._known(request) for request in part]
            side = _Side(indptr=np.cumsum([0, *map(len, rows)]), indices=np.concatenate(rows))
            with threadpool_limits(limits=1, user_api="blas"):
                scores_BI = self._solve(side, basis) @ items.T
            found += [
                self._best(request, scores_I) if len(row_L) else NOTHING
                for request, row_L, scores_I in zip(part, rows, scores_BI, strict=True)
            ]
        return found

    def fit(self, data: Interactions) -> None:
        events = data.of(self._events)
        kept_E = np.ones(len(events.user_E), np.bool_) if events.undone_E is None else ~events.undone_E
        users, user_E = np.unique(events.user_E[kept_E], return_inverse=True)
        self._keys_I, item_E = np.unique(events.item_E[kept_E], return_inverse=True)
        pairs = np.unique(user_E * max(1, len(self._keys_I)) + item_E)
        user_E, item_E = np.divmod(pairs, max(1, len(self._keys_I)))
        by_user, by_item = _side(user_E, item_E, len(users)), _side(item_E, user_E, len(self._keys_I))
        # Thousands of small products: threads inside each one wait for each other longer than they work.
        with threadpool_limits(limits=1, user_api="blas"):
            unobserved = self._unobserved(len(pairs) / max(1, len(users) * len(self._keys_I)))
            self._set(self._alternate(by_user, by_item, unobserved), unobserved)

    def _unobserved(self, observed_share: float) -> float:
        given = self.config.unobserved_weight
        return min(_MOST_UNOBSERVED, _UNOBSERVED_PER_OBSERVED * observed_share) if given is None else given

    def _alternate(self, by_user: _Side, by_item: _Side, unobserved: float) -> Matrix:
        """The item factor after `epochs` rounds of solving users, then items."""
        dim = self.config.embedding_dim
        rng = stream(self._setting.seed, "als", self._setting.name)
        items: Matrix = (rng.standard_normal((len(by_item.lengths), dim)) * 0.1 / np.sqrt(dim)).astype(np.float32)
        for _ in range(self.config.epochs):
            user_factor = self._solve(by_user, _Basis.of(items, unobserved))
            items = self._solve(by_item, _Basis.of(user_factor, unobserved))
        return items

    def save(self, folder: Path) -> None:
        items, basis = self._trained()
        save_arrays(
            folder / _FILE, {"keys": self._keys_I, "items": items, "unobserved_weight": np.array([basis.unobserved])}
        )

    def load(self, folder: Path) -> None:
        arrays = load_arrays(folder / _FILE, ("keys", "items", "unobserved_weight"))
        self._keys_I = arrays["keys"].astype(np.int64)
        self._set(arrays["items"].astype(np.float32), float(arrays["unobserved_weight"][0]))

    def _set(self, items: Matrix, unobserved: float) -> None:
        self._items, self._basis = items, _Basis.of(items, unobserved)

    def _trained(self) -> tuple[Matrix, _Basis]:
        if self._items is None or self._basis is None:
            raise NotTrained.of(self._setting.name)
        return self._items, self._basis

    def _known(self, request: Request) -> NDArray[np.intp]:
        """The distinct rows of the user's last items, those that the model knows."""
        history = request.side.histories.get(self._need)
        if history is None:
            return np.empty(0, np.intp)
        row_L = rows_of(self._keys_I, np.unique(history.keys_L[-self.config.history :]))
        return row_L[row_L >= 0]

    def _best(self, request: Request, scores_I: Matrix) -> Retrieved:
        banned = rows_of(self._keys_I, avoided(request))
        scores_I[banned[banned >= 0]] = -np.inf
        return best_scores(self._keys_I, scores_I, wanted(request, self.config.k))

    def _solve(self, side: _Side, basis: _Basis) -> Matrix:
        """The factor of `side` given the other's: w = (α₀ HᵀH + Σ h hᵀ + λ_w I)⁻¹ Σ h, for all rows."""
        n_other = len(basis.rotated) - 1
        dim = basis.rotated.shape[1]
        n_B = side.lengths + basis.unobserved * n_other
        ridge_B = self.config.regularization * n_B**self.config.frequency_exponent
        factor: Matrix = np.zeros((len(side.lengths), dim), np.float32)
        for rows, padded_BL in _chunks(side, dim, n_other):
            diagonal_BD = basis.unobserved * basis.eigen_D + ridge_B[rows, None].astype(np.float32)
            factor[rows] = _solve_chunk(basis.rotated[padded_BL], diagonal_BD)
        return np.asarray(factor @ basis.turn_DD.T, np.float32)


def _solve_chunk(x_BLD: Matrix, diagonal_BD: Matrix) -> Matrix:
    """(diag + XᵀX)⁻¹ Xᵀ1 per row of the chunk; rows of zeros in X change nothing.

    With fewer history items than dimensions, by Woodbury: diag⁻¹ Xᵀ (I + X diag⁻¹ Xᵀ)⁻¹ 1, a system of L unknowns.
    """
    length, dim = x_BLD.shape[1:]
    if length < dim:
        scaled_BLD = x_BLD / diagonal_BD[:, None, :]
        gram_BLL: Matrix = x_BLD @ scaled_BLD.swapaxes(1, 2)
        gram_BLL[:, np.arange(length), np.arange(length)] += 1.0
        ones_BL1 = np.ones((*gram_BLL.shape[:2], 1), np.float32)
        weights_BL1 = np.linalg.solve(gram_BLL, ones_BL1)
        return np.asarray((scaled_BLD.swapaxes(1, 2) @ weights_BL1)[..., 0], np.float32)
    gram_BDD = x_BLD.swapaxes(1, 2) @ x_BLD
    gram_BDD[:, np.arange(dim), np.arange(dim)] += diagonal_BD
    return np.asarray(np.linalg.solve(gram_BDD, x_BLD.sum(axis=1)[..., None])[..., 0], np.float32)


def _side(row_E: NDArray[np.intp], other_E: NDArray[np.intp], n_rows: int) -> _Side:
    order = np.argsort(row_E, kind="stable")
    indptr = np.zeros(n_rows + 1, np.int64)
    np.cumsum(np.bincount(row_E, minlength=n_rows), out=indptr[1:])
    return _Side(indptr=indptr, indices=other_E[order])


def _chunks(side: _Side, dim: int, padding: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(rows, their lists padded to B × L) in chunks that stay near the cache; rows of like length together."""
    lengths = side.lengths
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    at = 0
    while at < len(order):
        # The widest row of a chunk is its last: shrink until the padded block fits.
        until = min(len(order), at + max(1, _CHUNK_FLOATS // (dim * min(dim, int(lengths[order[at]])))))
        while until - at > 1 and (until - at) * int(lengths[order[until - 1]]) * dim > 2 * _CHUNK_FLOATS:
            until = at + (until - at + 1) // 2
        rows = order[at:until]
        longest = int(lengths[rows[-1]])
        place_L = np.arange(longest)
        inside_BL = place_L < lengths[rows, None]
        padded_BL = np.full((len(rows), longest), padding, np.intp)
        padded_BL[inside_BL] = side.indices[(side.indptr[rows, None] + place_L)[inside_BL]]
        yield rows, padded_BL
        at = until

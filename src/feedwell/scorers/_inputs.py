"""What a neural ranker's inputs are made of, fitted once and kept in its artifact: numbers, categories, items, ages.

N rows, F numerical features, G input columns made from them, K knots, C categorical features, E events, R requests,
P pairs of a user and an item
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from feedwell.core.clock import MINUTE
from feedwell.core.keys import rows_of
from feedwell.core.protocols import Histories, RankingRows
from feedwell.core.request import Keys
from feedwell.scorers._rows import Matrix, Vocabulary

Array = NDArray[Any]
Transform = Literal["quantile", "log"]
N_AGES = 48
_KNOTS = 64
_LARGEST = 5.0


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How wide each input of a network is."""

    user_numbers: int
    item_numbers: int
    user_vocabularies: tuple[int, ...]
    item_vocabularies: tuple[int, ...]
    n_items: int
    n_types: int
    n_objectives: int
    content: int = 0


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Features → inputs of size about 1: `knots_FK` and `scores_FK` map each piecewise linearly; where `marked_F`, a
    further column says that the value is missing. A missing value is 0; a column that never varied is 0 throughout."""

    names: tuple[str, ...]
    knots_FK: NDArray[np.float64]
    scores_FK: NDArray[np.float64]
    marked_F: NDArray[np.bool_]

    @staticmethod
    def fit(x_NF: Matrix, names: Sequence[str], transform: Transform) -> Normaliser:
        """ "quantile": to the normal score of the value's mean rank; "log": sign(x) log(1 + |x|), standardised."""
        knots_FK, scores_FK = np.zeros((2, len(names), _KNOTS))
        for f in range(len(names)):
            known = x_NF[:, f][np.isfinite(x_NF[:, f])].astype(np.float64)
            if len(known) and known.min() < known.max():
                knots_FK[f], scores_FK[f] = _KNOTS_OF[transform](known)
        return Normaliser(
            names=tuple(names),
            knots_FK=knots_FK,
            scores_FK=scores_FK,
            marked_F=np.asarray((~np.isfinite(x_NF)).any(axis=0)),
        )

    @property
    def width(self) -> int:
        return len(self.names) + int(self.marked_F.sum())

    def __call__(self, x_NF: Matrix) -> Matrix:
        """float32 [N, G]."""
        out_NG = np.zeros((len(x_NF), self.width), np.float32)
        for f in range(len(self.names)):
            if self.knots_FK[f, 0] < self.knots_FK[f, -1]:
                out_NG[:, f] = np.interp(x_NF[:, f], self.knots_FK[f], self.scores_FK[f])
        missing_NF = ~np.isfinite(x_NF)
        out_NG[:, : len(self.names)][missing_NF] = 0.0
        out_NG[:, len(self.names) :] = missing_NF[:, self.marked_F]
        return out_NG


def _quantile_knots(known: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values at evenly spaced ranks, each with the normal score of the middle of all its ranks."""
    values, counts = np.unique(known, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(known)
    scores = ndtri(middle)
    if len(values) > _KNOTS:
        at = np.unique(np.searchsorted(middle, np.linspace(middle[0], middle[-1], _KNOTS)).clip(0, len(values) - 1))
        values, scores = values[at], scores[at]
    scores = (scores - np.average(scores)) if len(values) == 2 else scores
    # Repeating the last knot changes nothing and keeps the columns of one length.
    rest = _KNOTS - len(values)
    return np.append(values, np.full(rest, values[-1])), np.append(scores, np.full(rest, scores[-1]))


def _log_knots(known: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The logarithm between the least and the greatest value as straight pieces, standardised."""
    tamed = np.sign(known) * np.log1p(np.abs(known))
    even = np.linspace(tamed.min(), tamed.max(), _KNOTS)
    knots = np.sign(even) * np.expm1(np.abs(even))
    return knots, np.clip((even - tamed.mean()) / max(float(tamed.std()), 1e-12), -_LARGEST, _LARGEST)


_KNOTS_OF = {"quantile": _quantile_knots, "log": _log_knots}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side's features: numbers first, then the rows of categorical values."""

    numbers: Normaliser
    categorical: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.numbers.names, *self.categorical)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Everything fitted about inputs: both sides, the categories' vocabulary, the items that have a row (sorted)."""

    user: Side
    item: Side
    vocabulary: Vocabulary
    items_I: Keys

    def read(self, side: Side, x_NF: Matrix) -> tuple[Matrix, NDArray[np.int64]]:
        """(numbers float32 [N, G], rows int64 [N, C]) of features in the order of `side.names`; unknown rows are -1."""
        n_numbers = len(side.numbers.names)
        rows = [self.vocabulary.rows(c, x_NF[:, n_numbers + i]) for i, c in enumerate(side.categorical)]
        empty = np.empty((len(x_NF), 0), np.int64)
        return side.numbers(x_NF[:, :n_numbers]), np.stack(rows, axis=1).astype(np.int64) if rows else empty

    def item_rows(self, keys_N: Keys) -> NDArray[np.int64]:
        return rows_of(self.items_I, keys_N).astype(np.int64)

    def sizes(self, n_types: int, n_objectives: int) -> Sizes:
        def of(side: Side) -> tuple[int, ...]:
            return tuple(len(self.vocabulary.values[name]) for name in side.categorical)

        return Sizes(
            user_numbers=self.user.numbers.width,
            item_numbers=self.item.numbers.width,
            user_vocabularies=of(self.user),
            item_vocabularies=of(self.item),
            n_items=len(self.items_I),
            n_types=max(1, n_types),
            n_objectives=n_objectives,
        )

    def arrays(self) -> dict[str, Array]:
        made: dict[str, Array] = {"items": self.items_I}
        for name, side in (("user", self.user), ("item", self.item)):
            made |= {
                f"{name}.knots": side.numbers.knots_FK,
                f"{name}.scores": side.numbers.scores_FK,
                f"{name}.marked": side.numbers.marked_F,
            }
        return made | {f"values.{name}": values for name, values in self.vocabulary.values.items()}

    def names(self) -> dict[str, list[str]]:
        made: dict[str, list[str]] = {}
        for name, side in (("user", self.user), ("item", self.item)):
            made |= {f"{name}_numbers": list(side.numbers.names), f"{name}_categorical": list(side.categorical)}
        return made

    @staticmethod
    def array_names(names: Mapping[str, Sequence[str]]) -> list[str]:
        sides = [f"{side}.{part}" for side in ("user", "item") for part in ("knots", "scores", "marked")]
        categorical = (*names["user_categorical"], *names["item_categorical"])
        return ["items", *sides, *(f"values.{name}" for name in categorical)]

    @staticmethod
    def of(names: Mapping[str, Sequence[str]], arrays: Mapping[str, Array]) -> Fitted:
        def side(which: str) -> Side:
            numbers = Normaliser(
                names=tuple(names[f"{which}_numbers"]),
                knots_FK=arrays[f"{which}.knots"].astype(np.float64),
                scores_FK=arrays[f"{which}.scores"].astype(np.float64),
                marked_F=arrays[f"{which}.marked"].astype(np.bool_),
            )
            return Side(numbers=numbers, categorical=tuple(names[f"{which}_categorical"]))

        user, item = side("user"), side("item")
        categorical = (*user.categorical, *item.categorical)
        values = {name: arrays[f"values.{name}"].astype(np.float32) for name in categorical}
        return Fitted(user=user, item=item, vocabulary=Vocabulary(values), items_I=arrays["items"].astype(np.int64))


def age_buckets(age_E: Keys) -> NDArray[np.int64]:
    """0 to N_AGES - 1: two buckets for each doubling of (a minute + the age in µs)."""
    minutes_E = np.maximum(age_E, 0) / MINUTE
    return np.asarray(np.minimum(2 * np.log2(1 + minutes_E), N_AGES - 1), np.int64)


@dataclass(frozen=True, kw_only=True)
class Targets:
    """`y_NT` in units of each objective's scale (NaN: not known), the loss of each and its weight."""

    y_NT: NDArray[np.float32]
    kinds: tuple[str, ...]
    weight_T: NDArray[np.float32]


def items_of_many(rows: RankingRows, histories: Histories, least: int) -> Keys:
    """Sorted keys of the items that at least `least` users of these rows were shown or had in their history.

    Rows would be the wrong thing to count: one busy user has an item in each of many histories, and its vector then
    learns what became of that user. On Retailrocket's views 28,000 items were in 5 rows, 1,800 were of 5 users
    (2026-11-26).
    """
    n_requests = len(histories.indptr_R) - 1
    user_R, here_R = np.zeros(n_requests, np.int64), np.zeros(n_requests, np.bool_)
    user_R[rows.group_N], here_R[rows.group_N] = rows.user_N, True
    of_E = np.repeat(np.arange(n_requests), np.diff(histories.indptr_R))
    own_E = here_R[of_E]  # `take` leaves histories as they are: those of other requests do not count
    item_P = np.concatenate([rows.item_N, histories.keys_E[own_E]])
    user_P = np.concatenate([rows.user_N, user_R[of_E[own_E]]])
    known_P = item_P >= 0  # a follow of a creator names no item
    item_P, user_P = item_P[known_P], user_P[known_P]
    size = int(item_P.max(initial=0)) + 1
    items, users = np.unique(np.unique(user_P * size + item_P) % size, return_counts=True)
    return items[users >= least]


def no_histories(n_requests: int) -> Histories:
    """R empty ones."""
    nothing: Keys = np.empty(0, np.int64)
    return Histories(
        indptr_R=np.zeros(n_requests + 1, np.int64), keys_E=nothing, at_E=nothing, type_E=nothing.astype(np.int16)
    )

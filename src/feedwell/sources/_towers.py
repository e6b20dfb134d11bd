"""The two towers in numpy, for serving, and how the columns of users and items become their inputs.

B requests, M items, L history, D embedding, S static numbers of an item, C categories, F numbers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.clock import SECOND

Matrix = NDArray[np.float32]
Ints = NDArray[np.int64]
_KNOTS = 33
_MINUTE = 60 * SECOND


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Fitted readings of named columns: a number by its place among those seen (-1..1), a category by its table row.

    Numbers become two inputs, the place and whether it is missing; an unknown category has row 0.
    """

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    knots: Mapping[str, Float]
    values: Mapping[str, Float]

    @staticmethod
    def fit(columns: Mapping[str, Float], categories: Sequence[str]) -> Columns:
        """Of the columns as they were seen in training, NaN where unknown."""
        numbers = tuple(name for name in columns if name not in categories)
        kept = tuple(name for name in columns if name in categories)
        return Columns(
            numbers=numbers,
            categories=kept,
            knots={name: _knots(columns[name]) for name in numbers},
            values={name: np.unique(columns[name][np.isfinite(columns[name])]) for name in kept},
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each category's table."""
        return tuple(len(self.values[name]) + 1 for name in self.categories)

    def read(self, columns: Mapping[str, Float], n: int) -> tuple[Matrix, Ints]:
        """(numbers_NF, category_NC) of n rows; a column that is not there is missing throughout."""
        numbers_NF = np.zeros((n, 2 * len(self.numbers)), np.float32)
        for f, name in enumerate(self.numbers):
            value_N = columns.get(name, np.full(n, np.nan))
            known_N = np.isfinite(value_N)
            knots = self.knots[name]
            place_N = np.interp(value_N, knots, np.linspace(-1, 1, len(knots))) if len(knots) > 1 else np.zeros(n)
            numbers_NF[:, 2 * f] = np.where(known_N, place_N, 0.0)
            numbers_NF[:, 2 * f + 1] = ~known_N
        category_NC = np.zeros((n, len(self.categories)), np.int64)
        for c, name in enumerate(self.categories):
            value_N, known = columns.get(name, np.full(n, np.nan)), self.values[name]
            if len(known):
                at_N = np.minimum(np.searchsorted(known, value_N), len(known) - 1)
                category_NC[:, c] = np.where(known[at_N] == value_N, at_N + 1, 0)
        return numbers_NF, category_NC

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """What `of` reads back, beside the names."""
        return {f"{prefix}.{name}": v for name, v in {**self.knots, **self.values}.items()}

    @staticmethod
    def of(prefix: str, numbers: Sequence[str], categories: Sequence[str], arrays: Mapping[str, Any]) -> Columns:
        return Columns(
            numbers=tuple(numbers),
            categories=tuple(categories),
            knots={name: arrays[f"{prefix}.{name}"] for name in numbers},
            values={name: arrays[f"{prefix}.{name}"] for name in categories},
        )


def _knots(value_N: Float) -> Float:
    """Distinct quantiles of what is known."""
    known = value_N[np.isfinite(value_N)]
    return np.unique(np.quantile(known, np.linspace(0, 1, _KNOTS))) if len(known) else np.empty(0)


@dataclass(frozen=True, kw_only=True)
class Towers:
    """The trained weights by their names in `nn.two_tower.Towers`, and its formulas."""

    weights: Mapping[str, Matrix]
    temperature: float

    def item(self, id_M: Ints, static_MS: Matrix, category_MC: Ints) -> tuple[Matrix, Matrix]:
        """(item_MD, of length 1 over √temperature; what each adds to a history, before its weight there)."""
        hidden_MH = self._hidden("item", static_MS, category_MC)
        item_MD = self.weights["id.weight"][id_M] + hidden_MH @ self.weights["item_out.weight"].T
        history_MD = item_MD + static_MS @ self.weights["history_static.weight"].T
        if "history.weight" in self.weights:
            history_MD = history_MD + self.weights["history.weight"][id_M]
        return self._unit(item_MD), np.asarray(history_MD, np.float32)

    def importance(self, id_M: Ints) -> Matrix:
        return np.asarray(self.weights["importance.weight"][id_M, 0], np.float32)

    def own(self, numbers_BF: Matrix, category_BC: Ints) -> Matrix:
        """What the user's own columns add."""
        hidden_BH = self._hidden("user", numbers_BF, category_BC)
        return np.asarray(hidden_BH @ self.weights["user_out.weight"].T + self.weights["user_out.bias"], np.float32)

    def pooled(self, history_LD: Matrix, importance_L: Matrix, place_L: Ints, age_L: Ints) -> Matrix:
        """The history's weighted mean, D numbers; zeros without a history."""
        if not len(history_LD):
            return np.zeros(history_LD.shape[1], np.float32)
        logit_L = importance_L + self.weights["place"][place_L] + self.weights["age"][age_L]
        weight_L = np.exp(logit_L - logit_L.max())
        return np.asarray((weight_L / weight_L.sum()) @ history_LD, np.float32)

    def unit(self, user_BD: Matrix) -> Matrix:
        return self._unit(user_BD)

    def _hidden(self, side: str, numbers_NF: Matrix, category_NC: Ints) -> Matrix:
        tables = [self.weights[f"{side}_category.{c}.weight"][category_NC[:, c]] for c in range(category_NC.shape[1])]
        x_N = np.concatenate([numbers_NF, *tables], axis=1)
        hidden_NH = x_N @ self.weights[f"{side}_in.weight"].T + self.weights[f"{side}_in.bias"]
        return np.asarray(np.maximum(hidden_NH, 0), np.float32)

    def _unit(self, x: Matrix) -> Matrix:
        length = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
        return np.asarray(x / length / np.float32(self.temperature**0.5), np.float32)


def places(n: int, most: int) -> Ints:
    """Of n items, oldest first: the power of two of each one's distance from the end, the newest 0."""
    return np.minimum(np.log2(np.arange(n, 0, -1)).astype(np.int64), most - 1)


def ages(age_us: Ints, most: int) -> Ints:
    """The power of two of the minutes; 0 below one."""
    return np.clip(np.log2(np.maximum(age_us, 1) / _MINUTE + 1).astype(np.int64), 0, most - 1)

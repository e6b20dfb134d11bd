"""The rows that a ranker scores: the same names, in the same order, as the rows that it was fitted on.

N candidates, F features, V values of a categorical feature
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Candidates
from feedwell.core.errors import DataError
from feedwell.core.needs import ColumnNeed, FeatureNeed, Need
from feedwell.core.protocols import PartConfig, RankingRows, Setting, fit
from feedwell.core.request import Request

Matrix = NDArray[np.float32]
RETRIEVAL = "retrieval."


class FeatureConfig(PartConfig):
    """Which columns of the rows a ranker reads. How many values of a key are known differs by model: a column each, a
    set split or an embedding."""

    features: tuple[str, ...] = fit(())
    """Default: all that the training rows have."""
    categorical: tuple[str, ...] = fit(())
    """Features whose numbers are keys: equal or not, but neither more nor less."""


def gather(request: Request, candidates: Candidates, names: Sequence[str]) -> Matrix:
    """features float32 [N, F]: a candidate's own, a source's score (`retrieval.<source>`), a catalog column, or the
    user's, repeated. NaN where a source did not bring the candidate or nothing is known of the user."""
    if tuple(names) == candidates.feature_names:
        return candidates.features_NF
    x_NF = np.empty((len(candidates), len(names)), np.float32)
    own = {name: i for i, name in enumerate(candidates.feature_names)}
    sources = {RETRIEVAL + name: i for i, name in enumerate(candidates.source_names)}
    for f, name in enumerate(names):
        if name in own:
            x_NF[:, f] = candidates.features_NF[:, own[name]]
        elif name in candidates.columns:
            x_NF[:, f] = candidates.columns[name]
        elif name in sources:
            x_NF[:, f] = candidates.retrieval_NS[:, sources[name]]
        else:
            x_NF[:, f] = request.side.features.get(name, np.nan)
    return x_NF


def row_needs(names: Sequence[str]) -> tuple[Need, ...]:
    """What must be read so that `gather` finds those names: all but the sources' scores."""
    read = (name for name in names if not name.startswith(RETRIEVAL))
    return tuple(ColumnNeed(*name.split(".", 1)) if "." in name else FeatureNeed(name) for name in read)


def chosen(rows: RankingRows, features: Sequence[str], categorical: Sequence[str]) -> tuple[tuple[str, ...], Matrix]:
    """(names, float32 [N, F]) of the features to fit on: the configured ones, or all; DataError names one that is not
    in the rows."""
    names = tuple(features) or rows.feature_names
    columns_of(rows, categorical)
    return names, columns_of(rows, names)


def columns_of(rows: RankingRows, names: Sequence[str]) -> Matrix:
    """float32 [N, F] of those features; DataError names one that is not in the rows."""
    missing = [name for name in names if name not in rows.feature_names]
    if missing:
        raise DataError(f"ranking rows: no feature '{missing[0]}'; the rows have {', '.join(rows.feature_names)}")
    return np.ascontiguousarray(rows.features_NF[:, [rows.feature_names.index(name) for name in names]])


@dataclass(frozen=True, kw_only=True)
class Head:
    """The rows and labels that one objective is fitted on."""

    name: str
    kind: str
    rows: NDArray[np.intp]
    y: NDArray[np.float64]

    def learned(self, valid_N: NDArray[np.bool_]) -> Head:
        """Without the rows kept back, which no model may learn from; all of them where nothing else is there."""
        keep = ~valid_N[self.rows]
        return replace(self, rows=self.rows[keep], y=self.y[keep]) if keep.any() else self


def heads(rows: RankingRows, setting: Setting) -> list[Head]:
    """One per labelled objective, over the rows whose label is known; where the objective is `given` another, only the
    rows in which that one happened. DataError if none is left."""
    made = []
    for name, y_N in rows.labels.items():
        objective = setting.objectives.get(name)
        known_N = np.isfinite(y_N)
        given = getattr(objective, "given", None)
        if given is not None and given in rows.labels:
            known_N &= rows.labels[given] > 0
        if not known_N.any():
            why = f" in which '{given}' happened" if given else ""
            raise DataError(
                f"fitting the ranker: objective '{name}' has no labelled row{why} among {len(y_N)}; take more data, a "
                "shorter `within`, or drop the objective"
            )
        chosen_rows = np.flatnonzero(known_N)
        made.append(Head(name=name, kind=getattr(objective, "kind", "binary"), rows=chosen_rows, y=y_N[chosen_rows]))
    if not made:
        raise DataError("fitting the ranker: the rows carry no objective; declare one, as in [objective.click]")
    return made


def label_scale(head: Head) -> float:
    """What labels are divided by: for durations and amounts the mean size of a label, else 1."""
    size = float(np.abs(head.y).mean())
    return size if head.kind in ("duration", "amount") and size > 0 else 1.0


@dataclass(frozen=True)
class Vocabulary:
    """Rows of the known values of each categorical feature, most frequent first; any other value is row -1."""

    values: Mapping[str, NDArray[np.float32]]

    @staticmethod
    def fit(x_NF: Matrix, names: Sequence[str], categorical: Sequence[str], most: int) -> Vocabulary:
        """The `most` most frequent values of each, ties by smaller value; NaN and negative keys are never values."""
        found = {}
        for name in categorical:
            column_N = x_NF[:, names.index(name)]
            values, counts = np.unique(column_N[column_N >= 0], return_counts=True)
            found[name] = values[np.lexsort((values, -counts))][:most]
        return Vocabulary(found)

    def rows(self, name: str, column_N: NDArray[np.float32]) -> NDArray[np.intp]:
        """The row of each value; -1 = unknown."""
        values = self.values[name]
        if not len(values):
            return np.full(len(column_N), -1, np.intp)
        order = np.argsort(values)
        at_N = np.minimum(np.searchsorted(values, column_N, sorter=order), len(values) - 1)
        row_N = order[at_N]
        return np.where(values[row_N] == column_N, row_N, -1)

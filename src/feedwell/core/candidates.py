"""Candidates: one request's candidates as columns over N. A column has one owner and is read-only after hand-over.

N candidates, S sources, F features, T objectives
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from feedwell.core.request import Keys

Float = NDArray[np.float64]
KEPT = 0
NOT_SELECTED = "not selected"


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """What a source returns: `keys_N` distinct, best first, and their `scores_N` (NaN where it has none)."""

    keys_N: Keys
    scores_N: Float


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """`sources_N` is a bit mask over `source_names`; `retrieval_NS` its own score, NaN where it did not retrieve.

    `features_NF` has `feature_names`; `predictions` maps an objective to p_N; `value_N` is NaN until scored;
    `group_N` is the key that caps count by (-1: none); `status_N` indexes `reasons`, 0 = still in. `columns` holds the
    catalog columns that parts asked for ("item.expires_at") as float64: times in µs are exact there, in float32 not.
    """

    keys_N: Keys
    sources_N: NDArray[np.uint64]
    retrieval_NS: Float
    source_names: tuple[str, ...]
    features_NF: NDArray[np.float32]
    feature_names: tuple[str, ...] = ()
    predictions: Mapping[str, Float]
    value_N: Float
    group_N: Keys
    status_N: NDArray[np.int16]
    reasons: tuple[str, ...] = ("",)
    columns: Mapping[str, Float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys_N)

    def feature(self, name: str) -> NDArray[np.float32]:
        """One feature's column; KeyError names the columns that were read."""
        if name not in self.feature_names:
            raise KeyError(f"feature '{name}' was not read for these candidates; declare it in `needs`")
        return self.features_NF[:, self.feature_names.index(name)]

    def column(self, name: str) -> Float:
        """A catalog column ("item.expires_at") as exact float64; a feature of that name if no such column was read."""
        return self.columns[name] if name in self.columns else self.feature(name).astype(np.float64)

    @property
    def alive_N(self) -> NDArray[np.bool_]:
        alive_N: NDArray[np.bool_] = self.status_N == KEPT
        return alive_N

    def dropped(self, drop_N: NDArray[np.bool_], reason: str) -> Candidates:
        """The same rows with `reason` written where `drop_N` and nothing had dropped the row before."""
        status_N = self.status_N.copy()
        status_N[drop_N & self.alive_N] = len(self.reasons)
        return self.with_columns(status_N=_locked(status_N), reasons=(*self.reasons, reason))

    def with_columns(self, **columns: object) -> Candidates:
        """A copy that owns new columns; the others are shared."""
        return replace(self, **columns)  # type: ignore[arg-type]

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Candidates:
        """Those rows only, in that order."""
        return self.with_columns(
            keys_N=_locked(self.keys_N[rows]),
            sources_N=_locked(self.sources_N[rows]),
            retrieval_NS=_locked(self.retrieval_NS[rows]),
            features_NF=_locked(self.features_NF[rows]),
            predictions={name: _locked(p[rows]) for name, p in self.predictions.items()},
            value_N=_locked(self.value_N[rows]),
            group_N=_locked(self.group_N[rows]),
            status_N=_locked(self.status_N[rows]),
            columns={name: _locked(c[rows]) for name, c in self.columns.items()},
        )

    def counts(self) -> dict[str, int]:
        """How many rows each reason dropped; the key "" counts those still in."""
        n = np.bincount(self.status_N, minlength=len(self.reasons))
        return {reason: int(n[i]) for i, reason in enumerate(self.reasons)}


def merge(retrieved: Sequence[tuple[str, Retrieved]]) -> Candidates:
    """One row per distinct key, in order of first retrieval, with every source that brought it.

    >>> a = Retrieved(keys_N=np.array([3, 1]), scores_N=np.array([.9, .5]))
    >>> b = Retrieved(keys_N=np.array([1, 7]), scores_N=np.array([.4, .2]))
    >>> merge([("a", a), ("b", b)]).keys_N.tolist()
    [3, 1, 7]
    """
    source_names = tuple(name for name, _ in retrieved)
    if len(source_names) > 63:
        raise ValueError("at most 63 sources fit the bit mask")
    stacked = np.concatenate([r.keys_N for _, r in retrieved]) if retrieved else np.empty(0, np.int64)
    unique, first, inverse = np.unique(stacked, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    row = rank[inverse]
    n = len(unique)
    sources_N = np.zeros(n, np.uint64)
    retrieval_NS = np.full((n, len(retrieved)), np.nan)
    at = 0
    for s, (_, part) in enumerate(retrieved):
        rows = row[at : at + len(part.keys_N)]
        sources_N[rows] |= np.uint64(1 << s)
        retrieval_NS[rows, s] = part.scores_N
        at += len(part.keys_N)
    return Candidates(
        keys_N=_locked(unique[order].astype(np.int64)),
        sources_N=_locked(sources_N),
        retrieval_NS=_locked(retrieval_NS),
        source_names=source_names,
        features_NF=np.empty((n, 0), np.float32),
        predictions={},
        value_N=_locked(np.full(n, np.nan)),
        group_N=_locked(np.full(n, -1, np.int64)),
        status_N=_locked(np.zeros(n, np.int16)),
    )


def _locked(column: NDArray) -> NDArray:  # type: ignore[type-arg]
    column.setflags(write=False)
    return column

"""What parts returned, made safe: nothing a part returns can break the request or reach the answer unchecked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float, Retrieved
from feedwell.pipeline.notes import Notes


def sound_rows(name: str, returned: Any, k: int, width: float, notes: Notes) -> Retrieved:
    """The first `k · width` rows with a valid, new key; what was wrong with the others is counted and named.

    Only rows beyond the declared `k` are a fault: a source need not know how wide the request is.
    TypeError or ValueError where the columns are no columns at all.
    """
    keys_N, scores_N = np.asarray(returned.keys_N), np.asarray(returned.scores_N)
    if keys_N.ndim != 1 or keys_N.shape != scores_N.shape:
        raise ValueError(
            f"keys of shape {keys_N.shape} with scores of shape {scores_N.shape}: expected two equal columns"
        )
    if len(keys_N) > k:
        _count(notes, name, "beyond k", len(keys_N) - k)
        notes.degrade(name, f"returned {len(keys_N)} rows, k is {k}: cut", kind="beyond_k")
    narrowed = max(1, math.ceil(k * width))
    keys_N, scores_N = keys_N[:narrowed], scores_N[:narrowed]
    valid_N = _valid_keys(keys_N)
    if not valid_N.all():
        _refuse(notes, name, "invalid keys", int((~valid_N).sum()))
    keys_N, scores_N = keys_N[valid_N].astype(np.int64), scores_N[valid_N].astype(np.float64)
    sorted_N = np.sort(keys_N)
    if (sorted_N[1:] == sorted_N[:-1]).any():
        first = np.sort(np.unique(keys_N, return_index=True)[1])
        _refuse(notes, name, "duplicates", len(keys_N) - len(first))
        keys_N, scores_N = keys_N[first], scores_N[first]
    scores_N = np.where(np.isfinite(scores_N), scores_N, np.nan)
    if len(scores_N) and np.isnan(scores_N).all():
        notes.degrade(name, f"all {len(scores_N)} scores are NaN: kept in the order returned", kind="nan")
    return Retrieved(keys_N=keys_N, scores_N=scores_N)


def sound_mask(returned: Any, n: int) -> NDArray[np.bool_]:
    """The keep mask of a filter; TypeError or ValueError if it is none."""
    keep_N = np.asarray(returned)
    if keep_N.shape != (n,) or keep_N.dtype != np.bool_:
        raise TypeError(f"returned {keep_N.dtype} of shape {keep_N.shape}: expected bool of shape ({n},)")
    return keep_N


def sound_columns(name: str, returned: Any, n: int, notes: Notes) -> Mapping[str, Float]:
    """A scorer's columns as float64 with NaN for what is not finite; TypeError or ValueError on a wrong shape."""
    if not isinstance(returned, Mapping):
        raise TypeError(f"returned {type(returned).__name__}: expected a mapping of column → scores")
    columns: dict[str, Float] = {}
    for column, given in returned.items():
        score_N = np.asarray(given, dtype=np.float64)
        if score_N.shape != (n,):
            raise ValueError(f"'{column}' has shape {score_N.shape}: expected ({n},)")
        infinite_N = np.isinf(score_N)
        if infinite_N.any():
            _refuse(notes, name, "infinite scores", int(infinite_N.sum()))
            score_N = np.where(infinite_N, np.nan, score_N)
        if n and np.isnan(score_N).all():
            notes.degrade(name, f"every '{column}' is NaN", kind="nan")
        columns[str(column)] = score_N
    return columns


def _valid_keys(keys_N: NDArray[Any]) -> NDArray[np.bool_]:
    if keys_N.dtype.kind in "iu":
        return np.asarray((keys_N >= 0) & (keys_N <= np.iinfo(np.int64).max))
    if keys_N.dtype.kind == "f":  # an integer in disguise passes; NaN, a fraction or beyond 2^53 does not
        whole: NDArray[np.bool_] = np.isfinite(keys_N) & (keys_N >= 0) & (keys_N < 2**53)
        whole[whole] = keys_N[whole] == np.floor(keys_N[whole])
        return whole
    if len(keys_N) == 0:
        return np.zeros(0, np.bool_)
    raise TypeError(f"keys of type {keys_N.dtype}: expected int64")


def _count(notes: Notes, name: str, what: str, n: int) -> None:
    notes.extra[f"{what}: {name}"] = n


def _refuse(notes: Notes, name: str, what: str, n: int) -> None:
    _count(notes, name, what, n)
    notes.degrade(name, f"{n} rows refused: {what}", kind=what.replace(" ", "_"))

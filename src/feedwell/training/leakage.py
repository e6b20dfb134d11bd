"""Leakage: a feature of a row at t may use `available_at < t` only, so it must not change if the future is deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core.columns import T
from feedwell.core.errors import CheckFailed
from feedwell.core.rng import stream
from feedwell.data.log_view import LogView
from feedwell.features import FeatureSet, asof
from feedwell.metrics.calibration import auc
from feedwell.training.rows import Rows

SUSPICIOUS_AUC = 0.98
_LEAST = 10
Reading = Callable[[LogView, pa.Table], Mapping[str, NDArray[np.float64]]]
"""(what may be seen of the log, rows with user, item, t) → feature column → one value per row."""


@dataclass(frozen=True, kw_only=True)
class Leak:
    feature: str
    why: str

    def __str__(self) -> str:
        return f"{self.feature} {self.why}"


def batch_reading(features: FeatureSet) -> Reading:
    """How training reads features: the batch plan over the segments that the view shows."""

    def read(view: LogView, frame: pa.Table) -> Mapping[str, NDArray[np.float64]]:
        found = asof(features, view.segments, frame, sequences=False, engine=view)
        return {c.name: found[c.name].to_numpy(zero_copy_only=False).astype(np.float64) for c in features.columns}

    return read


def future_leaks(view: LogView, frame: pa.Table, read: Reading, *, times: int = 6, seed: int = 0) -> tuple[Leak, ...]:
    """Features that read otherwise at some t when everything with `available_at >= t` is deleted first.

    All rows of `times` moments of the frame, chosen by seed, are read twice.
    """
    t_N = frame[T].to_numpy()
    moments = np.unique(t_N)
    chosen = stream(seed, "leakage").choice(moments, min(times, len(moments)), replace=False)
    sample = frame.take(pa.array(np.flatnonzero(np.isin(t_N, chosen))))
    if not sample.num_rows:
        return ()
    whole, at_N = read(view, sample), sample[T].to_numpy()
    changed: dict[str, int] = {}
    for t in np.sort(chosen).tolist():
        rows = np.flatnonzero(at_N == t)
        then = read(replace(view, until=t), sample.take(pa.array(rows)))
        for name, value in whole.items():
            differ = ~((value[rows] == then[name]) | (np.isnan(value[rows]) & np.isnan(then[name])))
            changed[name] = changed.get(name, 0) + int(differ.sum())
    return tuple(
        Leak(feature=name, why=f"changed in {n} of {sample.num_rows} rows when what came at or after t was deleted")
        for name, n in changed.items()
        if n
    )


def require_no_leaks(leaks: tuple[Leak, ...]) -> None:
    """CheckFailed naming every feature that knows the future."""
    if leaks:
        raise CheckFailed("training stopped, features know the future: " + "; ".join(map(str, leaks)))


def suspicious(rows: Rows, *, above: float = SUSPICIOUS_AUC) -> tuple[Leak, ...]:
    """Single features that separate an objective's exposures almost perfectly: more often a leak than a gift."""
    found = []
    for name, y_N in rows.ranking.labels.items():
        known = rows.exposed_N & ~np.isnan(y_N)
        y = (y_N[known] > 0).astype(np.float64)
        if not _LEAST <= y.sum() <= len(y) - _LEAST:
            continue
        for f, feature in enumerate(rows.ranking.feature_names):
            x = rows.ranking.features_NF[known, f].astype(np.float64)
            value = auc(y, np.where(np.isnan(x), -np.inf, x))
            if max(value, 1 - value) > above:
                why = f"alone predicts '{name}' with AUC {max(value, 1 - value):.3f}: does it know the outcome?"
                found.append(Leak(feature=feature, why=why))
    return tuple(found)

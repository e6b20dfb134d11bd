"""Coverage: which features say anything, at train and at serve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core.columns import label
from feedwell.core.errors import CheckFailed
from feedwell.core.project import Project
from feedwell.features import FeatureSet
from feedwell.training.report import CoverageRow
from feedwell.training.rows import Rows


def coverage(features: FeatureSet, train: Rows, serve: Rows | None) -> tuple[CoverageRow, ...]:
    """One row per feature column. As served: the candidates that requests of the test span scored; NaN without any."""
    of = {c.name: c.feature for c in features.columns}
    train_NF = train.ranking.features_NF
    serve_NF = serve.ranking.features_NF[~serve.exposed_N] if serve is not None else train_NF[:0]
    rows = []
    for f, name in enumerate(train.ranking.feature_names):
        rows.append(
            CoverageRow(
                feature=name,
                declared=of.get(name, "") in features.project.feature,
                train_non_null=_share(~np.isnan(train_NF[:, f])),
                train_non_zero=_share(~np.isnan(train_NF[:, f]) & (train_NF[:, f] != 0)),
                serve_non_null=_share(~np.isnan(serve_NF[:, f])),
                serve_non_zero=_share(~np.isnan(serve_NF[:, f]) & (serve_NF[:, f] != 0)),
                gap=train.gap.get(name, float("nan")),
            )
        )
    return tuple(rows)


def require_coverage(project: Project, features: FeatureSet, rows: Sequence[CoverageRow]) -> None:
    """CheckFailed naming every declared feature that is (nearly) always null or zero in training, unless allowed."""
    least = project.train.min_feature_share
    of = {c.name: c.feature for c in features.columns}
    best: dict[str, float] = {}
    for row in rows:
        if row.declared:
            best[of[row.feature]] = max(best.get(of[row.feature], 0.0), row.train_non_zero)
    empty = [name for name, share in best.items() if share < least and not project.feature[name].allow_sparse]
    if empty:
        listed = ", ".join(f"{name} ({best[name]:.2%})" for name in sorted(empty))
        raise CheckFailed(
            f"features that say nothing: {listed} of the training rows are neither null nor zero, expected at least "
            f"{least:.0%}; mend the declaration, remove it, or set allow_sparse = true"
        )


def label_counts(shown: pa.Table, project: Project) -> dict[str, dict[str, int]]:
    """objective → how many exposures are positive, negative, still open (or not defined)."""
    out = {}
    for name in project.objective:
        y = shown[label(name)].to_numpy()
        out[name] = {
            "positive": int((y > 0).sum()),
            "negative": int((y == 0).sum()),
            "open": int(np.isnan(y).sum()),
        }
    return out


def _share(mask: NDArray[np.bool_]) -> float:
    return float(mask.mean()) if len(mask) else float("nan")

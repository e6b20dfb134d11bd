"""Coverage: which features say anything, at train and at serve, and whether serving read what training reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedwell.core.columns import ITEM, USER, T, label
from feedwell.core.errors import CheckFailed
from feedwell.core.project import Project
from feedwell.data.exposure import ORIGIN, ROW, exposing, held, viewing
from feedwell.data.log_view import LogView
from feedwell.features import FeatureSet, asof
from feedwell.features.coverage import Coverage, coverage
from feedwell.training.inputs import Inputs
from feedwell.training.report import CoverageRow
from feedwell.training.rows import Matrix, Names, Rows, batch_features


def coverage_rows(
    features: FeatureSet, train: Rows, replayed: Rows | None, served: Served | None
) -> tuple[CoverageRow, ...]:
    """One row per feature column: what was there in training, and as served.

    As served: what slate records hold, so nothing of retrieval scores, which they do not; before there are any, what
    requests of the test span scored under replay.
    """
    of = {c.name: c.feature for c in features.columns}
    names = train.ranking.feature_names
    in_training = coverage(names, train.ranking.features_NF)
    serve_NF = train.ranking.features_NF[:0]
    if served is not None:
        serve_NF = served.recorded_NF
    elif replayed is not None:
        serve_NF = replayed.ranking.features_NF[~replayed.exposed_N]
    at_serve = coverage(names, serve_NF)
    if served is not None:
        at_serve |= {name: Coverage() for name in names if name not in served.gap}
    return tuple(
        CoverageRow(
            feature=name,
            declared=of.get(name, "") in features.project.feature,
            train_non_null=in_training[name].known,
            train_non_zero=in_training[name].nonzero,
            serve_non_null=at_serve[name].known,
            serve_non_zero=at_serve[name].nonzero,
            gap=replayed.gap.get(name, float("nan")) if replayed is not None else float("nan"),
            serving_gap=served.gap.get(name, float("nan")) if served is not None else float("nan"),
        )
        for name in names
    )


def declared_rows(
    inputs: Inputs, features: FeatureSet, frame: pa.Table, *, known: Sequence[CoverageRow] = (), most: int = 5_000
) -> tuple[CoverageRow, ...]:
    """One row per declared feature column that `known` does not have, over `most` rows of (user, item, t), evenly.

    A ranker's rows hold no lists, so last-n features are here, with a project without a ranker all features; a list
    counts as there when something is in it.
    """
    have = {row.feature for row in known}
    columns = [c.name for c in features.columns if c.feature in features.project.feature and c.name not in have]
    lists = [name for name in features.sequences if name in features.project.feature]
    segments, n = inputs.log.segment_paths(), frame.num_rows
    if not n or not segments or not (columns or lists):
        return ()
    frame = frame.take(pa.array(np.unique(np.linspace(0, n - 1, most).astype(np.int64))))
    read = asof(features, segments, frame, columns=columns, sequences=bool(lists), engine=inputs.view())
    values = [read[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in columns]
    lengths = [pc.list_value_length(read[name]).to_numpy(zero_copy_only=False).astype(np.float64) for name in lists]
    cells = [*values, *(np.where(length > 0, length, np.nan) for length in lengths)]
    nan = float("nan")
    return tuple(
        CoverageRow(
            feature=name,
            declared=True,
            train_non_null=share.known,
            train_non_zero=share.nonzero,
            serve_non_null=nan,
            serve_non_zero=nan,
            gap=nan,
            serving_gap=nan,
        )
        for name, share in coverage([*columns, *lists], np.stack(cells, axis=1)).items()
    )


@dataclass(frozen=True, kw_only=True)
class Served:
    """Slots as they were scored: `recorded_NF` in the order of training rows (NaN where a record has no such feature);
    `gap`: feature → share of the slots whose recorded value is not what the batch plan reads for that t.

    A slot's item side was read from what the projector had folded, so events on their way account for some of the gap.
    """

    recorded_NF: Matrix
    gap: Mapping[str, float]


def served_slots(inputs: Inputs, features: FeatureSet, names: Names, *, most: int = 2_000) -> Served | None:
    """The newest `most` recorded slots of this epoch; None before anything was served."""
    slots = inputs.slots()
    if slots is None:
        return None
    slots = slots.filter(pc.equal(slots["epoch"], inputs.log.epoch))
    slots = slots.slice(max(0, slots.num_rows - most))
    if not slots.num_rows:
        return None
    recorded_NF = np.full((slots.num_rows, len(names.all)), np.nan, np.float32)
    at = {name: f for f, name in enumerate(names.all)}
    for column in ("user_features", "features"):
        for n, cells in enumerate(slots[column].to_pylist()):
            for name, value in cells or ():
                if name in at and value is not None:
                    recorded_NF[n, at[name]] = value
    batch_NF = batch_features(inputs, features, slots.select([USER, ITEM, T]), names)
    differ = ~np.isclose(batch_NF, recorded_NF, rtol=1e-5, atol=1e-6, equal_nan=True)
    return Served(recorded_NF=recorded_NF, gap={name: float(differ[:, at[name]].mean()) for name in names.read})


def require_coverage(project: Project, features: FeatureSet, rows: Sequence[CoverageRow]) -> None:
    """CheckFailed naming every declared feature that is (nearly) always null or zero in training, unless allowed."""
    least = project.train.min_feature_share
    of = {c.name: c.feature for c in features.columns}
    best: dict[str, float] = {}
    for row in rows:
        if row.declared:
            name = of.get(row.feature, row.feature)
            best[name] = max(best.get(name, 0.0), row.train_non_zero)
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


def served_counts(view: LogView, project: Project, shown: pa.Table) -> dict[str, int]:
    """slots: how many were served; held: how many exposing events they hold, no exposures of their own; seen: how many
    slots hold one that says that it was seen."""
    slots = shown.filter(pc.equal(shown[ORIGIN], "slate"))
    counts = dict.fromkeys(("slots", "held", "seen"), 0) | {"slots": slots.num_rows}
    if slots.num_rows:
        counts["held"] = pc.count_distinct(held(view, project, exposing(project), slots)["offset"]).as_py()
        counts["seen"] = pc.count_distinct(held(view, project, viewing(project), slots)[ROW]).as_py()
    return counts


def unseen(project: Project, served: dict[str, int]) -> list[str]:
    """A warning where slots were served, none was seen, and objectives count from being seen."""
    names = [n for n, o in project.objective.items() if o.after == "viewed" and viewing(project, o.events)]
    if not names or not served["slots"] or served["seen"]:
        return []
    return [
        f"none of {served['slots']} served slots was seen by an event of {', '.join(viewing(project))}: "
        f"{', '.join(names)} learn nothing from what was served; send these events of served items with the answer's "
        'request_id or within an hour of it, or set after = "served"'
    ]

"""Ranking rows: exposures with their labels, and retrieved candidates that were not chosen, with features as of then.

An exposure's features come from the batch plan (`asof`), a negative's from the request path under replay; where an
exposure was also retrieved, both are there and the gap between them is measured.

R requests, N rows, F features
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core.candidates import Candidates, Float
from feedwell.core.columns import ITEM, USER, T, label
from feedwell.core.project import Project
from feedwell.core.protocols import RankingRows
from feedwell.core.request import Keys
from feedwell.core.rng import stream
from feedwell.data.interactions import UserEvents
from feedwell.data.labels import UNTIL
from feedwell.features import FeatureSet, asof
from feedwell.pipeline.compile import Pipeline
from feedwell.training.inputs import Inputs

RETRIEVAL = "retrieval."
Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows with what evaluation needs beside them: user, item and t of each, and which were exposures (not sampled)."""

    ranking: RankingRows
    user_N: Keys
    item_N: Keys
    t_N: Keys
    exposed_N: NDArray[np.bool_]
    gap: Mapping[str, float] = field(default_factory=dict)
    """feature → share of the rows read both ways whose values differ."""

    def __len__(self) -> int:
        return len(self.user_N)

    @property
    def retrieved_N(self) -> NDArray[np.bool_]:
        """The rows that a source brought: what a ranker is asked to score at serving."""
        names = self.ranking.feature_names
        columns = [f for f, name in enumerate(names) if name.startswith(RETRIEVAL)]
        return np.asarray((~np.isnan(self.ranking.features_NF[:, columns])).any(axis=1), np.bool_)

    def take(self, keep_N: NDArray[np.bool_]) -> Rows:
        """Those rows only."""
        r = self.ranking
        made = RankingRows(
            features_NF=r.features_NF[keep_N],
            feature_names=r.feature_names,
            labels={name: y_N[keep_N] for name, y_N in r.labels.items()},
            group_N=r.group_N[keep_N],
            weight_N=r.weight_N[keep_N],
            valid_N=r.valid_N[keep_N],
        )
        return Rows(
            ranking=made,
            user_N=self.user_N[keep_N],
            item_N=self.item_N[keep_N],
            t_N=self.t_N[keep_N],
            exposed_N=self.exposed_N[keep_N],
            gap=self.gap,
        )

    def with_valid(self, valid_N: NDArray[np.bool_]) -> Rows:
        r = self.ranking
        made = RankingRows(
            features_NF=r.features_NF,
            feature_names=r.feature_names,
            labels=r.labels,
            group_N=r.group_N,
            weight_N=r.weight_N,
            valid_N=valid_N,
        )
        return Rows(
            ranking=made, user_N=self.user_N, item_N=self.item_N, t_N=self.t_N, exposed_N=self.exposed_N, gap=self.gap
        )


def join(parts: Sequence[Rows]) -> Rows:
    """The rows of several passes; groups stay apart."""
    first = parts[0].ranking
    groups, start = [], 0
    for part in parts:
        groups.append(part.ranking.group_N + start)
        start += int(part.ranking.group_N.max(initial=-1)) + 1
    return Rows(
        ranking=RankingRows(
            features_NF=np.concatenate([p.ranking.features_NF for p in parts]),
            feature_names=first.feature_names,
            labels={name: np.concatenate([p.ranking.labels[name] for p in parts]) for name in first.labels},
            group_N=np.concatenate(groups),
            weight_N=np.concatenate([p.ranking.weight_N for p in parts]),
            valid_N=np.concatenate([p.ranking.valid_N for p in parts]),
        ),
        user_N=np.concatenate([p.user_N for p in parts]),
        item_N=np.concatenate([p.item_N for p in parts]),
        t_N=np.concatenate([p.t_N for p in parts]),
        exposed_N=np.concatenate([p.exposed_N for p in parts]),
        gap={name: max(p.gap.get(name, 0.0) for p in parts) for name in parts[0].gap},
    )


def servable(rows: Rows, least: int = 50) -> tuple[Rows, str]:
    """(the rows that a source brought, "") or, where that leaves an objective fewer than `least` positives, (all, why).

    An exposure that no source retrieved tells itself apart by having no retrieval score, which no candidate at serving
    lacks: with such rows left out NDCG@10 on ml-100k's validation span was .204, with them .198 (2026-11-21).
    """
    kept = rows.take(rows.retrieved_N)
    few = [name for name, y_N in kept.ranking.labels.items() if (y_N > 0).sum() < least]
    if not few:
        return kept, ""
    return rows, (
        f"sources retrieved fewer than {least} positives of {', '.join(few)}: the ranker also learns "
        "from exposures that none of them retrieved"
    )


class RowBuilder:
    """Takes the candidates of one request after the other; `build` adds the exposures and reads their features.

    `shown` is a labelled exposure table whose requests will be visited (`user`, `t` identify one).
    """

    def __init__(self, inputs: Inputs, features: FeatureSet, events: UserEvents, shown: pa.Table, names: Names) -> None:
        self._inputs, self._features, self._events, self._names = inputs, features, events, names
        self._project = inputs.project
        self._shown = shown
        self._user_X, self._item_X = shown[USER].to_numpy(), shown[ITEM].to_numpy()
        self._t_X, self._until_X = shown[T].to_numpy(), shown[UNTIL].to_numpy()
        self._of: dict[tuple[int, int], list[int]] = {}
        for x, key in enumerate(zip(self._user_X.tolist(), self._t_X.tolist(), strict=True)):
            self._of.setdefault(key, []).append(x)
        self._acts = _acts(self._project, events)
        self._negatives: list[_Negatives] = []
        self._retrieved: dict[int, Matrix] = {}

    def add(self, user: int, t: int, candidates: Candidates, until: int) -> None:
        """Keeps `[train] negatives` of the candidates that the user did not choose, and what was read of exposures."""
        exposed = np.array(self._of.get((user, t), []), np.int64)
        x_NF = self._names.of(candidates)
        at = {key: n for n, key in enumerate(candidates.keys_N.tolist())}
        for x in exposed.tolist():
            if (n := at.get(int(self._item_X[x]))) is not None:
                self._retrieved[x] = x_NF[n]
        free = ~np.isin(candidates.keys_N, self._item_X[exposed]) & ~np.isin(candidates.keys_N, self._chosen(user, t))
        pool = np.flatnonzero(free)
        if not len(pool):
            return
        n = min(self._project.train.negatives, len(pool))
        rng = stream(self._project.project.seed, "negatives", str(user), str(t))
        rows = np.sort(rng.choice(pool, n, replace=False))
        self._negatives.append(
            _Negatives(user, t, until, candidates.keys_N[rows].copy(), x_NF[rows], weight=len(pool) / n)
        )

    def build(self) -> Rows:
        """Exposures first, in their order, then the negatives; `valid_N` is all False."""
        exposed_NF, gap = self._exposed_features()
        negatives = self._negatives
        n_each = [len(n.keys) for n in negatives]
        of_all = np.repeat(np.arange(len(negatives)), n_each)
        user_M = np.array([n.user for n in negatives], np.int64)[of_all]
        t_M = np.array([n.t for n in negatives], np.int64)[of_all]
        until_M = np.array([n.until for n in negatives], np.int64)[of_all]
        labels = {}
        for name, objective in self._project.objective.items():
            closed = (t_M + objective.within <= until_M) & (objective.given is None)
            y_M = np.where(closed, 0.0, np.nan)
            labels[name] = np.concatenate([self._shown[label(name)].to_numpy(), y_M])
        user_N, t_N = np.concatenate([self._user_X, user_M]), np.concatenate([self._t_X, t_M])
        group_N = np.unique(np.stack([t_N, user_N], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
        weight_M = np.array([n.weight for n in negatives], np.float64)[of_all]
        ranking = RankingRows(
            features_NF=np.concatenate([exposed_NF, *(n.features for n in negatives)]).astype(np.float32),
            feature_names=self._names.all,
            labels=labels,
            group_N=group_N.astype(np.int64),
            weight_N=np.concatenate([np.ones(len(self._user_X)), weight_M]),
            valid_N=np.zeros(len(user_N), np.bool_),
        )
        return Rows(
            ranking=ranking,
            user_N=user_N,
            item_N=np.concatenate([self._item_X, *(n.keys for n in negatives)]).astype(np.int64),
            t_N=t_N,
            exposed_N=np.arange(len(user_N)) < len(self._user_X),
            gap=gap,
        )

    def _chosen(self, user: int, t: int) -> Keys:
        rows = self._events.rows_of(user)
        rows = rows[self._acts[rows]]
        within = max((o.within for o in self._project.objective.values()), default=0)
        at = self._events.at_E[rows]
        chosen: Keys = self._events.item_E[rows[(at >= t) & (at < t + within)]]
        return chosen

    def _exposed_features(self) -> tuple[Matrix, dict[str, float]]:
        frame = self._shown.select([USER, ITEM, T])
        x_XF = batch_features(self._inputs, self._features, frame, self._names)
        rows = np.array(sorted(self._retrieved), np.int64)
        if not len(rows):
            return x_XF, {}
        online = np.stack([self._retrieved[x] for x in rows.tolist()])
        n_read = len(self._names.read)
        differ = ~np.isclose(x_XF[rows, :n_read], online[:, :n_read], rtol=1e-5, atol=1e-6, equal_nan=True)
        # The sources' scores exist online only.
        x_XF[rows, n_read:] = online[:, n_read:]
        return x_XF, dict(zip(self._names.read, differ.mean(axis=0).tolist(), strict=True))


@dataclass(frozen=True)
class Names:
    """The columns of a row: `read` from state or log, then one `retrieval.<source>` per source."""

    read: tuple[str, ...]
    sources: tuple[str, ...]

    @staticmethod
    def of_pipeline(pipeline: Pipeline) -> Names:
        return Names((*pipeline.item_columns, *pipeline.user_columns), tuple(pipeline.sources))

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.read, *(RETRIEVAL + name for name in self.sources))

    def of(self, candidates: Candidates) -> Matrix:
        """float32 [N, F] of a request's candidates in this order; NaN where a source did not bring the candidate."""
        at = {name: s for s, name in enumerate(candidates.source_names)}
        x_NF = np.full((len(candidates), len(self.all)), np.nan, np.float32)
        x_NF[:, : len(self.read)] = candidates.features_NF
        for f, name in enumerate(self.sources, start=len(self.read)):
            if name in at:
                x_NF[:, f] = candidates.retrieval_NS[:, at[name]]
        return x_NF


@dataclass(frozen=True)
class _Negatives:
    user: int
    t: int
    until: int
    keys: Keys
    features: Matrix
    weight: float


def batch_features(inputs: Inputs, features: FeatureSet, frame: pa.Table, names: Names) -> Matrix:
    """float32 [N, F] for rows (user, item, t) by the batch plan; the sources' scores are NaN."""
    segments = inputs.log.segment_paths()
    out = np.full((frame.num_rows, len(names.all)), np.nan, np.float32)
    if frame.num_rows and segments:
        read = asof(features, segments, frame, sequences=False, engine=inputs.view())
        for f, name in enumerate(names.read):
            column: Float = read[name].to_numpy(zero_copy_only=False).astype(np.float64)
            column[~np.isfinite(column)] = np.nan
            out[:, f] = column
    return out


def _acts(project: Project, events: UserEvents) -> NDArray[np.bool_]:
    outcomes = {e for o in project.objective.values() for e in o.events}
    return np.isin(events.type_E, [i for i, name in enumerate(events.types) if name in outcomes])

"""Ranking rows: exposures with their labels, and what sources retrieved beside them, with features as of then.

Of the retrieved, those that the user turned to within the longest window stay with what came of it, the others are
sampled. Features come from the batch plan (`asof`); where the request read them too, as every judged one does, the
retrieved keep what it read, and for exposures that were also retrieved the gap between both readings is measured.

R requests, N rows, F features
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core.candidates import Candidates, Float
from feedwell.core.catalog import CatalogAsOf
from feedwell.core.columns import ITEM, USER, T, label
from feedwell.core.needs import HistoryNeed
from feedwell.core.project import Project
from feedwell.core.protocols import Histories, RankingRows
from feedwell.core.request import Keys
from feedwell.core.rng import stream
from feedwell.data.exposure import conformed
from feedwell.data.interactions import UserEvents
from feedwell.data.labels import CLOSES, UNTIL, labels
from feedwell.data.log_view import MOMENT
from feedwell.features import FeatureSet, asof, histories
from feedwell.pipeline.overlays import parts_of_all
from feedwell.training.fit_data import ranked_items
from feedwell.training.inputs import Inputs
from feedwell.training.parts import RANKERS

RETRIEVAL = "retrieval."
Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Ranking rows with what evaluation needs beside them: which were exposures (not sampled)."""

    ranking: RankingRows
    exposed_N: NDArray[np.bool_]
    gap: Mapping[str, float] = field(default_factory=dict)
    """feature → share of the rows read both ways whose values differ."""

    def __len__(self) -> int:
        return len(self.ranking)

    @property
    def user_N(self) -> Keys:
        return self.ranking.user_N

    @property
    def item_N(self) -> Keys:
        return self.ranking.item_N

    @property
    def t_N(self) -> Keys:
        return self.ranking.t_N

    @property
    def retrieved_N(self) -> NDArray[np.bool_]:
        """The rows that a source brought: what a ranker is asked to score at serving."""
        names = self.ranking.feature_names
        columns = [f for f, name in enumerate(names) if name.startswith(RETRIEVAL)]
        return np.asarray((~np.isnan(self.ranking.features_NF[:, columns])).any(axis=1), np.bool_)

    def take(self, keep_N: NDArray[np.bool_]) -> Rows:
        return replace(self, ranking=self.ranking.take(keep_N), exposed_N=self.exposed_N[keep_N])

    def with_items(self, items: CatalogAsOf) -> Rows:
        return replace(self, ranking=replace(self.ranking, items=items))

    def with_valid(self, valid_N: NDArray[np.bool_]) -> Rows:
        return replace(self, ranking=replace(self.ranking, valid_N=valid_N))


def join(parts: Sequence[Rows]) -> Rows:
    """The rows of several passes; groups stay apart."""
    first = parts[0].ranking
    n_groups = [_n_groups(part.ranking) for part in parts]
    starts = np.cumsum([0, *n_groups[:-1]])

    names = ("features_NF", "weight_N", "valid_N", "user_N", "item_N", "t_N")
    stacked: dict[str, Any] = {name: np.concatenate([getattr(p.ranking, name) for p in parts]) for name in names}
    ranking = RankingRows(
        feature_names=first.feature_names,
        user_features=first.user_features,
        labels={name: np.concatenate([p.ranking.labels[name] for p in parts]) for name in first.labels},
        group_N=np.concatenate([p.ranking.group_N + start for p, start in zip(parts, starts, strict=True)]),
        histories={need: _joined([p.ranking.histories[need] for p in parts]) for need in first.histories},
        items=max((p.ranking.items for p in parts), key=lambda items: items.until),
        **stacked,
    )
    return Rows(
        ranking=ranking,
        exposed_N=np.concatenate([p.exposed_N for p in parts]),
        gap={name: max(p.gap.get(name, 0.0) for p in parts) for name in parts[0].gap},
    )


def _n_groups(rows: RankingRows) -> int:
    read = [len(h.indptr_R) - 1 for h in rows.histories.values()]
    return max([int(rows.group_N.max(initial=-1)) + 1, *read])


def _joined(parts: Sequence[Histories]) -> Histories:
    starts = np.cumsum([0, *(len(p.keys_E) for p in parts[:-1])])
    edges = [p.indptr_R[:-1] + start for p, start in zip(parts, starts, strict=True)]
    return Histories(
        indptr_R=np.concatenate([*edges, [starts[-1] + len(parts[-1].keys_E)]]).astype(np.int64),
        keys_E=np.concatenate([p.keys_E for p in parts]),
        at_E=np.concatenate([p.at_E for p in parts]),
        type_E=np.concatenate([p.type_E for p in parts]),
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
        self._t_X = shown[MOMENT].to_numpy()
        self._of: dict[tuple[int, int], list[int]] = {}
        for x, key in enumerate(zip(self._user_X.tolist(), self._t_X.tolist(), strict=True)):
            self._of.setdefault(key, []).append(x)
        self._acts = _acts(self._project, events)
        self._beside: list[_Beside] = []
        self._retrieved: dict[int, Matrix] = {}
        self._online = True

    def add(self, user: int, t: int, candidates: Candidates, until: int, closes: int) -> None:
        """Keeps what was read of exposures, the candidates that the user turned to later, and `[train] negatives` of
        those left alone. Labels look at nothing from `until` on; a window is closed if it ends by `closes`."""
        exposed = np.array(self._of.get((user, t), []), np.int64)
        x_NF = self._names.values(candidates)
        self._online = self._online and candidates.feature_names == self._names.read
        at = {key: n for n, key in enumerate(candidates.keys_N.tolist())}
        for x in exposed.tolist():
            if (n := at.get(int(self._item_X[x]))) is not None:
                self._retrieved[x] = x_NF[n]
        turned, pool = self._beside_rows(user, t, until, candidates.keys_N, self._item_X[exposed])
        n = min(self._project.train.negatives, len(pool))
        rng = stream(self._project.project.seed, "negatives", str(user), str(t))
        rows = np.concatenate([turned, np.sort(rng.choice(pool, n, replace=False)) if n else pool])
        if not len(rows):
            return
        keys = candidates.keys_N[rows].copy()
        weight = np.concatenate([np.ones(len(turned)), np.full(n, len(pool) / max(n, 1))])
        self._beside.append(_Beside(user, t, until, closes, keys, x_NF[rows], weight))

    def build(self) -> Rows:
        """Exposures first, in their order, then what was retrieved beside them; `valid_N` is all False."""
        beside, shown, y_beside = self._beside, self._shown, self._labels()
        of_all = np.repeat(np.arange(len(beside)), [len(b.keys) for b in beside])
        user_N = np.concatenate([self._user_X, np.array([b.user for b in beside], np.int64)[of_all]])
        item_N = np.concatenate([self._item_X, *(b.keys for b in beside)]).astype(np.int64)
        t_N = np.concatenate([self._t_X, np.array([b.t for b in beside], np.int64)[of_all]])
        features_NF, gap = self._values(user_N, item_N, t_N)
        requests, group_N = np.unique(np.stack([t_N, user_N], axis=1), axis=0, return_inverse=True)
        ranking = RankingRows(
            features_NF=features_NF,
            feature_names=self._names.all,
            labels={name: np.concatenate([shown[label(name)].to_numpy(), y_M]) for name, y_M in y_beside.items()},
            group_N=group_N.reshape(-1).astype(np.int64),
            weight_N=np.concatenate([np.ones(len(self._user_X)), *(b.weight for b in beside)]),
            valid_N=np.zeros(len(user_N), np.bool_),
            user_N=user_N,
            item_N=item_N,
            t_N=t_N,
            histories=self._histories(requests),
            user_features=self._names.user,
            items=ranked_items(self._inputs, int(t_N.max(initial=0))),
        )
        return Rows(
            ranking=ranking,
            exposed_N=np.arange(len(user_N)) < len(self._user_X),
            gap=gap,
        )

    def _histories(self, requests_R2: Keys) -> Mapping[HistoryNeed, Histories]:
        """What the rankers want to know of each request's (t, user): the batch plan reads what state held at t."""
        wanted = [need for part in parts_of_all(self._project, RANKERS) for need in part.needs]
        needs = tuple(dict.fromkeys(n for n in wanted if isinstance(n, HistoryNeed)))
        frame = pa.table({T: requests_R2[:, 0], USER: requests_R2[:, 1]})
        return histories(self._features, self._inputs.log.segment_paths(), frame, needs, engine=self._inputs.view())

    def _beside_rows(
        self, user: int, t: int, until: int, keys_N: Keys, exposed: Keys
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(rows that the user turned to later, rows left alone) of what was retrieved beside the exposures."""
        other_N = ~np.isin(keys_N, exposed)
        turned_N = np.isin(keys_N, self._turned_to(user, t, until))
        return np.flatnonzero(other_N & turned_N), np.flatnonzero(other_N & ~turned_N)

    def _turned_to(self, user: int, t: int, until: int) -> Keys:
        """Items that the user acted on within the longest window and before `until`, wherever they found them."""
        within = max((o.within for o in self._project.objective.values()), default=0)
        rows = self._events.rows_of(user, since=t, until=min(t + within, until))
        turned: Keys = self._events.item_E[rows[self._acts[rows]]]
        return turned

    def _labels(self) -> dict[str, Float]:
        """objective → y of everything beside the exposures: what the user did with it, whatever else was shown."""
        beside, n_each = self._beside, [len(b.keys) for b in self._beside]
        columns = {
            USER: [b.user for b in beside],
            T: [b.t for b in beside],
            UNTIL: [b.until for b in beside],
            CLOSES: [b.closes for b in beside],
        }
        table = pa.table({name: np.repeat(np.array(cells, np.int64), n_each) for name, cells in columns.items()})
        keys = np.concatenate([np.empty(0, np.int64), *(b.keys for b in beside)])
        shown = conformed(table.append_column(ITEM, pa.array(keys)), self._project, "retrieved")
        for name in (UNTIL, CLOSES):
            shown = shown.append_column(name, table[name])
        found = labels(self._inputs.view(), self._project, shown, alone=True)
        return {name: found[label(name)].to_numpy() for name in self._project.objective}

    def _values(self, user_N: Keys, item_N: Keys, t_N: Keys) -> tuple[Matrix, dict[str, float]]:
        """(float32 [N, F] of all rows; per feature the share of exposures that requests read otherwise)."""
        n_exposed, n_read = len(self._user_X), len(self._names.read)
        beside_NF = np.concatenate(
            [np.empty((0, len(self._names.all)), np.float32), *(b.features for b in self._beside)]
        )
        n_batch = n_exposed if self._online else len(user_N)
        frame = pa.table({USER: user_N[:n_batch], ITEM: item_N[:n_batch], T: t_N[:n_batch]})
        x_NF = batch_features(self._inputs, self._features, frame, self._names)
        if self._online:
            x_NF = np.concatenate([x_NF, beside_NF])
        else:
            x_NF[n_exposed:, n_read:] = beside_NF[:, n_read:]
        rows = np.array(sorted(self._retrieved), np.int64)
        if not len(rows):
            return x_NF, {}
        online = np.stack([self._retrieved[x] for x in rows.tolist()])
        batch_RF = x_NF[rows, :n_read]
        # The sources' scores exist online only.
        x_NF[rows, n_read:] = online[:, n_read:]
        if not self._online:
            return x_NF, {}
        differ = ~np.isclose(batch_RF, online[:, :n_read], rtol=1e-5, atol=1e-6, equal_nan=True)
        return x_NF, dict(zip(self._names.read, differ.mean(axis=0).tolist(), strict=True))


@dataclass(frozen=True)
class Names:
    """The columns of a row: `read` from state or log (`user`: those of them that are the requester's), then one
    `retrieval.<source>` per source."""

    read: tuple[str, ...]
    sources: tuple[str, ...]
    user: tuple[str, ...] = ()

    @staticmethod
    def of(features: FeatureSet, sources: Iterable[str]) -> Names:
        user = tuple(column.name for column in features.user_columns)
        return Names((*(column.name for column in features.item_columns), *user), tuple(sources), user)

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.read, *(RETRIEVAL + name for name in self.sources))

    def values(self, candidates: Candidates) -> Matrix:
        """float32 [N, F] of a request's candidates in this order; NaN where a source did not bring the candidate, and
        where the request did not read these features."""
        at = {name: s for s, name in enumerate(candidates.source_names)}
        x_NF = np.full((len(candidates), len(self.all)), np.nan, np.float32)
        if candidates.feature_names == self.read:
            x_NF[:, : len(self.read)] = candidates.features_NF
        for f, name in enumerate(self.sources, start=len(self.read)):
            if name in at:
                x_NF[:, f] = candidates.retrieval_NS[:, at[name]]
        return x_NF


@dataclass(frozen=True)
class _Beside:
    """What sources retrieved for one request beside its exposures."""

    user: int
    t: int
    until: int
    closes: int
    keys: Keys
    features: Matrix
    weight: Float


def read_as_of_moments(shown: pa.Table) -> pa.Table:
    """user, item, t of exposures, t being when their situation began: when features of all its rows are read."""
    return shown.select([USER, ITEM, MOMENT]).rename_columns([USER, ITEM, T])


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

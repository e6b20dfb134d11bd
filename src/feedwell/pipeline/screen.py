"""From what was retrieved to what is scored: merged, filtered, cut, with the item side read.

Who drops a row is its reason, and every row of `Pool.all` keeps one: the accounting of a request is this table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Candidates, Float, Retrieved, merge
from feedwell.core.keys import contains
from feedwell.core.protocols import Filter
from feedwell.core.request import NO_KEYS, Keys, Request
from feedwell.pipeline.ask import Reader
from feedwell.pipeline.contained import Contained
from feedwell.pipeline.notes import Notes
from feedwell.pipeline.returned import sound_mask

if TYPE_CHECKING:
    from feedwell.pipeline.compile import Pipeline


@dataclass(frozen=True, kw_only=True)
class Pool:
    """`all` that was retrieved with what became of each row; `live` are the rows still in, at `rows` of `all`."""

    all: Candidates
    live: Candidates
    rows: NDArray[np.intp]

    @staticmethod
    def of(candidates: Candidates) -> Pool:
        return Pool(all=candidates, live=candidates, rows=np.arange(len(candidates)))

    def keep(self, keep_n: NDArray[np.bool_], reason: str) -> Pool:
        """Without the live rows that `keep_n` rules out, which get `reason`."""
        if keep_n.all():
            return replace(self, all=replace(self.all, reasons=(*self.all.reasons, reason)))
        drop_N = np.zeros(len(self.all), np.bool_)
        drop_N[self.rows[~keep_n]] = True
        return Pool(all=self.all.dropped(drop_N, reason), live=self.live.take(keep_n), rows=self.rows[keep_n])


def screened(
    pipeline: Pipeline, request: Request, retrieved: Mapping[str, Retrieved], reader: Reader, notes: Notes
) -> tuple[Pool, Candidates | None]:
    """Merged, filtered, cut and with the item side read; and the rows of what this scroll has shown."""
    with notes.stage("merge"):
        pool = Pool.of(_interleaved(merge(list(retrieved.items()))))
    with notes.stage("filters"):
        for reason, keys in (("filter.exclude", request.exclude), ("filter.shown", np.sort(request.prefix))):
            if len(keys):
                pool = pool.keep(~contains(keys, pool.live.keys_N), reason)
        pool = _filtered(pipeline.early_filters, request, pool, notes)
        limit = max(request.n, math.ceil(pipeline.project.serving.max_candidates * request.width))
        if len(pool.live) > limit:
            pool = pool.keep(np.arange(len(pool.live)) < limit, "cut.candidates")
    with notes.stage("item_side"):
        live, shown = _with_items(pipeline, request, pool.live, reader)
    with notes.stage("filters"):
        return _filtered(pipeline.late_filters, request, replace(pool, live=live), notes), shown


def ruled_out(pipeline: Pipeline, request: Request, keys_N: Keys, reader: Reader, notes: Notes) -> Keys:
    """Those of the objects that a declared filter would drop had a source brought them: sorted keys."""
    pool = _filtered(pipeline.early_filters, request, Pool.of(bare(keys_N)), notes)
    if pipeline.late_filters:
        live, _ = _with_items(pipeline, replace(request, prefix=NO_KEYS), pool.live, reader)
        pool = _filtered(pipeline.late_filters, request, replace(pool, live=live), notes)
    out: Keys = np.setdiff1d(keys_N, pool.live.keys_N)
    return out


def _interleaved(candidates: Candidates) -> Candidates:
    """The sources' best first, taking turns in declared order: the retrieval order that cuts and NaN rows use."""
    rank_NS = np.full(candidates.retrieval_NS.shape, len(candidates))
    for s in range(len(candidates.source_names)):
        rows = np.flatnonzero(candidates.sources_N & np.uint64(1 << s))
        rank_NS[rows, s] = np.arange(len(rows))
    if len(candidates.source_names) < 2:
        return candidates
    return candidates.take(np.lexsort((rank_NS.argmin(1), rank_NS.min(1))))


def _filtered(filters: Mapping[str, Filter], request: Request, pool: Pool, notes: Notes) -> Pool:
    """Drops what each filter rules out. One that fails rules out everything: not serving beats serving the blocked."""
    for name, part in filters.items():
        n = len(pool.live)
        keep_n = np.full(n, getattr(part, "fail_open", False))
        with Contained(partial(notes.failed, name)):
            keep_n = sound_mask(part(request, pool.live), n) if n else keep_n
        pool = pool.keep(keep_n, name)
    return pool


def _with_items(
    pipeline: Pipeline, request: Request, live: Candidates, reader: Reader
) -> tuple[Candidates, Candidates | None]:
    """One batched read for the candidates and for what this scroll has shown."""
    shown = bare(request.prefix) if len(request.prefix) else None
    keys_M = live.keys_N if shown is None else np.concatenate([live.keys_N, shown.keys_N])
    names = pipeline.item_columns
    if names and len(keys_M):
        read_MF = np.asarray(reader.item_side(request.user, keys_M, request.t), np.float64)
    else:
        read_MF = np.full((len(keys_M), len(names)), np.nan)
    read_MF = np.where(np.isfinite(read_MF), read_MF, np.nan)
    user_F = np.array([request.side.features.get(name, np.nan) for name in pipeline.user_columns], np.float32)
    n = len(live)
    return _featured(pipeline, live, read_MF[:n], user_F), shown and _featured(pipeline, shown, read_MF[n:], user_F)


def _featured(pipeline: Pipeline, rows: Candidates, read_NF: Float, user_F: NDArray[np.float32]) -> Candidates:
    n = len(rows)
    with np.errstate(over="ignore"):
        features_NF = np.concatenate([read_NF.astype(np.float32), np.broadcast_to(user_F, (n, len(user_F)))], axis=1)
    columns = {
        name: locked(np.ascontiguousarray(read_NF[:, f])) for f, name in enumerate(pipeline.item_columns) if "." in name
    }
    group_N = columns.get(pipeline.group_column)
    return rows.with_columns(
        features_NF=locked(features_NF),
        feature_names=(*pipeline.item_columns, *pipeline.user_columns),
        columns=columns,
        group_N=rows.group_N if group_N is None else locked(np.where(np.isnan(group_N), -1, group_N).astype(np.int64)),
    )


def bare(keys_N: Keys) -> Candidates:
    return merge([("shown", Retrieved(keys_N=keys_N, scores_N=np.full(len(keys_N), np.nan)))])


def locked(column: NDArray[Any]) -> NDArray[Any]:
    """The column, read-only from now on: it is handed over."""
    column.setflags(write=False)
    return column

"""asof: the batch reading. What each feature would have read at t, for millions of (t, keys) at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core import columns as c
from feedwell.core.errors import UsageError
from feedwell.core.event import NO_KEY
from feedwell.core.needs import HistoryNeed
from feedwell.core.protocols import Histories
from feedwell.engines import Engine, LocalEngine
from feedwell.features.definition import FeatureSet
from feedwell.features.feature_column import Entities, FeatureColumn
from feedwell.features.measures import Active, ActiveTally, CatalogNumber, Decayed, Measure, Moment, Selection, Windowed
from feedwell.features.memory import require_memory
from feedwell.features.probe import Edges, Probe, relation_moves
from feedwell.features.scan import BatchLog, CatalogLog, read_catalog, read_log
from feedwell.features.views import Facts, Relation

Ints = NDArray[np.int64]
_ENGINE = LocalEngine()


def asof(
    features: FeatureSet,
    segments: Sequence[Path],
    frame: pa.Table,
    *,
    columns: Iterable[str] | None = None,
    sequences: bool = True,
    engine: Engine = _ENGINE,
) -> pa.Table:
    """One row per frame row, in its order: the frame's keys (derived ones resolved as of t), then every feature column.

    `frame` has `t` (int64 µs) and key columns; a missing or null user or item is -1 and reads as a key without events.
    `columns` chooses some feature columns; `sequences` adds each last_n feature as two list columns, `<name>` (object
    keys, oldest first) and `<name>_at`. UsageError if `t` is missing; Unavailable if memory would not do.
    """
    if c.T not in frame.column_names:
        raise UsageError(f"a frame for as-of features needs a column 't' (µs); it has {frame.column_names}")
    wanted = None if columns is None else set(columns)
    chosen = [f for f in features.columns if wanted is None or f.name in wanted]
    sizes = {"n_rows": frame.num_rows, "n_columns": len(chosen)}
    require_memory("as-of features", engine, segments, features.views, **sizes)
    return _Reading(features, segments, frame, engine).table(chosen, sequences)


def histories(
    features: FeatureSet,
    segments: Sequence[Path],
    frame: pa.Table,
    needs: Sequence[HistoryNeed],
    *,
    engine: Engine = _ENGINE,
) -> dict[HistoryNeed, Histories]:
    """The last events of each row's `user` at `t`, per need: row for row what the online state held then."""
    if not needs:
        return {}
    reading = _Reading(features, segments, frame, engine)
    return {need: reading.history(need) for need in needs}


class _Reading:
    """One frame against one log: keys, edges and probes are made once and shared by all columns."""

    def __init__(
        self,
        features: FeatureSet,
        segments: Sequence[Path],
        frame: pa.Table,
        engine: Engine,
    ) -> None:
        self._features, self._segments, self._engine = features, segments, engine
        self._t_R = _ints(frame, c.T)
        self._frame = frame
        self._log: BatchLog = read_log(engine, segments, features.views)
        self._edges = Edges(self._log.at_E, self._t_R)
        self._keys: dict[str, Ints] = {}
        self._catalogs: dict[str, tuple[CatalogLog, NDArray[np.intp]]] = {}
        self._values: dict[tuple[Entities, Measure], NDArray[np.generic]] = {}
        self._moves: dict[str, Ints] = {}

    def table(self, columns: Sequence[FeatureColumn], sequences: bool) -> pa.Table:
        by_entities: dict[Entities, list[FeatureColumn]] = {}
        for column in columns:
            by_entities.setdefault(column.entities, []).append(column)
        found: dict[str, NDArray[np.float64]] = {}
        for entities, group in by_entities.items():
            self._measure(entities, group)
            for column in group:
                values = [self._values[entities, m] for m in column.measures]
                found[column.name] = column.aggregate.finish(values, self._t_R)
            self._values.clear()
        used = dict.fromkeys(e for column in columns for e in column.entities)
        out: dict[str, pa.Array | NDArray[np.generic]] = {c.T: self._t_R}
        out |= {e: self.key(e) for e in dict.fromkeys([*self._frame_entities(), *used])}
        out |= {column.name: found[column.name] for column in columns}
        if sequences:
            for name, need in self._features.sequences.items():
                keys, at, edges = self.sequence(need)
                offsets = pa.array(edges, pa.int64())
                out[name] = pa.LargeListArray.from_arrays(offsets, pa.array(keys))
                out[f"{name}_at"] = pa.LargeListArray.from_arrays(offsets, pa.array(at))
        return pa.table(out)

    def _frame_entities(self) -> list[str]:
        return [e for e in self._features.project.entities if e in self._frame.column_names]

    def key(self, entity: str) -> Ints:
        """The frame's key column; a derived entity's key as of t; -1 where nothing says."""
        if entity not in self._keys:
            origin = self._features.project.derived_entities.get(entity)
            if entity in self._frame.column_names:
                self._keys[entity] = _ints(self._frame, entity)
            elif origin is None:
                self._keys[entity] = np.full(len(self._t_R), NO_KEY, np.int64)
            else:
                log, row = self._catalog(origin[0])
                names = [name for name, _ in self._features.catalogs[origin[0]].derived]
                self._keys[entity] = _taken(log.derived_CD[:, names.index(entity)], row, NO_KEY)
        return self._keys[entity]

    def _catalog(self, entity: str) -> tuple[CatalogLog, NDArray[np.intp]]:
        if entity not in self._catalogs:
            log = read_catalog(self._engine, self._segments, self._features.catalogs[entity])
            self._catalogs[entity] = log, log.newest(self.key(entity), self._t_R)
        return self._catalogs[entity]

    def _number(self, measure: CatalogNumber) -> NDArray[np.float64]:
        log, row = self._catalog(measure.entity)
        view = self._features.catalogs[measure.entity]
        for i, (_, column) in enumerate(view.derived):
            if column == measure.column:
                keys = _taken(log.derived_CD[:, i], row, NO_KEY)
                return np.where(keys < 0, np.nan, keys.astype(np.float64))
        return _taken(log.columns_CN[:, view.columns.index(measure.column)], row, np.nan)

    def _measure(self, entities: Entities, columns: Sequence[FeatureColumn]) -> None:
        """All measures of one key tuple; its probe lives only as long, for it holds arrays as long as the log."""
        wanted = list(dict.fromkeys(m for column in columns for m in column.measures))
        probe: Probe | None = None
        for measure in wanted:
            if isinstance(measure, CatalogNumber):
                self._values[entities, measure] = self._number(measure)
            elif isinstance(measure, Active):
                self._values[entities, measure] = self._active(measure)
            else:
                probe = probe or self._probe(self._features.facts[entities])
                self._values[entities, measure] = _read(probe, measure)

    def _probe(self, view: Facts) -> Probe:
        chosen = np.zeros(len(self._log), np.bool_)
        moves: dict[str, Ints] = {}
        for relation in view.relations:
            moves[relation.event] = self._move(relation)
            chosen |= moves[relation.event] != 0
        tallies = [t.selection for t in view.tallies if not isinstance(t, ActiveTally)]
        for selection in dict.fromkeys([*tallies, *(p.selection for p in view.cells)]):
            chosen |= self._log.mask(selection)
        return self._probe_of(view.entities, chosen, moves)

    def _probe_of(self, entities: Entities, chosen: NDArray[np.bool_], moves: dict[str, Ints]) -> Probe:
        keys_E = [self._log.keys[e] for e in entities]
        return Probe(self._log, self._edges, keys_E, [self.key(e) for e in entities], chosen, moves)

    def _move(self, relation: Relation) -> Ints:
        if relation.event not in self._moves:
            self._moves[relation.event] = relation_moves(self._log, relation.event, relation.undone_by, relation.object)
        return self._moves[relation.event]

    def _active(self, measure: Active) -> Ints:
        relations = [self._features.relations[event] for event in measure.events]
        moves = {r.event: self._move(r) for r in relations}
        chosen = np.any(np.stack([m != 0 for m in moves.values()]), axis=0)
        probe = self._probe_of(("user", measure.object), chosen, moves)
        standing = np.stack([probe.tally(ActiveTally(event), None) for event in measure.events])
        active: Ints = np.any(standing > 0, axis=0).astype(np.int64)
        return active

    def sequence(self, need: HistoryNeed) -> tuple[Ints, Ints, Ints]:
        at, edges = self._last(need)
        return self._log.keys[need.object][at], self._log.at_E[at], edges

    def history(self, need: HistoryNeed) -> Histories:
        if not len(self._log):
            nothing = np.empty(0, np.int64)
            edges = np.zeros(len(self._t_R) + 1, np.int64)
            return Histories(indptr_R=edges, keys_E=nothing, at_E=nothing, type_E=nothing.astype(np.int16))
        at, edges = self._last(need)
        place = {name: i for i, name in enumerate(need.events)}
        type_E = np.array([place.get(name, -1) for name in self._log.types], np.int16)[self._log.type_E[at]]
        return Histories(
            indptr_R=edges.astype(np.int64),
            keys_E=self._log.keys[need.object][at],
            at_E=self._log.at_E[at],
            type_E=type_E,
        )

    def _last(self, need: HistoryNeed) -> tuple[Ints, Ints]:
        """(events, edges): the events of row r are `events[edges[r] : edges[r + 1]]`."""
        selection = Selection(need.events)
        chosen = self._log.mask(selection) & (self._log.keys[need.object] >= 0)
        return self._probe_of(("user",), chosen, {}).last_n(selection, need.n)


def _read(probe: Probe, measure: Measure) -> NDArray[np.generic]:
    match measure:
        case Windowed():
            return probe.tally(measure.tally, measure.window)
        case Decayed():
            return probe.decayed(measure.tally, measure.half_life)
        case Moment():
            return probe.moment(measure)
        case _:
            return probe.last_value(measure)  # type: ignore[arg-type]


def _ints(table: pa.Table, name: str) -> Ints:
    column = table.column(name)
    if column.null_count:
        column = column.fill_null(NO_KEY)
    values: Ints = column.to_numpy().astype(np.int64, copy=False)
    return values


def _taken(column: NDArray[Any], row: NDArray[np.intp], missing: float) -> NDArray[Any]:
    """column[row], `missing` where row is -1."""
    if len(column) == 0:
        return np.full(len(row), missing, column.dtype)
    return np.where(row < 0, np.array(missing, column.dtype), column[np.maximum(row, 0)])

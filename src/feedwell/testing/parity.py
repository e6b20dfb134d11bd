"""Parity: whether all readings of a project's features give the same values over generated logs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feedwell.core.project import Project
from feedwell.features import FeatureSet, Fold, StateReader, asof, hydrate, reference
from feedwell.stores.log.schema import event_schema
from feedwell.stores.state import MemoryState, StateStore
from feedwell.testing.generated import Event, GeneratedLog

DECAYED_TOLERANCE = 1e-9


@dataclass(kw_only=True)
class Comparison:
    """How many values were compared per (reading, aggregate), and those that differ."""

    compared: Counter[tuple[str, str]] = field(default_factory=Counter)
    mismatches: list[str] = field(default_factory=list)

    def check(
        self,
        reading: str,
        features: FeatureSet,
        row: Mapping[str, Any],
        got: Mapping[str, Any],
        want: Mapping[str, Any],
    ) -> None:
        for name, value in got.items():
            if name in features.sequences or name.removesuffix("_at") in features.sequences:
                kind, same = "last_n", list(value) == list(want[name])
            else:
                kind = features.column(name).aggregate.name
                same = _same(kind, float(value), float(want[name]))
            self.compared[reading, kind] += 1
            if not same:
                self.mismatches.append(f"{reading} {name} at {dict(row)}: {value!r}, expected {want[name]!r}")

    def by_aggregate(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for (_, kind), n in self.compared.items():
            total[kind] += n
        return dict(sorted(total.items()))


def _same(kind: str, got: float, want: float) -> bool:
    if kind == "decayed_count":
        return math.isclose(got, want, rel_tol=DECAYED_TOLERANCE, abs_tol=0.0)
    return got == want or (math.isnan(got) and math.isnan(want))


def compare_readings(
    project: Project, log: GeneratedLog, folder: Path, seed: int, *, state: StateStore | None = None
) -> Comparison:
    """asof, fold + latest and hydrate + latest against reference, over every row of every frame."""
    features = FeatureSet.compile(project)
    rows = [row for frame in log.frames for row in frame]
    owner = [i for i, frame in enumerate(log.frames) for _ in frame]
    split: list[list[Event]] = [[] for _ in range(log.n_logs)]
    for event in log.events:
        split[event["_log"]].append(event)
    want = [w for i, frame in enumerate(log.frames) for w in reference(features, split[i], frame)]
    segments = write_segments(log.table(project), folder, seed)
    found = Comparison()
    frame = pa.table({k: pa.array([r[k] for r in rows], pa.int64()) for k in ("t", "user", "item")})
    table = asof(features, segments, frame)
    names = [n for n in table.column_names if n in want[0]] if want else []
    columns = {n: table.column(n).to_pylist() for n in names}
    for i, row in enumerate(rows):
        found.check("asof", features, row, {n: columns[n][i] for n in names}, want[i])
    for reading, at in (
        ("fold", _states_by_fold(features, log, seed, state)),
        ("hydrate", _states_by_hydrate(features, log, segments)),
    ):
        for t, reader in at:
            for i in (i for i, row in enumerate(rows) if row["t"] == t):
                found.check(
                    reading, features, {**rows[i], "log": owner[i]}, read_row(features, reader, rows[i]), want[i]
                )
    return found


def read_row(features: FeatureSet, reader: StateReader, row: Mapping[str, int]) -> dict[str, Any]:
    """One frame row as serving reads it."""
    side = reader.user_side(row["user"], row["t"])
    items = reader.item_side(row["user"], np.array([row["item"]]), row["t"])[0]
    got: dict[str, Any] = dict(side.features)
    got |= {column.name: float(value) for column, value in zip(features.item_columns, items, strict=True)}
    for name, need in features.sequences.items():
        got[name] = side.histories[need].keys_L.tolist()
        got[f"{name}_at"] = side.histories[need].at_L.tolist()
    return got


def write_segments(table: pa.Table, folder: Path, seed: int, n: int = 3) -> list[Path]:
    """The log cut at random into `n` Parquet files, some perhaps empty."""
    rng = np.random.default_rng(seed)
    cuts = [0, *sorted(rng.integers(0, len(table) + 1, n - 1).tolist()), len(table)]
    paths = []
    for i, (a, b) in enumerate(itertools.pairwise(cuts)):
        paths.append(folder / f"segment-{seed}-{i}.parquet")
        pq.write_table(table.slice(a, b - a), paths[-1])
    return paths


def _states_by_fold(
    features: FeatureSet, log: GeneratedLog, seed: int, state: StateStore | None
) -> Iterator[tuple[int, StateReader]]:
    """The state folded up to each time, in batches of random length."""
    rng = np.random.default_rng(seed)
    state = state or MemoryState()
    fold = Fold([features], state)
    table = log.table(features.project)
    at = table.column("available_at").to_numpy() if len(table) else np.empty(0, np.int64)
    done = 0
    for t in log.times:
        end = int(np.searchsorted(at, t))
        while done < end:
            size = int(rng.integers(1, 2 + (end - done)))
            fold.fold(table.slice(done, min(size, end - done)))
            done = min(done + size, end)
        with StateReader.open(features, state) if end else _nothing(features) as reader:
            yield t, reader


def _nothing(features: FeatureSet) -> StateReader:
    state = MemoryState()
    Fold([features], state).fold(event_schema(features.project.entities).empty_table())
    hydrate(features, [], state, epoch=0, upto_offset=-1)
    return StateReader.open(features, state)


def _states_by_hydrate(
    features: FeatureSet, log: GeneratedLog, segments: Sequence[Path]
) -> Iterator[tuple[int, StateReader]]:
    at = [e["available_at"] for e in log.events]
    for t in log.times:
        state = MemoryState()
        hydrate(features, segments, state, epoch=1, upto_offset=int(np.searchsorted(at, t)) - 1)
        with StateReader.open(features, state) as reader:
            yield t, reader

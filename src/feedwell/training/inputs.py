"""Inputs: the stores and the project that one training run works on, opened by the caller."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa

from feedwell.core.clock import Clock
from feedwell.core.columns import USER
from feedwell.core.project import Project
from feedwell.data.log_view import LogView
from feedwell.engines.local import LocalEngine
from feedwell.pipeline.replay import batches_of
from feedwell.stores.log import EventLog
from feedwell.stores.releases import ReleaseStore

Progress = Callable[[str, int, int | None], None]
"""(what is being done, how much of it is done, of how much; None: not known)"""


class Records(Protocol):
    def scan(self) -> pa.Table: ...


def silent(_stage: str, _done: int, _of: int | None) -> None:
    """No progress is shown."""


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """What a part that fits for long is given beside its data: whom it tells how far it is, and a folder (`work`) for
    what a killed fit goes on from and for what is too large for memory; None: neither."""

    progress: Progress = silent
    work: Path | None = None


ALONE = Fitting()
"""Nobody is told, nothing is kept."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What `train` reads and writes. The caller has sealed the log: batch work reads segments only.

    `records` None: nothing was served yet. `progress` is told each stage and how far it is; `work` is for fits.
    """

    project: Project
    project_text: str
    environment: str | None = None
    log: EventLog
    releases: ReleaseStore
    clock: Clock
    records: Records | None = None
    progress: Progress = silent
    work: Path | None = None
    engine: LocalEngine = field(default_factory=LocalEngine)

    @property
    def fitting(self) -> Fitting:
        return Fitting(progress=self.progress, work=self.work)

    def view(self, until: int | None = None) -> LogView:
        """The sealed log as SQL, without forgotten users."""
        return LogView(
            segments=tuple(self.log.segment_paths()),
            entities=self.project.entities,
            forgotten=tuple(sorted(self.log.forgotten())),
            until=until,
            engine=self.engine,
        )

    def slots(self) -> pa.Table | None:
        """Every slot that was served, as `exposures` takes it; None before the first.

        A user whom the log did not know at serving has the key that they got later.
        """
        table = self.records.scan() if self.records is not None else None
        return self._with_keys(table) if table is not None and table.num_rows else None

    def _with_keys(self, table: pa.Table) -> pa.Table:
        user_X = table[USER].to_numpy().copy()
        new = np.flatnonzero(user_X < 0)
        if not len(new) or "user_id" not in table.column_names:
            return table
        ids, place = np.unique(table["user_id"].take(pa.array(new)).to_numpy().astype(str), return_inverse=True)
        user_X[new] = self.log.ids.lookup("user", ids.tolist())[place.reshape(-1)]
        return table.set_column(table.schema.get_field_index(USER), USER, pa.array(user_X))

    def batches(self) -> Iterator[pa.Table]:
        """The whole log in order."""
        return batches_of(cast(Any, self.log))


@dataclass
class Cost:
    """What stages cost: CPU seconds of the process, wall seconds, its peak resident memory so far."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0

    def to_dict(self) -> dict[str, float]:
        return {"cpu_s": round(self.cpu_s, 3), "wall_s": round(self.wall_s, 3), "peak_mb": round(self.peak_mb, 1)}


@contextmanager
def measured() -> Iterator[Cost]:
    """A Cost that is filled in when the block ends."""
    cost, cpu, wall = Cost(), time.process_time(), time.perf_counter()
    yield cost
    cost.cpu_s, cost.wall_s = time.process_time() - cpu, time.perf_counter() - wall
    cost.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Laps:
    """What successive stages cost: each `end` closes the stage that began at the last one."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = {}
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def end(self, stage: str) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.costs[stage] = Cost(cpu_s=cpu - self._cpu, wall_s=wall - self._wall, peak_mb=peak_mb)
        self._cpu, self._wall = cpu, wall

    def to_dict(self) -> dict[str, dict[str, float]]:
        return {stage: cost.to_dict() for stage, cost in self.costs.items()}

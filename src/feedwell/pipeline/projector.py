"""The projector: the one process that folds the log into the online state, elected by a file lock.

    log.read(position) → Fold.fold → (state and offset in one transaction) → seal what is folded, now and then

A new epoch (history was loaded) is built aside from the sealed log and swapped in; the old state serves until then.
A feature set that cannot be kept is left out, so that those which releases serve go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Protocol

import pyarrow as pa

from feedwell.core import columns as c
from feedwell.core.errors import Unavailable
from feedwell.core.telemetry import Telemetry
from feedwell.data.log_view import LogView
from feedwell.features import FeatureSet, Fold, hydrate
from feedwell.features.statefile import read_head
from feedwell.pipeline.contained import Contained
from feedwell.stores.durable import file_lock
from feedwell.stores.state import StateDirectory, StateStore

BATCH = 10_000
SEAL_ABOVE = 200_000
"""Hot rows beyond which folded ones are sealed."""
_IDLE_S, _ERROR_S, _PATIENCE_S = 0.005, 0.5, 600.0
_AGAIN_S = 60.0
"""How long a feature set that could not be built waits for the next try: each reads the whole log."""
_log = logging.getLogger("feedwell.projector")


class Log(Protocol):
    @property
    def entities(self) -> tuple[str, ...]: ...
    @property
    def epoch(self) -> int: ...
    def high_water(self) -> tuple[int, int]: ...
    def read(self, after_offset: int, limit: int) -> pa.Table: ...
    def seal(self, upto_offset: int) -> int: ...
    def sealed_upto(self) -> int: ...
    def segment_paths(self) -> list[Path]: ...
    def forgotten(self) -> frozenset[int]: ...


class Projector:
    """`feature_sets()` are those of all retained releases and of the project as it is; asked again now and then.

    `folder` is the project's `.feedwell`.
    """

    def __init__(
        self,
        folder: Path,
        log: Log,
        feature_sets: Callable[[], Sequence[FeatureSet]],
        *,
        telemetry: Telemetry | None = None,
        seal_above: int = SEAL_ABOVE,
        batch: int = BATCH,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.states = StateDirectory(folder / "state.lmdb")
        self.telemetry = telemetry or Telemetry()
        self._lock_file = folder / "projector.lock"
        self._log = log
        self._feature_sets = feature_sets
        self._seal_above = seal_above
        self._batch = batch
        self._state: StateStore | None = None
        self._fold: Fold | None = None
        self._epoch = -1
        self._after = -1
        self._sets: list[FeatureSet] = []
        self._again_at: dict[str, float] = {}
        self._told: set[str] = set()

    def catch_up(self, *, patience_s: float = _PATIENCE_S) -> int:
        """Returns once everything that the log held at the call is folded; how many events this call folded itself.

        Where another process is the projector it waits for that one; Unavailable when its patience ends.
        """
        target = self._log.high_water()[0]
        deadline = monotonic() + patience_s
        while not self._folded_elsewhere(target):
            with ExitStack() as held:
                if self._elected(held):
                    self.refresh()
                    return self._fold_to_end()
            if monotonic() > deadline:
                raise Unavailable(
                    f"waiting for the projector: it has not folded offset {target} within {patience_s:.0f} s; "
                    "look at its log, or stop the process that holds projector.lock"
                )
            sleep(0.02)
        return 0

    def _elected(self, held: ExitStack) -> bool:
        try:
            held.enter_context(file_lock(self._lock_file, wait=False))
        except Unavailable:
            return False
        return True

    def run_forever(self, stop: threading.Event, *, refresh_s: float = 1.0) -> None:
        """Folds until `stop` is set; waits for the lock as long as another process holds it. An error is logged and
        counted, the state opened anew, and folding resumes where the last commit left it."""
        while not stop.is_set():
            with Contained(partial(self._failed, stop)), ExitStack() as held:
                if self._elected(held):
                    self._follow(stop, refresh_s)
                else:
                    stop.wait(_ERROR_S)
        self.close()

    def _failed(self, stop: threading.Event, error: Exception) -> None:
        _log.error("the projector failed; it resumes after the last commit", exc_info=error)
        self.telemetry.count("projector_errors")
        self.close()
        stop.wait(_ERROR_S)

    def refresh(self, *, contained: bool = False) -> None:
        """Opens or builds the state of the log's epoch and takes up feature sets that were added. The lock is held.

        `contained`: a set that cannot be built is told, left out and tried again later, unless none is left.
        Views that no feature set declares any more are dropped by `run_forever` only: a short-lived caller need not
        know every release that others serve.
        """
        epoch = self._log.epoch
        sets = self._offered()
        if self.states.epoch != epoch or not self._opens():
            sets = self._build(epoch, sets, contained)
        if self._state is None or self._epoch != epoch:
            self._close_state()
            self._state, self._epoch = self.states.open(), epoch
        fold = Fold(sets, self._state, epoch=epoch)
        if self._fold is None or {v.digest for v in fold.views} != {v.digest for v in self._fold.views}:
            with self._state.read() as txn:
                head = read_head(txn)
            if head is not None and fold.position < head.offset:
                sets = self._hydrate(sets, self._state, head.offset, contained)
                fold = Fold(sets, self._state, epoch=epoch)
            self._fold, self._after, self._sets = fold, -1, sets
        # Forgotten users' events at the end are stepped over in memory only, so that this may be ahead of the state.
        self._after = max(self._after, fold.position)

    @property
    def lag(self) -> int:
        """Events in the log that are not folded yet."""
        return max(0, self._log.high_water()[0] - self._after)

    def close(self) -> None:
        self._close_state()

    def _follow(self, stop: threading.Event, refresh_s: float) -> None:
        self.close()
        due = 0.0
        while not stop.is_set():
            if monotonic() >= due:
                before = self._fold
                self.refresh(contained=True)
                if self._fold is not None and self._fold is not before:
                    self._fold.drop_others()
                due = monotonic() + refresh_s
            if self._fold_one() is None:
                self.telemetry.gauge("projector_lag_events", self.lag)
                stop.wait(_IDLE_S)

    def _fold_to_end(self) -> int:
        n = 0
        while (folded := self._fold_one()) is not None:
            n += folded
        return n

    def _fold_one(self) -> int | None:
        """How many events the next batch had; None at the end of the log."""
        if self._fold is None:
            raise Unavailable("the projector has no state open: call refresh first")
        batch = self._log.read(self._after, self._batch)
        if self._log.epoch != self._epoch:
            # History was loaded meanwhile, and the batch may hold some: a new state is built from it instead.
            self.refresh()
            return 0
        if not batch.num_rows:
            return self._skip_forgotten()
        begin = monotonic()
        self._fold.fold(batch)
        self._after = batch[c.OFFSET][-1].as_py()
        self.telemetry.count("projector_events", batch.num_rows)
        self.telemetry.observe_ms("projector_batch", (monotonic() - begin) * 1e3)
        self._seal_if_due()
        return int(batch.num_rows)

    def _skip_forgotten(self) -> int | None:
        """An empty read is the end of the log, or a stretch of events of forgotten users: those are stepped over.

        Read once more below an end that is known: what was appended since the first read is no such stretch.
        """
        end = self._log.high_water()[0]
        if self._after >= end:
            return None
        if not self._log.read(self._after, self._batch).num_rows:
            self._after = min(end, self._after + self._batch)
        return 0

    def _seal_if_due(self) -> None:
        if self._after - self._log.sealed_upto() > self._seal_above:
            self.telemetry.count("projector_sealed", self._log.seal(self._after))

    def _opens(self) -> bool:
        """Whether the current state can be used: a power cut may have torn it, and then it is built again."""
        if self._state is not None:
            return True
        try:
            self._state, self._epoch = self.states.open(), self.states.epoch
        except Unavailable as error:
            _log.warning("building the online state again: %s", error)
            (self.states.folder / "current").unlink(missing_ok=True)
            return False
        return True

    def _offered(self) -> list[FeatureSet]:
        """The feature sets that this process can keep now; those before where it can keep none of today's.

        The log was opened with the entities of its time: what needs another one waits for a restart (decision 0011).
        """
        found = []
        for features in self._feature_sets():
            if absent := sorted(set(features.project.entities) - set(self._log.entities)):
                self._tell(features, f"this process opened the log without {', '.join(absent)}: restart it")
            elif monotonic() >= self._again_at.get(features.version, 0.0):
                found.append(features)
        return found or self._sets

    def _tell(self, features: FeatureSet, why: str) -> None:
        text = f"features {features.version} are left out of the online state: {why}"
        if text not in self._told:
            _log.error(text)
        self._told.add(text)

    def _leave_out(self, features: FeatureSet, error: Exception) -> None:
        self.telemetry.count("projector_errors")
        self._tell(features, f"{type(error).__name__}: {error}")
        self._again_at[features.version] = monotonic() + _AGAIN_S

    def _build(self, epoch: int, sets: list[FeatureSet], contained: bool) -> list[FeatureSet]:
        """A state of that epoch from the sealed log, aside, then swapped in. Without segments folding will do."""
        self._close_state()
        state = self.states.fresh(epoch)
        try:
            kept = self._hydrate(sets, state, self._log.high_water()[0], contained)
        finally:
            state.close()
        self.states.swap(epoch)
        return kept

    def _hydrate(self, sets: list[FeatureSet], state: StateStore, upto: int, contained: bool) -> list[FeatureSet]:
        """Builds the views that `state` lacks by the batch plan, from all up to `upto`, which is sealed first; the sets
        that `state` then has."""
        if upto < 0 or not self._log.segment_paths():
            return sets
        kept: list[FeatureSet] = []
        begin = monotonic()
        self._log.seal(upto)
        for features in sets:
            view = LogView(
                segments=tuple(self._log.segment_paths()),
                entities=features.project.entities,
                forgotten=tuple(sorted(self._log.forgotten())),
            )
            # The last one raises when none could be built: a state without any would be swapped in for one that serves.
            alone = contained and (kept or features is not sets[-1])
            with Contained(partial(self._leave_out, features)) if alone else nullcontext():
                hydrate(features, view.segments, state, epoch=self._log.epoch, upto_offset=upto, engine=view)
                kept.append(features)
        self.telemetry.observe_ms("projector_hydrate", (monotonic() - begin) * 1e3)
        return kept

    def _close_state(self) -> None:
        if self._state is not None:
            self._state.close()
        self._state, self._fold, self._after = None, None, -1

    def _folded_elsewhere(self, target: int) -> bool:
        """Whether the state on disk holds every view up to `target`, whoever folded it."""
        if self.states.epoch != self._log.epoch:
            return False
        try:
            state = self.states.open()
        except Unavailable:
            return False
        try:
            after = Fold(self._offered(), state).position
        finally:
            state.close()
        while after < target and not self._log.read(after, self._batch).num_rows:
            after += self._batch  # events of forgotten users only: there is nothing to fold
        return after >= target

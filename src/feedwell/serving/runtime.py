"""Runtime: what one worker process holds to answer: stores, the release, the lane, what it has learned of time."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from feedwell.core.artifact import CHAMPION
from feedwell.core.clock import Clock, SystemClock
from feedwell.core.errors import FeedwellError, Unavailable
from feedwell.core.telemetry import Telemetry
from feedwell.pipeline.contained import Contained
from feedwell.pipeline.cursor import secret_of
from feedwell.pipeline.explain import explain
from feedwell.pipeline.frozen import frozen_project
from feedwell.pipeline.gather import Pace
from feedwell.pipeline.online import OnlineState
from feedwell.pipeline.overlays import Compiled
from feedwell.pipeline.path import RequestPath, Served, Wish
from feedwell.pipeline.project_folder import STATE_FOLDER
from feedwell.pipeline.served import ServedEvents
from feedwell.serving import reload
from feedwell.serving.follower import Follower
from feedwell.serving.lane import Lane
from feedwell.serving.standstill import Standstill
from feedwell.stores.log import EventLog
from feedwell.stores.records import RecordStore
from feedwell.stores.releases import ReleaseStore
from feedwell.stores.state import StateDirectory

WARM_REQUESTS = 8
LAG_ALLOWED = 10_000
"""Events that may be unfolded when a worker becomes ready."""
_LOOK_S, _WARM_UP_S = 0.25, 0.05
_CATALOG_S = 0.05
"""How often sources are told of new items: with the projector's lag, well within a second of the PUT."""
_RESTART = (
    "release {} declares other entities or events, or another reading of times, than this server checks and stores by: "
    "restart it; {} goes on"
)
_STALLED = (
    "the online state stands still at offset {}, {} events behind: what happens now is not seen; the projector's log,"
    " and feedwell_projector_errors_total, say why"
)
_log = logging.getLogger("feedwell.serving")


class Runtime:
    """Opened after a fork, one per process. `path` is read once per request: nothing mixes two releases."""

    def __init__(self, folder: Path, compiled: Compiled, *, clock: Clock | None = None) -> None:
        self.folder = folder
        inside = folder / STATE_FOLDER
        self.clock = clock or SystemClock()
        self.telemetry = Telemetry()
        self.project = compiled.project
        self.log = EventLog.open(inside, compiled.project, self.clock)
        self.records = RecordStore.open(inside)
        self.releases = ReleaseStore(inside)
        self.states = StateDirectory(inside / "state.lmdb")
        self.online = OnlineState(self.states)
        self.pace = Pace.of(compiled.project.serving.deadline / 1e3, telemetry=self.telemetry)
        self.pace.retries.start()
        self.lane = Lane(size=compiled.project.serving.queue, telemetry=self.telemetry)
        self.served = ServedEvents(self.log, self.telemetry)
        self._secret = secret_of(inside)
        self.path = self._path_of(compiled)
        self.warmed = False
        self.restart_for = ""
        """The channel's release that only a restarted worker can serve, because it declares other events or times."""
        self._caught_up = False
        self._standstill = Standstill()
        self.followers = (
            Follower(
                "feedwell-reload",
                self._follow_releases,
                lambda: _LOOK_S if self.warmed else _WARM_UP_S,
                partial(self._look_failed, "reload_failed"),
            ),
            Follower(
                "feedwell-catalog",
                lambda: self.path.follow_catalog(),
                lambda: _CATALOG_S,
                partial(self._look_failed, "catalog_follow_failed"),
            ),
        )

    @staticmethod
    def open(folder: Path, *, environment: str | None = None, clock: Clock | None = None) -> Runtime:
        """The runtime of a project's folder with its champion, or with the untrained project under `environment`."""
        compiled = reload.current(ReleaseStore(folder / STATE_FOLDER), folder, environment=environment)
        return Runtime(folder, compiled, clock=clock)

    @property
    def deadline_ms(self) -> float:
        return self.path.project.serving.deadline / 1e3

    def prepare(self, wish: Wish, left_ms: float) -> tuple[RequestPath, Served]:
        """The answer on the pipeline thread; `keep` it with the path that made it."""
        path = self.path
        return path, path.prepare(replace(wish, deadline_ms=left_ms), self.pace)

    def explain(self, request_id: str) -> dict[str, Any] | None:
        """What the record and the trace of a request say; None if there is no such record."""
        record = self.records.get(request_id)
        if record is None or record.user in self.log.forgotten():
            return None
        return explain(record, self.records.trace(request_id), self._item_names, self._project_of(record.release_id))

    def warm(self) -> None:
        """Compiles every overlay and runs requests that leave no trace: the first real one is like any other."""
        self.path.compiled.warm()
        self.path.follow_catalog()
        for i in range(WARM_REQUESTS):
            if i == WARM_REQUESTS // 2:
                self.pace.budget.restart()
            self.path.prepare(Wish(user_id="warm-up", request_id=f"warm-{i}"), self.pace)
        self.warmed = True
        gc.collect()
        gc.freeze()

    def readiness(self) -> dict[str, Any]:
        """`ready` and what it rests on: release, state, warm-up, lag in events."""
        state, lag, offset = "ok", -1, -1
        try:
            with self.online.reader(self.path.compiled.features) as reader:
                offset = reader.state_offset
                lag = max(0, self.log.high_water()[0] - offset)
        except Unavailable as error:
            state = str(error)
        # Once it has caught up, lag is a metric: a burst of events must not take every worker out of service.
        self._caught_up = self._caught_up or 0 <= lag <= LAG_ALLOWED
        ready = state == "ok" and self._caught_up and self.warmed
        stalled = self._standstill.look(offset, lag, monotonic())
        self.telemetry.gauge("projector_stalled", float(stalled))
        notes = [_RESTART.format(self.restart_for, self.path.compiled.release_id)] if self.restart_for else []
        notes += [_STALLED.format(offset, lag)] if stalled else []
        return {
            "ready": ready,
            "release": self.path.compiled.release_id,
            "state": state,
            "lag_events": lag,
            "caught_up": self._caught_up,
            "warmed": self.warmed,
            "restart_needed": bool(self.restart_for),
            "projector_stalled": stalled,
            "note": "; ".join(notes),
        }

    def watch(self) -> None:
        """Follows the champion channel and the catalog on background threads, and warms up once state can be read."""
        for follower in self.followers:
            follower.start()

    def unwatch(self) -> None:
        """Stops following; the release and the catalog stay as they are."""
        for follower in self.followers:
            follower.stop()

    def look(self) -> bool:
        """Takes up the channel's release if it moved; whether it did. While it cannot serve, the old one goes on."""
        release_id = self.releases.channel(CHAMPION)
        if release_id is None or release_id == self.path.compiled.release_id:
            self._restart_only_for("")
            return False
        if release_id == self.restart_for:
            return False
        path: RequestPath | None = None
        with Contained(partial(self._cannot_serve, release_id)):  # parts of a user's own are loaded and run
            path = self._warm_path(release_id)
        if path is None:
            return False
        self.path = path
        self._restart_only_for("")
        self.telemetry.count("reloads")
        return True

    def close(self) -> None:
        self.unwatch()
        self.pace.retries.stop()
        self.lane.close()
        self.served.close()
        self.online.close()
        self.records.close()
        self.log.close()

    def _follow_releases(self) -> None:
        if not self.warmed and self.states.epoch >= 0:
            self.warm()
        self.look()

    def _look_failed(self, counter: str, error: Exception) -> None:
        """What is not ready yet is only logged; anything else is counted. The next look comes in any case."""
        if isinstance(error, FeedwellError):
            _log.info("not yet: %s", error)
        else:
            self.telemetry.count(counter)
            _log.error("%s; it is tried again", counter, exc_info=error)

    def _warm_path(self, release_id: str) -> RequestPath | None:
        """The release's path, ready to answer; None, noted, where only a restarted worker can serve it."""
        frozen = frozen_project(self.releases, self.releases.read(release_id))
        if reload.contract_of(frozen) != reload.contract_of(self.project):
            self._restart_only_for(release_id)
            return None
        compiled = reload.load_release(self.releases, release_id)
        with self.online.reader(compiled.features):  # Unavailable until the projector keeps its features
            compiled.warm()
        path = self._path_of(compiled)
        path.follow_catalog()
        path.prepare(Wish(user_id="warm-up", request_id="warm"))
        return path

    def _cannot_serve(self, release_id: str, error: Exception) -> None:
        self.telemetry.count("reload_failed")
        _log.warning("release %s cannot serve yet, %s goes on: %s", release_id, self.path.compiled.release_id, error)

    def _restart_only_for(self, release_id: str) -> None:
        """Notes, once, that a release waits for a restart; "" that none does."""
        if release_id:
            _log.error(_RESTART.format(release_id, self.path.compiled.release_id))
        self.restart_for = release_id
        self.telemetry.gauge("restart_needed", float(bool(release_id)))

    def _path_of(self, compiled: Compiled) -> RequestPath:
        return RequestPath(
            compiled=compiled,
            log=self.log,
            open_reader=lambda: self.online.reader(compiled.features),
            records=self.records,
            clock=self.clock,
            secret=self._secret,
            served=self.served,
            telemetry=self.telemetry,
        )

    def _project_of(self, release_id: str) -> Any:
        if release_id == self.path.compiled.release_id:
            return self.path.project
        try:
            return frozen_project(self.releases, self.releases.read(release_id))
        except FeedwellError:
            return self.path.project

    def _item_names(self, keys: Any) -> list[str | None]:
        return self.log.ids.names("item", keys)


def feed_of(served: Served, explained: Mapping[str, Any] | None) -> dict[str, Any]:
    """The answer as JSON's types: items best first, what was missing, the cursor of the next page."""
    record = served.record
    value = record.predictions.get("value", [])
    first = len(record.prefix) + 1
    feed: dict[str, Any] = {
        "request_id": record.request_id,
        "user_id": record.user_id,
        "surface": record.surface,
        "release": record.release_id,
        "items": [
            {"item_id": name, "slot": first + i, "value": None if value[i] != value[i] else value[i]}
            for i, name in enumerate(served.item_ids)
            if name is not None
        ],
        "cursor": served.cursor,
        "degraded": record.degraded,
        "fallback": record.fallback,
        "short": served.short,
    }
    if record.among is not None:
        feed["unknown"] = served.unknown
    if served.unknown_excluded:
        feed["unknown_excluded"] = served.unknown_excluded
    return feed if explained is None else feed | {"explain": explained}

"""A project's folder from Python: `feedwell.open(folder)` gives its log, features, models and recommendations.

What the commands do with a project are methods here; notebooks and the CLI do the same things.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from feedwell.core.artifact import Release
from feedwell.core.clock import Clock, SystemClock
from feedwell.core.errors import DataError, UsageError
from feedwell.core.event import id_text, plain_id
from feedwell.core.project import Project
from feedwell.core.telemetry import Telemetry
from feedwell.data.ingest import IngestReport, ingest
from feedwell.data.interactions import user_events
from feedwell.data.quarantine import scrub
from feedwell.data.split import spans
from feedwell.features import FeatureSet, asof
from feedwell.jobs.plan import Plan
from feedwell.jobs.simulate import Simulation
from feedwell.jobs.simulate import simulate as run_simulation
from feedwell.pipeline.compile import compile_features
from feedwell.pipeline.cursor import secret_of
from feedwell.pipeline.explain import explain
from feedwell.pipeline.frozen import frozen_project
from feedwell.pipeline.online import OnlineState
from feedwell.pipeline.path import RequestPath, Served, Wish
from feedwell.pipeline.project_folder import STATE_FOLDER, load_project, read_text
from feedwell.pipeline.projector import Projector
from feedwell.pipeline.record import UNCALIBRATED
from feedwell.pipeline.served import ServedEvents
from feedwell.serving.reload import FeatureSets, current, load_release, require_loadable
from feedwell.stores.durable import output_file
from feedwell.stores.ids import IdStore
from feedwell.stores.log import EventLog
from feedwell.stores.records import RecordStore
from feedwell.stores.releases import ReleaseStore
from feedwell.training.inputs import Inputs, silent
from feedwell.training.measure import measure
from feedwell.training.page.build import write_page
from feedwell.training.page.content import Content
from feedwell.training.promote import publish, publish_config, rollback
from feedwell.training.report import EvaluateReport, TrainReport
from feedwell.training.run import train
from feedwell.training.work import kept_until_done

Progress = Callable[[str, int, int | None], None]
"""(what is being done, how much of it is done, of how much; None: not known)"""


def open(folder: str | Path = ".", *, environment: str | None = None, clock: Clock | None = None) -> Workspace:
    """The workspace of a project's folder, under `[environment.<environment>]` where one is named.

    UsageError: the folder has no project file; ProjectError: all that is wrong with it.
    """
    path = Path(folder)
    project = load_project(path, environment=environment)
    return Workspace(path, project, read_text(path), clock or SystemClock(), environment=environment)


def simulate(plan: Plan | None = None, seed: int = 0, *, progress: Progress | None = None) -> Simulation:
    """The closed loop of one simulated world: each arm's true reward by round; see `feedwell.jobs.simulate`."""
    return run_simulation(plan or Plan(), seed, lambda folder, clock: open(folder, clock=clock), progress=progress)


class Workspace:
    """One project on this machine. Stores open on first use; close it, or use it in a `with`, to let them go."""

    def __init__(
        self, folder: Path, project: Project, project_text: str, clock: Clock, *, environment: str | None = None
    ) -> None:
        self.folder = folder
        self.project = project
        self.project_text = project_text
        self.environment = environment
        self.clock = clock
        self.state_folder = folder / STATE_FOLDER

    @cached_property
    def log(self) -> EventLog:
        self.state_folder.mkdir(parents=True, exist_ok=True)
        return EventLog.open(self.state_folder, self.project, self.clock)

    @property
    def ids(self) -> IdStore:
        return self.log.ids

    @cached_property
    def records(self) -> RecordStore:
        return RecordStore.open(self.state_folder)

    @cached_property
    def served(self) -> ServedEvents:
        return ServedEvents(self.log, Telemetry())

    @cached_property
    def releases(self) -> ReleaseStore:
        return ReleaseStore(self.state_folder, self.clock)

    @cached_property
    def features(self) -> Features:
        return Features(self, compile_features(self.project))

    @cached_property
    def projector(self) -> Projector:
        sets = FeatureSets(self.releases, self.folder, environment=self.environment)
        return Projector(self.state_folder, self.log, sets)

    @cached_property
    def state(self) -> OnlineState:
        return OnlineState(self.projector.states)

    def project_of(self, release: Release) -> Project:
        """The project as it was when the release was made."""
        return frozen_project(self.releases, release)

    def catch_up(self) -> int:
        """Folds everything that the log holds into the online state; how many events this call folded."""
        self.served.flush()
        folded = self.projector.catch_up()
        self.state.look_again()
        return folded

    def ingest(self, *, history: bool = True, strict: bool = False, progress: Progress | None = None) -> IngestReport:
        """Loads the project's files into the log: as history (dated, a new epoch) or as live events (available now).

        Bad rows go to quarantine, told in the report; with `strict` they are a DataError and nothing is stored.
        """
        told = None if progress is None else lambda what, n: progress(what, n, None)
        return ingest(self.project, self.folder, self.log, history=history, strict=strict, progress=told)

    def train(self, *, max_requests: int | None = None, progress: Progress | None = None) -> TrainReport:
        """Fits, judges and writes a release into the candidate channel; its report has the evaluation and the gates.

        Killed, it goes on when it is called again where its neural fits stood, if data and configuration are the same.

        The report as a page for people is written to `report_path` of the release; a write that fails is a warning in
        the report.
        """
        inputs = self.training_inputs(progress)
        with kept_until_done(self.state_folder / "fits") as work:
            report = train(replace(inputs, work=work), max_requests=max_requests)
        return report if report.release_id is None else self._with_page(report, report.release_id)

    def report_path(self, release_id: str | None) -> Path | None:
        """Where the page of the run that made the release is; None where there is none."""
        page = self._page(release_id) if release_id is not None else None
        # Path.is_file raises where the folder gives no permission.
        return page if page is not None and os.path.isfile(page) else None

    def _with_page(self, report: TrainReport, release_id: str) -> TrainReport:
        """The report once its page is written, or with a warning: the release stands, and took long to train."""
        page = self._page(release_id)
        try:
            write_page(Content.of_training(self.project, self.clock.now(), report), page)
        except OSError as error:
            told = f"the report's page was not written to {page}: {error.strerror or error}; the release is whole"
            return replace(report, warnings=(*report.warnings, told))
        return report

    def _page(self, release_id: str) -> Path:
        return self.state_folder / "reports" / f"{release_id}.html"

    def evaluate(
        self, *, max_requests: int | None = None, html: str | Path | None = None, progress: Progress | None = None
    ) -> EvaluateReport:
        """The project as it is, fitted without the test span and judged on it beside baselines; nothing is written but
        the report as one page, where `html` names a file for it.

        UsageError, before the work begins: no page can be written there. A write that fails after it is a warning.
        """
        page = None if html is None else output_file(Path(html), "html")
        content = self.judged(max_requests=max_requests, progress=progress)
        if page is not None:
            try:
                write_page(content, page)
            except OSError as error:
                warnings.warn(f"the report's page was not written to {page}: {error.strerror}", stacklevel=2)
        return content.evaluation

    def judged(self, *, max_requests: int | None = None, progress: Progress | None = None) -> Content:
        """What `evaluate` finds, with all that its page shows; nothing is written."""
        inputs = self.training_inputs(progress)
        view = inputs.view()
        cut = spans(view, self.project.split)
        found = measure(inputs, user_events(view, self.project), cut, max_requests=max_requests)
        return Content.of_measured(self.project, self.clock.now(), cut.to_dict(), found)

    def publish(self, release_id: str | None = None, *, force: bool = False) -> str:
        """The release (default: the candidate) serves from now on, if its gates hold; CheckFailed says which do not.

        DataError, even with `force`, where it cannot be loaded. Releases that neither a channel nor the last
        `[releases] keep` need any more are removed.
        """
        return self._published(publish(self.releases, release_id=release_id, force=force, hydrate=self._hydrate))

    def publish_config(self) -> str:
        """A release of the project file as it is over the champion's artifacts; UsageError names changed `fit` keys.

        What is not needed any more is removed, as by `publish`.
        """
        made = publish_config(
            self.releases,
            self.project,
            self.project_text,
            self.clock,
            environment=self.environment,
            hydrate=self._hydrate,
        )
        return self._published(made)

    def rollback(self) -> str:
        """The release before the champion serves again, configuration included; DataError where it cannot be loaded."""
        return self._moved(rollback(self.releases, hydrate=self._hydrate))

    def path(self, release_id: str | None = None) -> RequestPath:
        """The request path of a release (default: the champion; before there is one, of what needs no training)."""
        if release_id is None:
            compiled = current(self.releases, self.folder, environment=self.environment)
        else:
            compiled = load_release(self.releases, release_id)
        if compiled.project.surface or compiled.project.experiment:
            compiled.warm()  # so that the parts of every arm follow the catalog from the first answer on
        return RequestPath(
            compiled=compiled,
            log=self.log,
            open_reader=lambda: self.state.reader(compiled.features),
            records=self.records,
            clock=self.clock,
            secret=secret_of(self.state_folder),
            served=self.served,
        )

    def training_inputs(self, progress: Progress | None = None) -> Inputs:
        """What the training flow works on; the log is sealed."""
        self._seal()
        return Inputs(
            project=self.project,
            project_text=self.project_text,
            environment=self.environment,
            log=self.log,
            releases=self.releases,
            clock=self.clock,
            records=self.records,
            progress=progress or silent,
        )

    def _seal(self) -> None:
        """Batch work reads segments only; what is sealed has been folded before."""
        upto = self.log.high_water()[0]
        self.catch_up()
        self.log.seal(upto)

    def _hydrate(self, release: Release) -> None:
        require_loadable(self.releases, release.release_id)
        self.catch_up()

    def _published(self, release_id: str) -> str:
        self.releases.prune(self.project.releases.keep)
        return self._moved(release_id)

    def _moved(self, release_id: str) -> str:
        self.__dict__.pop("_champion", None)
        return release_id

    @cached_property
    def _champion(self) -> RequestPath:
        return self.path()

    def recommend(
        self,
        user: str,
        n: int | None = None,
        *,
        surface: str = "default",
        exclude: Iterable[str] = (),
        explore: bool = True,
        trace: bool = False,
    ) -> Recommendation:
        """A feed for the user, now, by the champion; recorded like any other answer."""
        left_out = tuple(exclude)
        return self._answer(Wish(user_id=user, n=n, surface=surface, exclude=left_out, explore=explore, explain=trace))

    def rank(
        self,
        user: str,
        items: Sequence[str],
        n: int | None = None,
        *,
        ignore_filters: Iterable[str] = (),
        shown: bool = True,
        surface: str = "default",
        explore: bool = True,
        trace: bool = False,
    ) -> Recommendation:
        """The caller's own items, best first, by the champion; all else as for a feed. `unknown` are not ranked.

        `shown` False: recorded and explained, but no exposure and no served events come of it.
        """
        among = items if isinstance(items, str) else tuple(items)  # a text is refused, not read letter by letter
        wish = Wish(user_id=user, n=n, surface=surface, explore=explore, explain=trace)
        return self._answer(replace(wish, among=among, ignore_filters=tuple(ignore_filters), shown=shown))

    def _answer(self, wish: Wish) -> Recommendation:
        self.catch_up()
        self._champion.follow_catalog()
        return Recommendation(self, self._champion.answer(wish))

    def explain(self, request_id: str) -> dict[str, Any]:
        """Why that request's slate is what it is, from its record; UsageError for an unknown request."""
        record = self.records.get(request_id)
        if record is None or record.user in self.log.forgotten():
            raise UsageError(f"no slate record has the request id '{request_id}'; `feedwell recommend` prints one")
        known = record.release_id in self.releases.release_ids()
        project = self.project_of(self.releases.read(record.release_id)) if known else self.project
        names = lambda keys: self.ids.names("item", keys)  # noqa: E731
        return explain(record, self.records.trace(request_id), names, project)

    def forget(self, user: str) -> int:
        """Forgets the user in every reader at once; the key that the user had, -1 when unknown.

        Rows in quarantine that name the user go even if the log never knew the id: that may be why they are there.
        """
        key = self.log.forget(user)
        if key >= 0:
            self.records.forget([key])
        scrub(self.state_folder / "quarantine", plain_id(user))
        return key

    def close(self) -> None:
        for name in ("served", "state", "projector", "records", "log"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Features:
    """The project's features: their columns, and their values as of any time."""

    def __init__(self, workspace: Workspace, features: FeatureSet) -> None:
        self._workspace = workspace
        self.set = features

    @property
    def columns(self) -> list[str]:
        return [column.name for column in self.set.columns]

    def asof(self, frame: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
        """The frame with every feature column as it was at its `t` (µs or a timestamp); NaN = unknown.

        Key columns hold outside ids (text) or integer keys. Everything that the log holds is sealed first.
        """
        self._workspace._seal()
        view = self._workspace.training_inputs().view()
        return asof(self.set, view.segments, self._keyed(frame), columns=columns, engine=view)

    def _keyed(self, frame: pa.Table) -> pa.Table:
        if "t" not in frame.column_names:
            raise UsageError(f"a frame for as-of features needs a column 't'; it has {frame.column_names}")
        keyed = {}
        for name in frame.column_names:
            column = frame[name]
            if name in self._workspace.project.entities and not pa.types.is_integer(column.type):
                keys = self._workspace.ids.lookup(name, [id_text(v) or "" for v in column.to_pylist()])
                column = pa.array(keys, pa.int64())
            elif name == "t":
                column = _microseconds(column)
            keyed[name] = column
        return pa.table(keyed)

    def unknown_without(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """missing key column → the feature columns that a frame with `keys` alone leaves unknown (NaN or 0)."""
        derived, found = self._workspace.project.derived_entities, dict[str, list[str]]()
        keys = set(keys)
        for column in self.set.columns:
            for entity in column.entities:
                if entity not in keys and (entity not in derived or derived[entity][0] not in keys):
                    found.setdefault(entity, []).append(column.name)
        return found


def _microseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A frame's `t` as int64 µs; DataError names what is no time."""
    if column.null_count:
        raise DataError(f"the frame's column 't' has {column.null_count} empty cells; every row needs its time")
    if pa.types.is_integer(column.type):
        return column
    try:
        return column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        told = str(error).partition("\n")[0]
        raise DataError(
            f"the frame's column 't' cannot be read: {told}; expected µs, or ISO times, all alike"
        ) from None


class Recommendation:
    """One answer: `table` for eyes and notebooks, `record` as kept, `cursor` for the next page, `unknown` items."""

    def __init__(self, workspace: Workspace, served: Served) -> None:
        self._workspace = workspace
        self.record = served.record
        self.item_ids = served.item_ids
        self.cursor = served.cursor
        self.unknown = served.unknown

    @property
    def request_id(self) -> str:
        return self.record.request_id

    @cached_property
    def table(self) -> pa.Table:
        """slot, item, each declared text column, utility, propensity, sources, p_<objective>."""
        record = self.record
        names = record.source_names
        columns: dict[str, Any] = {
            "slot": [len(record.prefix) + i + 1 for i in range(len(record.keys))],
            "item": list(self.item_ids),
        }
        item = self._workspace.project.entity.get("item")
        rows = self._catalog_rows() if item and item.text else []
        for column in item.text if item and rows else ():
            columns[column] = [None if row is None else str(row.get(column, "")) for row in rows]
        columns["utility"] = record.utility
        columns["propensity"] = record.propensity
        columns["sources"] = [
            ", ".join(n.removeprefix("source.") for s, n in enumerate(names) if mask >> s & 1)
            for mask in record.sources
        ]
        for name, values in record.predictions.items():
            if name != "value" and not name.startswith(UNCALIBRATED):
                columns[f"p_{name}"] = values
        return pa.table(columns)

    def _catalog_rows(self) -> list[dict[str, Any] | None]:
        workspace = self._workspace
        with workspace.state.reader(workspace._champion.compiled.features) as reader:
            return reader.catalog_rows("item", self.record.keys)

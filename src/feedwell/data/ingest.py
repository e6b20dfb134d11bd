"""Ingest: files into the log, as history or as live events. Bad rows go to quarantine, told why.

A load is all or nothing: files are looked at first, rows are judged as they stream by, only then the log changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from feedwell.core import columns as c
from feedwell.core.durations import format_duration
from feedwell.core.errors import DataError
from feedwell.core.event import RawEvent
from feedwell.core.project import EntitySection, Project
from feedwell.data.contracts import RowContract, id_names
from feedwell.data.ingest_files import BadLine, Batch, SourceFile, look_at, match_files, read_batches, read_objects
from feedwell.data.ingest_sql import REASON, Normaliser, map_columns
from feedwell.data.quarantine import Quarantine
from feedwell.data.unkeyed import unkeyed_notes
from feedwell.stores.log import EventLog, LoadReport, raw_schema
from feedwell.stores.log.catalog import payload_text
from feedwell.stores.log.schema import FILE

Progress = Callable[[str, int], None]
_CATALOG_BATCH = 50_000
_HELD_BAD = 100_000
_TOLD = 20


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """One file's rows: all, and those of them in quarantine."""

    file: str
    n_rows: int
    n_bad: int


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What an ingest did; `str()` is the summary for people."""

    load_id: str
    mode: str
    load: LoadReport
    files: tuple[FileReport, ...] = ()
    n_rows: int = 0
    n_quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    quarantine: str | None = None
    undeclared: dict[str, int] = field(default_factory=dict)
    """Stored events of types that the project file does not name anywhere."""
    notes: tuple[str, ...] = ()
    wall_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(_summary(self))


def ingest(
    project: Project,
    folder: Path,
    log: EventLog,
    *,
    history: bool = True,
    strict: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """What was loaded from the project's files. DataError when files are missing or cannot be read at all (it names all
    of them), or (`strict`) when any row is bad: then nothing is stored."""
    started, now = time.perf_counter(), log.clock.now()
    catalogs, events = _look_at_files(project, folder)
    load_id = _load_id(log, now)
    with Quarantine(log.folder / "quarantine", load_id) as quarantine:
        reading = _Reading(project, log, quarantine, now, dated=history)
        rows = _refusing(reading.rows(catalogs, events), reading, strict)
        load = log.load_history(rows, progress=progress) if history else log.load_live(rows, progress=progress)
    declared = _declared_types(project)
    return IngestReport(
        load_id=load_id,
        mode="history" if history else "live",
        load=load,
        files=tuple(reading.files),
        n_rows=sum(file.n_rows for file in reading.files),
        n_quarantined=quarantine.n,
        reasons=dict(quarantine.reasons),
        examples=dict(quarantine.examples),
        quarantine=str(quarantine.path) if quarantine.n else None,
        undeclared={k: n for k, n in load.types.items() if not k.startswith("$") and k not in declared},
        notes=tuple(_notes(project, log.folder, load, reading, history)),
        wall_s=time.perf_counter() - started,
    )


class _Reading:
    """Files as raw tables, what is bad in them put aside and counted on the way."""

    def __init__(self, project: Project, log: EventLog, quarantine: Quarantine, now: int, *, dated: bool) -> None:
        self._project, self.quarantine, self._now, self._dated = project, quarantine, now, dated
        self._schema = raw_schema(project.entities)
        self.files: list[FileReport] = []
        self.assumed = False

    def rows(self, catalogs: Mapping[str, Sequence[SourceFile]], events: Sequence[SourceFile]) -> Iterator[pa.Table]:
        """Catalog rows first, since they hold from the beginning, then events, file by file."""
        number = 0
        for entity, files in catalogs.items():
            for file in files:
                yield from self._counted(file, self._catalog(entity, file, number))
                number += 1
        delay = self._project.data.assumed_delay if self._dated else 0
        normaliser = Normaliser(self._project, self._now, delay=delay)
        try:
            for file in events:
                yield from self._counted(file, self._events(file, number, normaliser))
                number += 1
        finally:
            normaliser.close()

    def _counted(self, file: SourceFile, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        good, bad = 0, self.quarantine.n
        for table in tables:
            good += table.num_rows
            if table.num_rows:
                yield table
        n_bad = self.quarantine.n - bad
        self.files.append(FileReport(file=file.name, n_rows=good + n_bad, n_bad=n_bad))

    def _events(self, file: SourceFile, number: int, normaliser: Normaliser) -> Iterator[pa.Table]:
        if not file.columns:
            return
        mapped = map_columns(self._project, file)
        self.assumed |= c.AVAILABLE_AT not in mapped.columns or mapped.columns[c.AVAILABLE_AT] not in file.columns
        held = _BadRows(self.quarantine, file)
        for batch in read_batches(file, list(mapped.columns.values()), mapped.ids):
            good, bad = normaliser(batch.table, mapped)
            held.add(batch, bad)
            yield good.append_column(FILE, pa.repeat(pa.scalar(number, pa.int32()), good.num_rows))
        held.close()

    def _catalog(self, entity: str, file: SourceFile, number: int) -> Iterator[pa.Table]:
        contract = RowContract(self._project, entity)
        held: list[RawEvent] = []
        bad = _BadRows(self.quarantine, file)
        for row, found in read_objects(file):
            checked = found if isinstance(found, BadLine) else contract(found, self._now, dated=self._dated)
            if isinstance(checked, BadLine):
                bad.add_line(checked)
                continue
            if isinstance(checked, str):
                bad.add_row(row, checked, found)
                continue
            held.append(checked)
            if len(held) == _CATALOG_BATCH:
                yield _raw_table(entity, held, number)
                held = []
        bad.close()
        yield _raw_table(entity, held, number)


class _BadRows:
    """One file's bad rows on their way to quarantine. A csv tells its unreadable lines at its end: until
    then its bad rows are held (to a limit), so that their numbers count those lines too."""

    def __init__(self, quarantine: Quarantine, file: SourceFile) -> None:
        self._quarantine, self._file = quarantine, file
        self._limit = _HELD_BAD if file.format == "csv" else 0
        self._rows: list[tuple[int, str, object]] = []
        self._lines: list[tuple[int, str, object]] = []

    def add(self, batch: Batch, bad: pa.Table) -> None:
        for line in batch.bad:
            self.add_line(line)
        if bad.num_rows:
            cells = batch.table.take(bad["_row"]).to_pylist()
            for place, reason, row in zip(bad["_row"].to_pylist(), bad[REASON].to_pylist(), cells, strict=True):
                self.add_row(batch.row(place), reason, row)

    def add_row(self, row: int, reason: str, data: object) -> None:
        if len(self._rows) < self._limit:
            self._rows.append((row, reason, data))
        else:
            self._quarantine.add(reason, file=self._file.name, row=row, data=data)

    def add_line(self, line: BadLine) -> None:
        if self._limit:
            self._lines.append((line.row, line.reason, line.data))
        else:
            self._quarantine.add(line.reason, file=self._file.name, row=line.row, data=line.data)

    def close(self) -> None:
        self._quarantine.add_file(self._file.name, self._rows, self._lines)


def _raw_table(entity: str, events: Sequence[RawEvent], number: int) -> pa.Table:
    return pa.table(
        {
            c.TYPE: pa.array([e.type for e in events], pa.string()),
            c.TS: pa.array([e.ts for e in events], pa.int64()),
            c.AVAILABLE_AT: pa.array([e.available_at for e in events], pa.int64()),
            entity: pa.array([e.ids[entity] for e in events], pa.string()),
            c.PAYLOAD: pa.array([payload_text(e.payload) for e in events], pa.string()),
            FILE: pa.repeat(pa.scalar(number, pa.int32()), len(events)),
        }
    )


def _refusing(rows: Iterator[pa.Table], reading: _Reading, strict: bool) -> Iterator[pa.Table]:
    """The rows; at their end, if strict and any was bad, a DataError, before anything is stored."""
    yield from rows
    quarantine = reading.quarantine
    if strict and quarantine.n:
        lines = [f"{n} rows: {kind} ({quarantine.examples[kind]})" for kind, n in quarantine.reasons.most_common()]
        raise DataError(
            f"{quarantine.n} bad rows, and strict was asked for: nothing was stored. They are in {quarantine.path}.\n"
            + "\n".join(lines)
        )


def _look_at_files(project: Project, folder: Path) -> tuple[dict[str, list[SourceFile]], list[SourceFile]]:
    """Every catalog's files and the events' files; one DataError names all that are missing or cannot be read."""
    wrong: list[str] = []

    def look(patterns: str | Sequence[str], what: str, read: Callable[[Path], SourceFile]) -> Iterator[SourceFile]:
        paths, missing = match_files(folder, patterns, what)
        wrong.extend(missing)
        for path in paths:
            try:
                yield read(path)
            except DataError as error:
                wrong.append(str(error))

    catalogs = {
        entity: list(look(e.path, f"[entity.{entity}] path", partial(_look_at_catalog, folder, entity, e)))
        for entity, e in project.entity.items()
        if e.path
    }
    events = list(look(project.data.events, "[data] events", partial(_look_at_events, folder, project)))
    if wrong:
        more = [f"... and {len(wrong) - _TOLD} more"] if len(wrong) > _TOLD else []
        raise DataError("\n".join([*wrong[:_TOLD], *more]))
    return catalogs, events


def _look_at_events(folder: Path, project: Project, path: Path) -> SourceFile:
    file = look_at(path, folder, delimiter=project.data.delimiter, header=project.data.header)
    map_columns(project, file)
    return file


def _look_at_catalog(folder: Path, entity: str, section: EntitySection, path: Path) -> SourceFile:
    file = look_at(path, folder, delimiter=section.delimiter, header=section.header)
    wanted = [section.rename.get(name, name) for name in section.columns]
    if section.valid_from:
        wanted.append(section.valid_from)
    names = id_names(section, entity)
    missing = [name for name in wanted if name not in file.columns]
    if not set(names) & set(file.columns):
        missing.insert(0, " or ".join(names))
    if file.columns and missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}. Found: {', '.join(file.columns)}. Name theirs in feedwell.toml:"
            f' [entity.{entity}] id = "<their id column>", rename = {{ ours = "theirs" }}; or leave the column out'
        )
    return file


def _load_id(log: EventLog, now: int) -> str:
    stem = datetime.fromtimestamp(now / 1e6, UTC).strftime("%Y%m%dT%H%M%S")
    taken = {path.stem for path in (log.folder / "quarantine").glob(f"{stem}*")}
    return next(name for i in range(len(taken) + 1) if (name := f"{stem}-{i}") not in taken)


def _declared_types(project: Project) -> set[str]:
    lists = [
        *(o.events for o in project.objective.values()),
        *(f.events for f in project.feature.values()),
        project.data.exposure,
        tuple(project.undone_by.values()),
        tuple(project.event),
        (project.data.type or "",),
    ]
    return {kind for types in lists for kind in types}


def _notes(project: Project, state_folder: Path, load: LoadReport, reading: _Reading, history: bool) -> Iterator[str]:
    if history and reading.assumed:
        yield f"available_at is assumed: ts + {format_duration(project.data.assumed_delay)} ([data] assumed_delay)"
    if empty := [file.file for file in reading.files if not file.n_rows]:
        yield f"no rows are in {', '.join(empty[:3])}" + (f" and {len(empty) - 3} more files" if empty[3:] else "")
    yield from unkeyed_notes(project, state_folder)
    if load.n_twins_across_files:
        n = load.n_twins_across_files
        yield f"{n} rows equal one in another file of this load: twins over two files count as one"


def _summary(report: IngestReport) -> Iterator[str]:
    load = report.load
    yield f"{report.n_rows:,} rows of {len(report.files)} files ({report.mode}): {load.n_new:,} events stored"
    yield from (f"  {n:>12,}  {kind}" for kind, n in sorted(load.types.items(), key=lambda kv: -kv[1]))
    same = load.n_known + load.n_repeated + load.n_twins_across_files + load.n_catalog_unchanged
    if same:
        yield f"  {same:>12,}  were there already"
    if load.n_catalog_changed:
        yield f"  {load.n_catalog_changed:>12,}  catalog rows changed: new versions, valid from now"
    if report.undeclared:
        yield f"  types that the project does not name: {', '.join(sorted(report.undeclared))}"
    if report.n_quarantined:
        yield f"  {report.n_quarantined:>12,}  in quarantine ({report.quarantine})"
        yield from (f"  {n:>14,}  {kind} (first: {report.examples[kind]})" for kind, n in report.reasons.items())
    yield from (f"  {note}" for note in report.notes)

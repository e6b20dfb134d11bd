"""A public data set as a feedwell project in a temporary folder, and the table that an evaluation prints."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import feedwell.workspace
from feedwell.data.datasets import detect_dataset
from feedwell.metrics import Interval
from feedwell.training.report import EvaluateReport
from feedwell.workspace import Workspace

DATA = Path(os.environ.get("FEEDWELL_DATA", Path(__file__).resolve().parents[1] / "../shared/data"))


@contextmanager
def workspace_of(name: str, changes: Sequence[tuple[str, str]] = ()) -> Iterator[Workspace]:
    """The data set's own project file with `changes` (old, new) made to its text, ingested as history."""
    data = DATA / name
    if not data.is_dir():
        sys.exit(f"skipped: no {name} under {DATA}; set FEEDWELL_DATA to the folder that has it")
    with workspace_at(data, changes) as workspace:
        yield workspace


@contextmanager
def workspace_at(data: Path, changes: Sequence[tuple[str, str]] = ()) -> Iterator[Workspace]:
    """The same for a folder that holds a data set."""
    with tempfile.TemporaryDirectory() as folder:
        text = detect_dataset(data).prepare(data, Path(folder))
        for old, new in changes:
            if old not in text:
                sys.exit(f"the project file of {data.name} no longer has {old!r}: mend this benchmark")
            text = text.replace(old, new)
        (Path(folder) / "feedwell.toml").write_text(text)
        with feedwell.workspace.open(folder) as workspace:
            print(f"# ingest: {workspace.ingest(history=True).n_rows:,} rows")
            yield workspace


def show(stage: str, done: int, of: int | None) -> None:
    """Progress on the error stream, where a terminal looks."""
    if sys.stderr.isatty():
        print(f"\r{stage} {done}{f'/{of}' if of else ''}".ljust(60), end="", file=sys.stderr, flush=True)


def print_table(report: EvaluateReport) -> None:
    """Source × metric with 95 % intervals by user, then who beat whom, in words."""
    print(
        f"{report.n_counted:,} of {report.n_requests:,} requests have something relevant ({report.relevant}), "
        f"{report.n_users:,} users; 95 % intervals by user. {report.note}"
    )
    names = list(report.rows[0].metrics)
    print("| | " + " | ".join(names) + " | coverage | diversity | gini |")
    print("|---" * (len(names) + 4) + "|")
    for row in report.rows:
        cells = [cell(row.metrics[name]) for name in names]
        print(f"| {row.name} | {' | '.join(cells)} | {row.coverage:.3f} | {row.diversity.value:.3f} | {row.gini:.3f} |")
    print()
    for d in report.differences:
        print(f"{d.name} - {d.than} on {d.metric}: {d.difference.signed()}, detectable {d.detectable:.4f}")
    for statement in report.statements:
        print(statement)


def cell(i: Interval) -> str:
    return str(i)

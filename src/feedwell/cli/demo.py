"""Run the main job from raw events to an explained feed, on a data set or a simulated world."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from feedwell import workspace
from feedwell.cli._report import lines_for, print_training
from feedwell.cli._shared import HERE, JsonOption, console, plain, progress, show, table
from feedwell.cli.init import write_project
from feedwell.core.clock import DAY, Clock, ManualClock, SystemClock
from feedwell.core.errors import CheckFailed, UsageError
from feedwell.data.datasets import detect_dataset
from feedwell.data.world import preset, simulate_history
from feedwell.pipeline.explain import lines_of
from feedwell.pipeline.exploration import exploration_cost
from feedwell.training.report import TrainReport

_REQUESTS = 1000
_WORLD, _SEED = "social", 1
_MARK = ".feedwell-demo"


@dataclass(kw_only=True)
class _Run:
    """What the demo found, and what each of its steps cost."""

    folder: Path
    about: str
    out: Console
    quiet: bool
    seconds: dict[str, float] = field(default_factory=dict)
    forced: str | None = None
    """The gates that said no, where some did."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 1)
        self.say(f"── {name}: {self.seconds[name]:.1f} s")

    def say(self, text: str) -> None:
        if not self.quiet:
            self.out.print(text, markup=False, soft_wrap=True)


def command(
    data: Annotated[
        Path | None, typer.Option(help="A folder with a public data set; default: a simulated world.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the demo's project goes; default: demo/NAME.")] = None,
    requests: Annotated[int, typer.Option(min=10, max=100_000, help="Judge on at most so many requests.")] = _REQUESTS,
    json: JsonOption = False,
) -> None:
    begin = time.perf_counter()
    run = _prepared(data, folder, json)
    clock = _clock(run, simulated=data is None)
    with workspace.open(run.folder, clock=clock) as opened:
        with run.step("train and evaluate"), progress(quiet=json) as advance:
            report = opened.train(max_requests=requests, progress=advance)
        if not json:
            print_training(run.out, report, opened.report_path(report.release_id))
        with run.step("publish"):
            _publish(opened, run)
        with run.step("recommend"):
            explained, rows = _feed(opened, run)
    total = time.perf_counter() - begin
    run.say(f"\n{run.about}\nall of it took {total:.0f} s; the project is {run.folder}")
    run.say(f"start the server: {_program()} serve --project {run.folder}")
    _say_json(run, report, rows, explained, total, as_json=json)


def _program() -> str:
    """How this command is called again: by its path where no shell would find it, as after `make demo`."""
    return "feedwell" if shutil.which("feedwell") else sys.argv[0]


def _prepared(data: Path | None, folder: Path | None, quiet: bool) -> _Run:
    """An empty demo folder with its project file."""
    name = _WORLD if data is None else detect_dataset(data).name.replace("_", "-")
    about = f"data: {data}"
    if data is None:
        about = "data: a SIMULATED world, no person and no item of it is real; --data FOLDER takes real data"
    run = _Run(folder=folder or HERE / "demo" / name, about=about, out=console(), quiet=quiet)
    _clear(run.folder)
    run.say(about)
    if data is None:
        with run.step("simulate"):
            data = run.folder / "world"
            _simulate(data)
    with run.step("init"):
        write_project(run.folder, data=data)
    return run


def _clear(folder: Path) -> None:
    """Empties a folder that an earlier demo made; any other that is not empty is left alone."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).is_file():
        raise UsageError(f"{folder} is not empty and no demo made it; --folder names another")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()


def _simulate(folder: Path) -> None:
    """A history that ends about now, so that the server's windows have events in them."""
    config = preset(_WORLD)
    today = SystemClock().now() // DAY * DAY
    simulate_history(replace(config, start_ts=today - config.days * DAY), _SEED).write(folder)


def _clock(run: _Run, *, simulated: bool) -> Clock:
    """Ingests; the clock stands just after the data, for a feed as it would have been then."""
    with workspace.open(run.folder) as opened:
        run.say(f"project: {len(opened.features.columns)} feature columns; {exploration_cost(opened.project)}")
        with run.step("ingest"), progress(quiet=run.quiet) as advance:
            run.say(str(opened.ingest(progress=advance)))
        newest = opened.log.high_water()[1]
    if not simulated:
        run.about += "; the demo's clock stands at its end, the server's runs on (windows of old events are empty)"
    return ManualClock(newest + 1_000_000)


def _publish(opened: workspace.Workspace, run: _Run) -> None:
    """As `feedwell publish` does; where a gate says no, a demo has a feed to show all the same, and says so."""
    try:
        opened.publish()
    except CheckFailed as error:
        run.forced = str(error)
        run.say(f"{error}. A demo replaces nothing, so it does: look at the table before you do the same")
        opened.publish(force=True)


def _feed(opened: workspace.Workspace, run: _Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One user's feed, explained: the user with the most events."""
    user = _most_active(opened)
    answer = opened.recommend(user, trace=True)
    explained = opened.explain(answer.request_id)
    rows = answer.table.to_pylist()
    if not run.quiet:
        run.out.print()
        columns = answer.table.column_names
        run.out.print(table(f"The feed of user {user}", columns, lines_for(rows, columns)))
        run.out.print("\nWhy, from its record:")
        run.out.print("\n".join(lines_of(explained)), markup=False, soft_wrap=True)
    return explained, rows


def _most_active(opened: workspace.Workspace) -> str:
    """Whoever has the most events in the log's last week."""
    view = opened.training_inputs().view()
    query = f"""
        SELECT "user" FROM log WHERE "user" >= 0 AND item >= 0 AND available_at >= {view.end() - 7 * DAY}
        GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1
    """
    with view.connect() as connection:
        found = connection.execute(query).fetchone()
    return str(opened.ids.names("user", [found[0]])[0]) if found else "anyone"


def _say_json(
    run: _Run,
    report: TrainReport,
    rows: list[dict[str, Any]],
    explained: dict[str, Any],
    total: float,
    *,
    as_json: bool,
) -> None:
    if as_json:
        result = {
            "about": run.about,
            "folder": str(run.folder),
            "seconds": run.seconds | {"total": round(total, 1)},
            "report": report.to_dict(),
            "forced": run.forced,
            "feed": plain(rows),
            "explained": explained,
        }
        show(result, lambda out: None, as_json=True)

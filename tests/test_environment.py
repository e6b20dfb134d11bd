"""One project under `[environment.<name>]`: trained, released, served and chosen by every command as that one."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import feedwell
import feedwell.cli as cli
from feedwell.cli._app import app
from feedwell.core.clock import ManualClock
from feedwell.core.errors import ProjectError
from feedwell.serving.reload import FeatureSets, current, load_release

START = 1_767_571_200_000_000
PROJECT = """\
[project]
name = "shop"
[data]
events = "events.jsonl"
ts_unit = "us"
exposure = ["view"]
[event.view]
[objective.view]
events = ["view"]
[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]
[source.popular]
k = 10
[slate]
kind = "top_k"
k = 2
[environment.prod]
slate.k = 3
source.popular.k = 7
feature.item_views.windows = ["1h"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feedwell.toml").write_text(PROJECT)
    rows = [{"user": f"u{n % 5}", "item": f"i{n % 4}", "type": "view", "ts": START + n * 1_000_000} for n in range(40)]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path


def test_a_release_is_frozen_under_its_environment(folder: Path) -> None:
    clock = ManualClock(START + 3_600_000_000)
    with feedwell.open(folder, environment="prod", clock=clock) as opened:
        opened.ingest()
        assert len(opened.recommend("u1").item_ids) == 3  # before there is a release
        opened.train()
        opened.publish(force=True)
        release = opened.releases.read(opened.releases.channel("champion") or "")
        assert opened.project_of(release).digest == release.project_digest == opened.project.digest
        assert len(opened.recommend("u1").item_ids) == 3
        assert load_release(opened.releases, release.release_id).project.source["popular"].options["k"] == 7

        clock.advance(1_000_000)
        changed = opened.releases.read(opened.publish_config())
        assert opened.project_of(changed).digest == changed.project_digest == opened.project.digest
        assert len(opened.recommend("u1").item_ids) == 3
    with feedwell.open(folder, clock=ManualClock(START + 3_700_000_000)) as opened:  # whoever asks, the release is that
        assert len(opened.recommend("u1").item_ids) == 3
        base = opened.releases.read(opened.publish_config())
        assert (base.environment, changed.environment) == (None, "prod")
        assert len(opened.recommend("u1").item_ids) == 2


def test_what_serves_before_a_release_and_what_the_projector_keeps_are_of_the_environment(folder: Path) -> None:
    with feedwell.open(folder, environment="prod") as opened:
        assert current(opened.releases, folder, environment="prod").project.digest == opened.project.digest
        (kept,) = FeatureSets(opened.releases, folder, environment="prod")()
        assert kept.version == opened.features.set.version
    with feedwell.open(folder) as opened:
        (plain,) = FeatureSets(opened.releases, folder)()
        assert plain.version == opened.features.set.version != kept.version


def test_an_environment_that_is_not_declared_is_named(folder: Path) -> None:
    with pytest.raises(ProjectError, match=r"environment.prd: is not declared; did you mean 'prod'"):
        feedwell.open(folder, environment="prd")


def project_commands() -> list[tuple[str, ...]]:
    """Every command that works on a project, with arguments that it cannot do without."""
    needed = {"user": "u1", "request_id": "r1", "frame": "f.csv", "out": "o.parquet"}
    found = []
    for path in sorted(Path(inspect.getfile(cli)).parent.glob("[!_]*.py")):
        module = importlib.import_module(f"feedwell.cli.{path.stem}")
        made = {(path.stem,): module.command} if hasattr(module, "command") else {}
        if hasattr(module, "app"):
            made = {(path.stem, c.name or c.callback.__name__): c.callback for c in module.app.registered_commands}
        for words, function in made.items():
            parameters = inspect.signature(function).parameters
            if "project" in parameters:
                positional = [needed[n] for n, p in parameters.items() if n in needed and n != "out"]
                more = ["--out", needed["out"]] if "out" in parameters else []
                found.append((*words, *positional, *more))
    return found


def test_every_command_that_works_on_a_project_works_on_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "f.csv").write_text("user,item,t\nu1,i1,2026-01-05\n")
    commands = project_commands()
    assert len(commands) > 12
    for words in commands:
        said = CliRunner().invoke(app, [*words, "--environment", "prd"])
        told = f"{said.exception} {said.output}"
        assert "environment.prd: is not declared" in told, (words, told)

"""`feedwell simulate`: what it prints and writes, and calls that cannot be."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from feedwell import workspace
from feedwell.cli import main
from tests.jobs.test_verdict import simulation


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["feedwell", "simulate", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_seeds_are_counted_up_and_judged_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The loop itself is lived in tests/jobs; here a simulation stands for each seed that is asked for.
    asked = []

    def stand_in(plan, seed, *, progress):
        asked.append((plan.preset, plan.rounds, seed))
        return simulation(seed, plan=plan)

    monkeypatch.setattr(workspace, "simulate", stand_in)
    picture = tmp_path / "shop.svg"
    words = ("--preset", "shop", "--rounds", "2", "--seed", "7", "--seeds", "3", "--plot", picture)
    assert run(monkeypatch, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert asked == [("shop", 2, 7), ("shop", 2, 8), ("shop", 2, 9)]
    assert found["seeds"] == [7, 8, 9]
    assert len(found["simulations"]) == 3
    assert found["gain"]["value"] == pytest.approx(0.5)
    assert picture.read_text().startswith("<svg")
    assert run(monkeypatch, *words) == 0
    assert "retraining beats no retraining" in capsys.readouterr().out.replace("\n", " ")


def test_calls_that_cannot_be_are_told_before_anything_is_lived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workspace, "simulate", lambda *_, **__: pytest.fail("nothing should be lived"))
    assert run(monkeypatch, "--plot", tmp_path / "nowhere" / "x.svg") == 2
    assert "there is no folder" in capsys.readouterr().err
    os.mkfifo(tmp_path / "pipe")
    assert run(monkeypatch, "--plot", tmp_path / "pipe") == 2
    assert "not a plain file" in capsys.readouterr().err
    assert run(monkeypatch, "--preset", "sociable") == 2
    assert "expected one of news, shop, social" in capsys.readouterr().err
    assert run(monkeypatch, "--rounds", "1") == 2
    assert "'--rounds'" in capsys.readouterr().err
    assert run(monkeypatch, "--plot", tmp_path) == 2
    assert "is a directory" in capsys.readouterr().err
    for factor in ("inf", "nan", "-1"):
        assert run(monkeypatch, "--factor", factor) == 2
        assert "expected a positive number" in capsys.readouterr().err


def test_the_result_is_printed_before_the_picture_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stand_in(plan, seed, *, progress):
        (tmp_path / "in").rmdir()  # what the picture was to be written to is gone by then
        return simulation(seed, plan=plan)

    (tmp_path / "in").mkdir()
    monkeypatch.setattr(workspace, "simulate", stand_in)
    assert run(monkeypatch, "--plot", tmp_path / "in" / "x.svg", "--json") == 5
    said = capsys.readouterr()
    assert "retraining changed the true reward" in json.loads(said.out)["statement"]
    assert "x.svg was not written: " in said.err


def test_a_world_that_is_too_small_is_told_in_its_own_terms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--factor", "1e-9", "--rounds", "2") == 2
    said = capsys.readouterr().err
    assert "a simulated world of 1 users and 1 items (factor 1e-09) is too small" in said
    assert "feedwell.toml" not in said

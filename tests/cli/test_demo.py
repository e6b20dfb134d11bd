"""The demo goes from raw events to an explained feed, may be run again, and leaves other folders alone."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from feedwell.cli import main

REAL = Path(os.environ.get("FEEDWELL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", [".venv/bin/feedwell", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def small_movielens(folder: Path) -> Path:
    """Two tastes, 60 people, 80 films, in the published layout."""
    folder.mkdir()
    rng = random.Random(1)
    lines = []
    for user in range(1, 61):
        films = rng.sample(range(1, 81), 30)
        start = 880_000_000 + user * 40_000
        for n, film in enumerate(films):
            stars = 5 if (film + user) % 2 else 2
            lines.append(f"{user}\t{film}\t{stars}\t{start + n * 60}")
    (folder / "u.data").write_text("\n".join(lines) + "\n")
    flags = ["|".join("1" if g == film % 18 + 1 else "0" for g in range(19)) for film in range(81)]
    films = [f"{film}|Film {film} (199{film % 9})|||x|{flags[film]}" for film in range(1, 81)]
    (folder / "u.item").write_text("\n".join(films) + "\n", encoding="latin-1")
    (folder / "u.user").write_text("".join(f"{u}|{20 + u % 40}|M|writer|10115\n" for u in range(1, 61)))
    return folder


def test_the_demo_ends_in_an_explained_feed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = small_movielens(tmp_path / "ml")
    words = ("demo", "--data", data, "--folder", tmp_path / "demo", "--requests", "60")
    monkeypatch.setenv("PATH", "")
    assert run(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    for phrase in ("popularity as of then", "pipeline", "The feed of user", "p_like", "Why, from its record"):
        assert phrase in said
    assert f"start the server: .venv/bin/feedwell serve --project {tmp_path / 'demo'}" in said
    assert run(monkeypatch, *words, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["report"]["release_id"]
    assert len(found["feed"]) == 10
    assert {row["item"] for row in found["feed"]} == {slot["item_id"] for slot in found["explained"]["slots"]}
    assert run(monkeypatch, "rollback", "-p", tmp_path / "demo") != 0  # there is nothing before the first champion
    assert run(monkeypatch, "publish", "--config", "-p", tmp_path / "demo") == 0
    assert run(monkeypatch, "rollback", "-p", tmp_path / "demo") == 0
    assert run(monkeypatch, "forget", "7", "-p", tmp_path / "demo", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"user": "7", "was_known": True}


def test_the_demo_leaves_a_folder_alone_that_it_did_not_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("keep")
    data = small_movielens(tmp_path / "ml")
    assert run(monkeypatch, "demo", "--data", data, "--folder", tmp_path / "mine") == 2
    assert "not empty" in capsys.readouterr().err
    assert (tmp_path / "mine" / "precious.txt").read_text() == "keep"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute and a half on two free cores; on a machine that others use it is the machine's
@pytest.mark.parametrize("name", ["", "ml-100k", "retailrocket"])
def test_the_demo_on_real_data_and_on_the_world(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name and not (REAL / name).is_dir():
        pytest.skip(f"no real data under {REAL}; set FEEDWELL_DATA")
    data: tuple[str | Path, ...] = ("--data", REAL / name) if name else ()
    assert run(monkeypatch, "demo", *data, "--folder", tmp_path / "demo", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["feed"]) == 10
    assert ("SIMULATED" in found["about"]) == (not name)

"""`feedwell evaluate --html`: the page goes where it was asked for, and no result is lost for a page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from feedwell import workspace
from feedwell.cli import main
from feedwell.core.errors import UsageError
from feedwell.workspace import Workspace
from tests.test_workspace import PROJECT
from tests.training.page.conftest import CONTENT


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "feedwell.toml").write_text(PROJECT)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, shop: Path, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["feedwell", "evaluate", "-p", str(shop), *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_page_is_written_through_a_link(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Workspace, "judged", lambda *_, **__: CONTENT)
    target, link = shop / "target.html", shop / "link.html"
    target.write_text("old")
    link.symlink_to(target)
    assert run(monkeypatch, shop, "--html", link) == 0
    assert link.is_symlink()
    assert "</html>" in target.read_text(encoding="utf-8")
    assert f"the report as a page: {link}" in capsys.readouterr().out
    with workspace.open(shop) as opened:
        assert opened.evaluate(html=shop / "again.html") == CONTENT.evaluation
    assert (shop / "again.html").read_bytes() != b""


def test_a_page_that_cannot_be_written_is_told_before_anything_is_fitted(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Workspace, "judged", lambda *_, **__: pytest.fail("nothing should be fitted"))
    page = shop / "nowhere" / "x.html"
    assert run(monkeypatch, shop, "--html", page) == 2
    assert f"--html {page}: there is no folder" in capsys.readouterr().err
    with workspace.open(shop) as opened, pytest.raises(UsageError, match="there is no folder"):
        opened.evaluate(html=page)
    assert not page.parent.exists()


def test_a_page_that_fails_late_does_not_cost_the_result(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shop / "pages"

    def judged(*_, **__):  # where the page was to be written is gone by then
        folder.rmdir()
        folder.touch()
        return CONTENT

    monkeypatch.setattr(Workspace, "judged", judged)
    folder.mkdir()
    assert run(monkeypatch, shop, "--html", folder / "x.html", "--json") == 5
    said = capsys.readouterr()
    assert json.loads(said.out)["n_requests"] == CONTENT.evaluation.n_requests
    assert f"--html {folder / 'x.html'} was not written: " in said.err
    folder.unlink()
    folder.mkdir()
    with workspace.open(shop) as opened, pytest.warns(UserWarning, match="page was not written to"):
        assert opened.evaluate(html=folder / "x.html") == CONTENT.evaluation

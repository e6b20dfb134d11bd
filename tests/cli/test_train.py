"""`feedwell train`: no result is lost for the page beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from feedwell import workspace
from feedwell.cli import main
from feedwell.training.report import TrainReport
from tests.test_workspace import PROJECT
from tests.training.page.conftest import CONTENT

REPORT = TrainReport(
    release_id="r1",
    spans=CONTENT.spans,
    n_exposures={},
    n_rows=1234,
    labels={},
    coverage=(),
    evaluation=CONTENT.evaluation,
    gates=(),
    score_shift={},
    warnings=("an earlier one",),
    cost={},
)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose training is REPORT."""
    (tmp_path / "feedwell.toml").write_text(PROJECT)
    monkeypatch.setattr(workspace, "train", lambda *_, **__: REPORT)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, shop: Path, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["feedwell", "train", "-p", str(shop), *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_where_the_page_is_is_printed(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = shop / ".feedwell" / "reports" / "r1.html"
    assert run(monkeypatch, shop) == 0
    assert f"the report as a page: {page}" in capsys.readouterr().out
    assert "</html>" in page.read_text(encoding="utf-8")
    assert run(monkeypatch, shop, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["page"], found["warnings"]) == (str(page), ["an earlier one"])
    with workspace.open(shop) as opened:
        assert opened.report_path("r1") == page
        assert opened.report_path("r" * 300) is None  # the system refuses to look, as where it gives no permission


def test_a_page_that_cannot_be_written_does_not_cost_the_training(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / ".feedwell").mkdir()
    (shop / ".feedwell" / "reports").touch()  # no folder, so that no page can be written
    page = shop / ".feedwell" / "reports" / "r1.html"
    with workspace.open(shop) as opened:
        report = opened.train()
        assert opened.report_path("r1") is None
    assert report.release_id == "r1"
    first, told = report.warnings
    assert first == "an earlier one"
    assert told.startswith(f"the report's page was not written to {page}: File exists")
    assert run(monkeypatch, shop) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"warning: {told}" in said
    assert "1,234 training rows" in said
    assert "the report as a page" not in said
    assert run(monkeypatch, shop, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["page"], found["warnings"], found["n_rows"]) == (None, ["an earlier one", told], 1234)

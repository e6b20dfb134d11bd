"""Every "add your own" page does what it says: its files, its keys and its commands, one page after the other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import feedwell
from feedwell.core.clock import DAY, SECOND, ManualClock

PAGES = Path(__file__).parents[2] / "docs" / "add-your-own"
NAMES = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README")
START = 1_767_571_200 * SECOND
BASE = """
[project]
name = "mine"

[data]
events = "events.jsonl"
exposure = ["view"]

[event.view]
[event.like]

[entity.item]
path = "items.jsonl"
columns = { title = "string", category = "string", price = "float" }
text = ["title"]
group = "category"

[objective.like]
events = ["like"]
within = "1h"

[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]

[source.popular]
k = 40

[train]
negatives = 5

[evaluate]
k = 5
bootstrap = 50
"""
TWO_TOWER = '[source.two_tower]\nembed = "spelling"'
"""What a page says of the one part that learns for long: one epoch of it shows that the key is right."""


@dataclass(frozen=True)
class Page:
    """`files`: name → text; `sections`: the project keys; `commands`: what the page says to run."""

    files: dict[str, str]
    plugins: list[str]
    sections: str
    commands: list[list[str]]

    @staticmethod
    def read(name: str) -> Page:
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", text, re.M | re.S)
        toml = "".join(body for kind, _, body in blocks if kind == "toml")
        listed = re.search(r"^plugins = (\[.*\])\n", toml, re.M)
        return Page(
            files={title: body for kind, title, body in blocks if kind == "python" and title},
            plugins=json.loads(listed[1]) if listed else [],
            sections=re.sub(r"^plugins = .*\n", "", toml, flags=re.M),
            commands=[line.split() for kind, _, body in blocks if kind == "console" for line in body.splitlines()],
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project in which somebody followed all the pages."""
    folder = tmp_path_factory.mktemp("mine")
    pages = [Page.read(name) for name in NAMES]
    for page in pages:
        for title, body in page.files.items():
            (folder / title).write_text(body, encoding="utf-8")
    plugins = json.dumps([name for page in pages for name in page.plugins])
    sections = "\n".join(page.sections for page in pages)
    assert sections.count(TWO_TOWER) == 1
    sections = sections.replace(TWO_TOWER, f"{TWO_TOWER}\nepochs = 1")
    (folder / "feedwell.toml").write_text(f"plugins = {plugins}\n{BASE}\n{sections}", encoding="utf-8")
    _data(folder)
    return folder


def _data(folder: Path) -> None:
    """Two tastes: a user likes half of what is of the own one; prices from 1 to 100."""
    rng = np.random.default_rng(1)
    items = [
        {"item_id": f"i{n}", "title": f"thing {n % 7}", "category": f"c{n % 4}", "price": 1.0 + n} for n in range(100)
    ]
    events = []
    for user in range(60):
        for visit in range(5):
            t = START + visit * DAY + int(rng.integers(DAY // 2 // SECOND)) * SECOND
            for item in rng.choice(100, 4, replace=False).tolist():
                t += 60 * SECOND
                events.append({"type": "view", "user": f"u{user}", "item": f"i{item}", "ts": t // SECOND})
                if item % 2 == user % 2 and rng.random() < 0.5:
                    events.append({"type": "like", "user": f"u{user}", "item": f"i{item}", "ts": t // SECOND + 20})
    for name, rows in (("items.jsonl", items), ("events.jsonl", sorted(events, key=lambda row: row["ts"]))):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_every_kind_of_part_has_its_page() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == set(NAMES)
    assert set(NAMES) == {"source", "filter", "scorer", "slate", "metric", "aggregate", "embedder"}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole(name: str) -> None:
    page = Page.read(name)
    assert (len(page.plugins), len(page.files)) == (1, 2)
    assert page.sections
    assert page.commands == [["feedwell", "check"], ["python", "-m", "pytest", f"test_{page.plugins[0]}"]]


def test_the_commands_of_all_pages_pass(project: Path) -> None:
    checked = _run([sys.executable, "-m", "feedwell", "check"], project)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tests = sorted(path.name for path in project.glob("test_*.py"))
    assert len(tests) == len(NAMES)
    tried = _run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], project)
    assert tried.returncode == 0, tried.stdout[-3000:]
    assert re.search(r"(\d+) passed", tried.stdout)
    assert "skipped" not in tried.stdout


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))


def test_the_parts_of_all_pages_serve_together(project: Path) -> None:
    with feedwell.open(project, clock=ManualClock(START + 30 * DAY)) as opened:
        opened.ingest(history=True)
        report = opened.train()
        opened.publish(force=True)
        feed = opened.recommend("u1", explore=False)
        told = opened.explain(feed.request_id)
        asof = opened.features.columns
    metrics = report.evaluation.row("pipeline").metrics
    assert {"hit_value@5", "mean_price@5"} <= set(metrics)
    assert 0 < metrics["mean_price@5"].value <= 80
    assert report.evaluation.row("source.two_tower").coverage > 0  # it read content through the page's embedder
    assert "item_views_per_day" in asof
    assert feed.record.degraded in ((), [])
    sources = set(", ".join(feed.table["sources"].to_pylist()).split(", "))
    assert "liked_again" in sources
    assert "p_like" in feed.table.column_names
    assert told["counts"]["filter.affordable"] > 0

"""The reference page says what the typed configuration says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_is_current() -> None:
    code = "import generate; print(generate.reference(), end='')"  # another process: tests file parts of their own
    command = [sys.executable, "-c", code]
    made = subprocess.run(command, cwd=DOCS / "reference", capture_output=True, text=True, check=True, encoding="utf-8")
    written = (DOCS / "reference" / "feedwell.toml.md").read_text(encoding="utf-8")
    assert written == made.stdout, "run `python docs/reference/generate.py`"
    assert "__" not in written


def test_every_noun_has_its_page_and_every_page_is_listed() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\((\w+)\.md\)", index))
    assert listed == {page.stem for page in DOCS.glob("*.md")} - {"README"}
    flow = {"events", "keys", "catalog", "objectives", "exposure", "features", "requests", "candidates", "parts"}
    assert flow | {"slates", "records", "releases", "experiments", "metrics", "project"} <= listed


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(DOCS.parent)} links to {target}"

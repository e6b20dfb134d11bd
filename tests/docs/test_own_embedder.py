"""The page says how to add an embedder: done exactly so, it conforms."""

import re
from pathlib import Path

from feedwell.core import registry
from feedwell.testing import checks

PAGE = Path(__file__).parents[2] / "docs" / "parts.md"


def test_the_embedder_of_the_page_conforms(tmp_path, monkeypatch):
    section = PAGE.read_text(encoding="utf-8").partition("## Your own embedder")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    (tmp_path / "letters.py").write_text(code, encoding="utf-8")
    registry.load_plugin(tmp_path / "letters.py")
    listed = checks("embedder", "letters")
    assert len(listed) > 5
    for check in listed:
        check()

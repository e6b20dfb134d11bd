"""The tutorial does what it says: its commands in their order, on the real shop and on a tiny one of the same form."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedwell.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
REAL = Path(os.environ.get("FEEDWELL_DATA", Path(__file__).parents[3] / "shared" / "data")).resolve()
PROJECT = Path("shop") / "feedwell.toml"


def blocks() -> list[tuple[str, str]]:
    """(sh or toml, the text) of every block in order."""
    found = re.findall(r"^```(sh|toml)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert [kind for kind, _ in found].count("toml") == 2
    assert len(found) > 8
    return found


def tiny_shop(folder: Path) -> Path:
    """Seventeen people of two tastes, with the user and the item that the page names."""
    rng, rows = np.random.default_rng(0), []
    for user in [1176, *range(1, 17)]:
        for visit in range(5):
            start = 1_440_000_000 + visit * 2_500_000 + int(rng.integers(1_500_000))
            for step, item in enumerate([*rng.choice(30, 4, replace=False).tolist(), 19255][: 4 + user % 2]):
                at = start + 60 * step
                rows.append((user, item, "view", at))
                if item % 2 == user % 2 and item < 30:
                    rows.append((user, item, "cart", at + 20))
                    rows += [(user, item, "buy", at + 40)] if rng.random() < 0.5 else []
    columns = zip(*sorted(rows, key=lambda row: row[3]), strict=True)
    (folder / "retailrocket").mkdir(parents=True)
    table = pa.table(dict(zip(("user", "item", "event", "ts"), map(list, columns), strict=True)))
    pq.write_table(table, folder / "retailrocket" / "events.parquet")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """One `feedwell ...` line, in this process."""
    words = [os.path.expandvars(word) for word in shlex.split(line)]
    monkeypatch.setattr(sys, "argv", words)
    code: object = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    assert not code, line


def test_the_commands_work_on_a_tiny_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the second training; those after it and those that need a shell are left to the slow test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEEDWELL_DATA", str(tiny_shop(tmp_path / "data")))
    n_run = 0
    for kind, text in blocks():
        if kind == "toml":
            with PROJECT.open("a", encoding="utf-8") as file:
                file.write("\n" + text)
            continue
        for line in text.splitlines() if "$(" not in text else []:
            if line.startswith("feedwell train") and n_run > 5:
                return
            run(monkeypatch, line)
            n_run += 1
            if line.startswith("feedwell init"):  # a tiny shop need not wait for three hundred trees
                told = PROJECT.read_text(encoding="utf-8").replace('kind = "xgboost"', 'kind = "xgboost"\nn_trees = 10')
                PROJECT.write_text(told, encoding="utf-8")
    raise AssertionError("the page trains once only")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's calls over HTTP need curl")
@pytest.mark.parametrize("shop", ["tiny", "real"])
def test_the_page_works_as_it_stands(tmp_path: Path, shop: str) -> None:
    data = REAL if shop == "real" else tiny_shop(tmp_path / "data")
    if not (data / "retailrocket").is_dir():
        pytest.skip(f"no retailrocket under FEEDWELL_DATA: {REAL}")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    command = binaries / "feedwell"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m feedwell "$@"\n')
    command.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = {"FEEDWELL_DATA": str(data), "PORT": str(port), "PATH": f"{binaries}:{os.environ['PATH']}"}
    script = ["set -euo pipefail"]
    for kind, text in blocks():
        script.append(text if kind == "sh" else f"cat >> {PROJECT} <<'END'\n\n{text}END")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script).replace("\nwait\n", "\nwait || true\n")],
        cwd=tmp_path,
        env=os.environ | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for phrase in ("pipeline", "is the candidate", "is the champion", "is the champion again"):
        assert phrase in done.stdout, phrase
    assert re.search(r"^look\s", done.stdout, re.M), "no head of the added objective in the second report"
    answers = re.findall(r'^\{"request_id".*"items".*\}$', done.stdout, re.M)
    assert len(answers) == 2, done.stdout[-3000:]
    assert '"19255"' not in answers[1]

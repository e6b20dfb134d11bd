"""A real server on the loopback: several processes, killed and restarted, with one projector."""

from __future__ import annotations

import copy
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import pytest

from feedwell import workspace
from feedwell.core.errors import CorruptArtifact, DataError, Problem, ProjectError, Unavailable
from feedwell.serving import supervisor as module
from feedwell.serving.supervisor import Supervisor

from .conftest import SHOP_TEXT, unreadable_champion

BUSY = """
[environment.busy]
serving.workers = 2
slate.k = 4
feature.item_views.windows = ["7d"]
"""
"""What the supervisor, its workers (the slate) and its projector (a view that it alone has) must all be told of."""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    (tmp_path / "feedwell.toml").write_text(SHOP_TEXT + BUSY)
    made = Supervisor(tmp_path, environment="busy", port=0)
    made.start()
    yield made
    made.close()


def until(holds: Callable[[], bool], supervisor: Supervisor) -> None:
    for _ in range(600):
        supervisor.tend()
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come to pass within a minute")


def test_workers_share_a_port_come_back_and_stop_clean(supervisor: Supervisor) -> None:
    base = f"http://{supervisor.host}:{supervisor.port}"
    assert supervisor.host == "127.0.0.1"
    until(lambda: httpx.get(f"{base}/ready").status_code == 200, supervisor)
    items = [{"item_id": f"i{i}"} for i in range(5)]
    assert httpx.put(f"{base}/v1/items", json=items).json()["accepted"] == 5
    url = f"{base}/v1/recommend/u1"
    until(lambda: len(httpx.get(url).json()["items"]) == 4, supervisor)

    before = supervisor.pids()
    assert set(before) == {"projector", "worker-0", "worker-1"}
    for name in ("projector", "worker-0"):
        os.kill(before[name], signal.SIGKILL)
    until(lambda: len(supervisor.pids()) == 3 and supervisor.pids() != before, supervisor)
    assert supervisor.pids()["worker-1"] == before["worker-1"]
    bought = {"type": "buy", "user": "u2", "item": "i1"}
    until(lambda: httpx.post(f"{base}/v1/events", json=bought).status_code == 200, supervisor)
    until(lambda: httpx.get(f"{base}/ready").json()["lag_events"] == 0, supervisor)
    until(lambda: 'process="projector"' in httpx.get(f"{base}/metrics").text, supervisor)

    pids = supervisor.pids().values()
    supervisor.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_taken_port_is_said_at_once(supervisor: Supervisor) -> None:
    with pytest.raises(Unavailable, match="--port"):
        Supervisor(supervisor.folder, port=supervisor.port).start()


def test_a_champion_that_cannot_be_opened_ends_serve_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "feedwell.toml").write_text(SHOP_TEXT)
    unreadable_champion(tmp_path)
    with workspace.open(tmp_path) as opened, pytest.raises(DataError, match="train again") as told:
        opened.recommend("u1")
    command = [sys.executable, "-m", "feedwell", "serve", "--port", "0", "--workers", "2", "--project", str(tmp_path)]
    served = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (served.returncode, served.stdout, served.stderr) == (4, "", f"feedwell: {told.value}\n")


class Mortal:
    """A process that lives for `life_s` of the test's clock and then ends with 4."""

    pid, exitcode = None, 4

    def __init__(self, now: Callable[[], float], life_s: float) -> None:
        self._now, self._ends = now, now() + life_s

    def start(self) -> None: ...

    def is_alive(self) -> bool:
        return self._now() < self._ends


def mortal_worker(folder: Path, monkeypatch: pytest.MonkeyPatch, life_s: float, word: Any) -> Supervisor:
    """A supervisor of one worker that says `word`; each `tend` is half a second later."""
    (folder / "feedwell.toml").write_text(SHOP_TEXT)
    supervisor, clock = Supervisor(folder), [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    tend = supervisor.tend

    def later() -> list[str]:
        clock[0] += 0.5
        return tend()

    def start(says: Connection) -> Any:
        if word != "nothing":
            says.send(word)
        return Mortal(lambda: clock[0], life_s)

    monkeypatch.setattr(supervisor, "tend", later)
    supervisor._children = [module._Child("worker-0", start)]
    supervisor._begin(supervisor._children[0])
    return supervisor


@pytest.mark.parametrize("life_s", [0.0, 12.0])
def test_a_worker_that_cannot_come_back_is_tried_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, life_s: float
) -> None:
    supervisor = mortal_worker(tmp_path, monkeypatch, life_s, CorruptArtifact("rot"))
    supervisor.opened = True
    begun = [i * 0.5 for i in range(600) if supervisor.tend()]
    pauses = [b - a - life_s for a, b in itertools.pairwise(begun)]
    assert pauses == sorted(pauses)
    assert 9 < pauses[-1] < 11


def test_a_worker_that_served_for_a_while_comes_back_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = mortal_worker(tmp_path, monkeypatch, 20.0, None)
    begun = [i * 0.5 for i in range(600) if supervisor.tend()]
    assert len(begun) > 10
    assert max(b - a for a, b in itertools.pairwise(begun)) <= 21


def test_a_first_worker_that_ends_without_a_word_is_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = mortal_worker(tmp_path, monkeypatch, 1.0, "nothing")
    assert supervisor.tend() == []
    with pytest.raises(Unavailable, match="worker-0 ended with 4 before it had opened"):
        supervisor.tend()


def test_the_problems_of_a_project_reach_another_process_whole() -> None:
    error = ProjectError([Problem(key="plugins", message="a library is gone")])
    received = copy.copy(error)
    assert (received.problems, str(received)) == (error.problems, str(error))

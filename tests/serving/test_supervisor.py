"""A real server on the loopback: several processes, killed and restarted, with one projector."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from feedwell.core.errors import Unavailable
from feedwell.serving.supervisor import Supervisor

from .conftest import SHOP_TEXT

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

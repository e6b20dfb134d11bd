"""Sources that misbehave, each alone and in pairs, through HTTP: a valid feed, and `degraded` says why."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import combinations
from types import ModuleType

import pytest

from .conftest import SHOP_TEXT, Server

WHY = {
    "test_raises": "RuntimeError",
    "test_nan": "NaN",
    "test_million": "cut",
    "test_remote_sleeps": "TimeoutError",
    "test_sleeps": "took",
}
ALONE_AND_IN_PAIRS = [*((one,) for one in WHY), *combinations(WHY, 2)]


def text_with(*kinds: str) -> str:
    sections = "".join(f'\n[source.{kind}]\nkind = "{kind}"\n' for kind in kinds)
    return SHOP_TEXT.replace('deadline = "200ms"', 'deadline = "1s"') + sections


@pytest.mark.parametrize("kinds", ALONE_AND_IN_PAIRS, ids="+".join)
def test_a_valid_feed_all_the_same(
    servers: Callable[..., Server], parts: ModuleType, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...]
) -> None:
    """The remote one sleeps for 5 s, the local one for 1.2 s in its first request: with a deadline of 1 s."""
    monkeypatch.setattr(parts.Sleeps, "seconds", 0.0)
    server = servers(text_with(*kinds))
    server.runtime.pace.retries.stop()
    # As if the process had not met the source in its warm-up: its first request may be late.
    server.runtime.pace.budget._times.clear()
    server.runtime.pace.remote._breakers.clear()
    server.runtime.pace.budget.width.value = 1.0
    monkeypatch.setattr(parts.Sleeps, "seconds", 1.2)
    begin = time.monotonic()
    feed = server.feed("u1")
    assert time.monotonic() - begin < 4.0
    assert len(feed["items"]) == 6
    assert len({item["item_id"] for item in feed["items"] if item["item_id"]}) == 6
    for kind in kinds:
        told = [why for why in feed["degraded"] if why.startswith(f"source.{kind}:")]
        slept_before = "test_sleeps" in kinds and kind != "test_sleeps"
        assert told or slept_before, feed["degraded"]
        assert any(WHY[kind] in why or (slept_before and ("skipped" in why or "Timeout" in why)) for why in told)
    if "test_sleeps" in kinds:
        assert server.runtime.telemetry.value("late_requests") >= 1
        calls = parts.Sleeps.calls
        second = server.feed("u1")
        assert len(second["items"]) == 6
        assert any("source.test_sleeps: skipped" in why for why in second["degraded"])
        assert parts.Sleeps.calls == calls


def test_a_local_sleeper_comes_back_without_a_request_paying_for_it(
    servers: Callable[..., Server], parts: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.Sleeps, "seconds", 0.0)
    server = servers(text_with("test_sleeps"))
    monkeypatch.setattr(parts.Sleeps, "seconds", 1.2)
    server.runtime.pace.budget._times.pop("source.test_sleeps")
    server.feed("u1")
    assert any("skipped" in why for why in server.feed("u1")["degraded"])
    monkeypatch.setattr(parts.Sleeps, "seconds", 0.0)
    for _ in range(100):
        time.sleep(0.1)
        if server.feed("u1")["degraded"] == []:
            break
    assert server.feed("u1")["degraded"] == []
    assert server.runtime.telemetry.value("retries_off_path", part="source.test_sleeps") >= 1

from __future__ import annotations

import threading

import pytest

from feedwell.core.request import Request
from feedwell.core.telemetry import Telemetry
from feedwell.pipeline.budget import Budget
from feedwell.pipeline.remote import IN_FLIGHT, RemoteCalls
from feedwell.pipeline.retry import Retries

REQUEST = Request(request_id="r", user_id="u", t=1, n=1)


class Watch:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A source that takes as long as it is told, on the watch that is passed in."""

    config = None
    needs = ()

    def __init__(self, watch: Watch) -> None:
        self.watch, self.seconds, self.calls = watch, 1.0, 0

    def __call__(self, request: Request) -> None:
        self.calls += 1
        self.watch.now += self.seconds


def test_a_skipped_source_is_tried_with_growing_pauses_until_it_is_quick() -> None:
    watch = Watch()
    budget = Budget(100, watch)
    budget.observe("s", 1000)
    retries, source = Retries(budget, Telemetry(), first_s=1.0), Slow(watch)
    retries.skipped("s", source, REQUEST)
    assert retries.run_due() == []
    assert source.calls == 0
    watch.now += 1.0
    assert retries.run_due() == []
    assert source.calls == 2, "once in full, once by half"
    watch.now += 1.5
    retries.run_due()
    assert source.calls == 2, "the second pause is twice as long"
    watch.now += 1.0
    source.seconds = 0.001
    assert retries.run_due() == ["s"]
    assert budget.share_of("s", 50) == 1.0
    watch.now += 1000
    assert retries.run_due() == []


def test_a_source_that_raises_off_the_path_stays_out() -> None:
    watch = Watch()
    budget = Budget(100, watch)
    budget.observe("s", 1000)

    class Raising(Slow):
        def __call__(self, request: Request) -> None:
            raise RuntimeError

    telemetry = Telemetry()
    retries = Retries(budget, telemetry, first_s=0.0)
    retries.skipped("s", Raising(watch), REQUEST)
    assert retries.run_due() == []
    assert telemetry.value("retries_failed", part="s") == 2
    assert budget.share_of("s", 50) == 0.0


def test_a_call_times_out_and_the_breaker_opens_then_lets_one_through() -> None:
    watch, gate = Watch(), threading.Event()
    calls = RemoteCalls(watch)
    for _ in range(3):
        call = calls.start("r", gate.wait)
        assert not isinstance(call, str)
        with pytest.raises(TimeoutError):
            call.result(0.0)
    assert "breaker" in str(calls.start("r", gate.wait))
    gate.set()
    watch.now += 5.0
    call = calls.start("r", lambda: 42)
    assert not isinstance(call, str)
    assert call.result(5.0) == 42
    again = calls.start("r", lambda: 43)
    assert not isinstance(again, str)
    assert again.result(5.0) == 43


def test_calls_in_flight_are_bounded() -> None:
    gate = threading.Event()
    calls = RemoteCalls(Watch())
    started = [calls.start("r", gate.wait) for _ in range(IN_FLIGHT)]
    assert not any(isinstance(call, str) for call in started)
    assert "in flight" in str(calls.start("r", gate.wait))
    gate.set()


def test_what_a_call_raises_arrives() -> None:
    def fail() -> None:
        raise KeyError("x")

    call = RemoteCalls(Watch()).start("r", fail)
    assert not isinstance(call, str)
    with pytest.raises(KeyError):
        call.result(5.0)

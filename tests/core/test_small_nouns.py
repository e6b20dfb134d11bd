import math

import numpy as np
import pytest

from feedwell.core.artifact import Manifest
from feedwell.core.assignment import CONTROL, assign
from feedwell.core.clock import HOUR, ManualClock
from feedwell.core.durations import format_duration, parse_duration
from feedwell.core.errors import Problem, ProjectError
from feedwell.core.event import scale_value
from feedwell.core.objective import parse_where, where_sql
from feedwell.core.rng import stream
from feedwell.core.telemetry import Telemetry


@pytest.mark.parametrize("text", ["36h", "90m", "7d", "1s", "250ms", "3us", "0s"])
def test_durations_survive_a_round_trip(text):
    assert format_duration(parse_duration(text)) == text


@pytest.mark.parametrize("text", ["", "7", "seven days", "-1h", "1y", None, True, 1.5])
def test_a_duration_without_a_unit_is_refused(text):
    with pytest.raises(ValueError, match="cannot read the duration"):
        parse_duration(text)


def test_where_reads_compares_and_writes_sql():
    terms = parse_where("value >= 4 and surface == 'home'")
    assert [t.holds(cell) for t, cell in zip(terms, (4.0, "search"), strict=True)] == [True, False]
    assert not terms[0].holds(None)
    assert where_sql(terms) == '"value" >= 4.0 AND "surface" = \'home\''
    assert where_sql(()) == "TRUE"


def test_the_text_that_a_where_compares_with_may_have_an_and_in_it():
    text = """surface == "rock and roll" and device != 'it"s and' and value < 2"""
    assert [t.constant for t in parse_where(text)] == ["rock and roll", 'it"s and', 2.0]


@pytest.mark.parametrize(
    "text",
    [
        "value => 4",
        "rating > 3",
        "value == 'x'",
        "surface > 3",
        "value >= 4 or value < 2",
        "value < 2 and ",
        "surface == 'a and b",
    ],
)
def test_a_where_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match=r"cannot read|compares"):
        parse_where(text)


def test_values_become_integers_once_and_halves_go_up():
    assert [scale_value(v, 10) for v in (0.25, -0.25, 0.24, None, math.nan, math.inf)] == [3, -2, 2, None, None, None]


def test_assignment_is_stable_and_splits_as_declared():
    arms = [assign(f"u{i}", "e", {"b": 0.3, "c": 0.2}) for i in range(20_000)]
    assert arms[:50] == [assign(f"u{i}", "e", {"b": 0.3, "c": 0.2}) for i in range(50)]
    shares = {arm: arms.count(arm) / len(arms) for arm in ("b", "c", CONTROL)}
    assert shares == pytest.approx({"b": 0.3, "c": 0.2, CONTROL: 0.5}, abs=0.015)


def test_streams_repeat_by_name_and_differ_between_names():
    draws = [stream(7, name).random(4) for name in ("r1", "r1", "r2")]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_a_digest_names_content_and_not_cost():
    a = Manifest(kind="source", name="als", files={"x": "00"}, cost={"cpu_s": 1.0})
    assert a.digest == a.model_copy(update={"cost": {"cpu_s": 2.0}}).digest
    assert a.digest != a.model_copy(update={"files": {"x": "01"}}).digest


def test_all_problems_are_in_the_message_with_their_places():
    error = ProjectError(
        [
            Problem(key="slate.knd", message="unknown key", line=4, nearest="kind"),
            Problem(key="split", message="bad", expected="x"),
        ]
    )
    assert error.exit_code == 3
    assert "feedwell.toml:4: slate.knd: unknown key; did you mean 'kind'?" in str(error)
    assert "feedwell.toml: split: bad (expected x)" in str(error)


def test_telemetry_in_prometheus_text():
    t = Telemetry()
    t.count("requests", surface='a"b')
    t.count("requests", 2, surface='a"b')
    t.gauge("lag_ms", 7)
    t.observe_ms("stage", 0.3, stage="sources")
    text = t.prometheus({"worker": "0"})
    assert 'feedwell_requests_total{worker="0",surface="a\\"b"} 3' in text
    assert 'feedwell_stage_ms_bucket{worker="0",stage="sources",le="0.5"} 1' in text
    assert 'feedwell_stage_ms_bucket{worker="0",stage="sources",le="0.25"} 0' in text
    assert 'feedwell_stage_ms_count{worker="0",stage="sources"} 1' in text
    assert t.value("requests", surface='a"b') == 3


def test_a_manual_clock_stands_still():
    clock = ManualClock(5)
    clock.advance(HOUR)
    assert (clock.now(), clock.now()) == (5 + HOUR, 5 + HOUR)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedwell.pipeline.budget import MIN_WIDTH, Budget, DecayedTimes, Width


class Watch:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def filled(*ms: float) -> DecayedTimes:
    times = DecayedTimes()
    for one in ms:
        times.observe(one)
    return times


@given(st.lists(st.floats(0.02, 50_000), min_size=1, max_size=50))
def test_percentiles_are_never_below_the_only_values_seen(values: list[float]) -> None:
    times = filled(*values)
    assert times.percentile(1.0) >= values[-1] * 0.999 or max(values) > values[-1]
    assert times.percentile(0.5) <= times.percentile(0.95) <= max(values) * 1.1501


def test_a_percentile_is_within_one_bucket() -> None:
    times = filled(*[2.0] * 60, *[40.0] * 40)
    assert 2.0 <= times.percentile(0.3) <= 2.3
    assert 40.0 <= times.percentile(0.95) <= 46.0


def test_old_times_are_forgotten() -> None:
    times = filled(*[500.0] * 20, *[1.0] * 300)
    assert times.percentile(0.95) < 1.2


def test_restart_forgets_all_but_one() -> None:
    times = filled(*[500.0] * 20)
    times.restart(2.0)
    assert 2.0 <= times.percentile(0.99) < 2.4


def test_an_unmeasured_part_runs_while_time_is_left() -> None:
    budget = Budget(100)
    assert budget.share_of("new", 1.0) == 1.0
    assert budget.share_of("new", 0.0) == 0.0


def test_a_part_runs_in_full_by_half_or_not_at_all() -> None:
    budget = Budget(100)
    budget.observe("part", 40)
    assert budget.share_of("part", 60) == 1.0
    assert budget.share_of("part", 30) == 0.0, "nothing is known about half of it"
    budget.observe_half("part", 20)
    assert budget.share_of("part", 30) == 0.5
    assert budget.share_of("part", 10) == 0.0


def test_cheapest_first_and_the_unmeasured_last() -> None:
    budget = Budget(100)
    budget.observe("slow", 30)
    budget.observe("quick", 3)
    assert budget.cheapest_first(["new", "slow", "quick", "newer"]) == ["quick", "slow", "new", "newer"]


def test_width_narrows_with_lateness_and_stays_in_bounds() -> None:
    width = Width(100)
    for _ in range(50):
        width.observe(500)
    assert width.value == MIN_WIDTH
    for _ in range(2000):
        width.observe(5)
    assert width.value == 1.0


def test_width_settles_where_the_percentile_meets_its_target() -> None:
    """Latency grows with width: the share of late requests must come to 1 - p, not to 0 and not far above."""
    width, late = Width(100, p=0.95), []
    for i in range(20_000):
        ms = 120 * width.value + (i * 37 % 20)
        late.append(ms > 100)
        width.observe(ms)
    assert sum(late[5_000:]) / 15_000 == pytest.approx(0.05, abs=0.02)

"""The claim of the closed loop, over all of its seeds: an hour and more of a core."""

from __future__ import annotations

import pytest

from feedwell import workspace
from feedwell.data.world import PRESETS
from feedwell.jobs.plan import Plan
from feedwell.jobs.verdict import verdict

SEEDS = range(20)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_retraining_pays(preset: str) -> None:
    judged = verdict([workspace.simulate(Plan(preset=preset), seed) for seed in SEEDS])

    assert judged.gain.is_above_zero, judged.statement()
    assert judged.shares["retrained above random"].low > 0

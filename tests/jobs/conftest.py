"""One small loop, lived once for all tests that look at it."""

from __future__ import annotations

import pytest

from feedwell import workspace
from feedwell.jobs.simulate import Simulation
from tests.jobs.small import SEED, SMALL


@pytest.fixture(scope="session")
def lived() -> Simulation:
    return workspace.simulate(SMALL, SEED)

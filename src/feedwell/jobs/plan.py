"""Plan: how large a closed loop is, and how long it runs; one value for every seed of a comparison."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from feedwell.core.clock import DAY
from feedwell.core.errors import UsageError
from feedwell.data.world import WorldConfig, preset


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The world, the days of history that seed every arm, and the rounds that they then live through: two at least,
    because in the first both arms of the system serve the same release.

    A release is trained on at most `learn_from` pages, judged on at most `judge_on`. The defaults make the costlier
    arm of a seed take less than a minute of one core.
    """

    preset: str = "social"
    factor: float = 0.3
    history_days: int = 4
    rounds: int = 4
    days_per_round: int = 1
    learn_from: int = 500
    judge_on: int = 40

    def __post_init__(self) -> None:
        for name, least in (("history_days", 2), ("rounds", 2), ("days_per_round", 1), ("learn_from", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"a simulation's {name} is {getattr(self, name)}, expected at least {least}")
        preset(self.preset)  # a UsageError names the presets that there are
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise UsageError(f"a simulation's factor is {self.factor}, expected a positive number")

    @property
    def world(self) -> WorldConfig:
        return preset(self.preset, self.factor)

    @property
    def start_ts(self) -> int:
        """When the history ends and round 1 begins, µs."""
        return self.world.start_ts + self.history_days * DAY

    def span(self, round_: int) -> tuple[int, int]:
        """[start, end) of a round, counted from 1, µs."""
        start = self.start_ts + (round_ - 1) * self.days_per_round * DAY
        return start, start + self.days_per_round * DAY

    @property
    def user_days(self) -> int:
        """Users × days of one round: what a round's reward is divided by, whoever came."""
        return self.world.n_users * self.days_per_round

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

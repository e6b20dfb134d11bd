"""What moves in time: each person's taste, each topic's trend, and regime changes on command. All of it is hidden.

Steps are days. Day d's step is drawn from its own stream, so the path is the same whatever days are asked for, in any
order.
"""

from __future__ import annotations

from bisect import bisect_right, insort

import numpy as np

from feedwell.core.clock import DAY
from feedwell.core.rng import stream
from feedwell.data.world.config import WorldConfig
from feedwell.data.world.noise import Float
from feedwell.data.world.people import unit


def day_of(config: WorldConfig, ts: int) -> int:
    """Days since the world's start; 0 before it."""
    return max(0, (ts - config.start_ts) // DAY)


class Tastes:
    """Taste vectors on the sphere: an Ornstein-Uhlenbeck step per day towards home, then back to length one.

    `shift(ts)` rotates every taste by `shift_angle` in fixed planes from `ts` on: a regime change that keeps the
    geometry (who resembles whom) and breaks what was learned about who likes what. Memory: U × D × 4 bytes a day.
    """

    def __init__(self, config: WorldConfig, seed: int, home_UD: Float) -> None:
        self._config, self._seed = config, seed
        self._home_UD = home_UD
        self._path = [home_UD.astype(np.float32)]
        self._shifts: list[int] = []

    def at(self, user: int, ts: int) -> Float:
        """The user's taste at `ts`, shape D, length one."""
        return self._regime(self._day(day_of(self._config, ts))[user].astype(np.float64), ts)

    def all_at(self, ts: int) -> Float:
        """Everyone's taste at `ts`, shape U × D."""
        return self._regime(self._day(day_of(self._config, ts)).astype(np.float64), ts)

    def shift(self, at_ts: int) -> None:
        """Adds a regime change at `at_ts`."""
        insort(self._shifts, at_ts)

    def _day(self, day: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        while len(self._path) <= day:
            last_UD, config = self._path[-1], self._config
            rng = stream(self._seed, "world", "taste", str(len(self._path)))
            step_UD = config.drift_per_day * rng.standard_normal(last_UD.shape)
            moved_UD = last_UD + config.drift_pull * (self._home_UD - last_UD) + step_UD
            self._path.append(unit(moved_UD).astype(np.float32))
        return self._path[day]

    def _regime(self, tastes: Float, ts: int) -> Float:
        for number in range(bisect_right(self._shifts, ts)):
            tastes = tastes @ _rotation(self._config, self._seed, number)
        return tastes


def _rotation(config: WorldConfig, seed: int, number: int) -> Float:
    """An orthogonal D × D matrix that turns every vector by exactly `shift_angle`."""
    dim = config.taste_dim
    basis, _ = np.linalg.qr(stream(seed, "world", "regime", str(number)).normal(size=(dim, dim)))
    cos, sin = np.cos(config.shift_angle), np.sin(config.shift_angle)
    turn = np.kron(np.eye(dim // 2), np.array([[cos, -sin], [sin, cos]]))
    rotated: Float = basis @ turn @ basis.T
    return rotated


class Trends:
    """What is in the air: per topic an AR(1) process over days, with rare bursts (breaking news)."""

    def __init__(self, config: WorldConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._path: list[Float] = [np.zeros(len(config.topics))]

    def at(self, ts: int) -> Float:
        """The trend of each topic on the day of `ts`, shape C."""
        day, config = day_of(self._config, ts), self._config
        while len(self._path) <= day:
            rng = stream(self._seed, "world", "trend", str(len(self._path)))
            kept_C = config.trend_memory * self._path[-1]
            burst_C = config.burst_size * (rng.random(len(kept_C)) < config.burst_share)
            self._path.append(kept_C + config.trend_sigma * rng.standard_normal(len(kept_C)) + burst_C)
        return self._path[day]

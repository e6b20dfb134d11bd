"""Verdict: what simulations over seeds say of retraining, with intervals over seeds, paired by seed.

Judged are the rounds from the second on: in the first, both arms of the system serve the same release. Seeds are whole
worlds (other people, items, tastes), so an interval over seeds is about worlds of that preset, not about users of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from feedwell.core.errors import UsageError
from feedwell.jobs.plan import Plan
from feedwell.jobs.simulate import ARMS, FROZEN, ORACLE, POPULAR, RANDOM, RETRAINED, Simulation

LEVEL = 0.95
Measure = Literal["reward", "per_request"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds with its 95 % Student interval; without one (NaN) for fewer than two seeds."""

    value: float
    low: float
    high: float
    n_seeds: int

    @staticmethod
    def of(values: Sequence[float]) -> Estimate:
        known = np.asarray(values, np.float64)
        known = known[np.isfinite(known)]
        n = len(known)
        mean = float(known.mean()) if n else float("nan")
        half = float("nan")
        if n > 1:
            half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * known.std(ddof=1) / np.sqrt(n))
        return Estimate(value=mean, low=mean - half, high=mean + half, n_seeds=n)

    @property
    def is_above_zero(self) -> bool:
        return self.low > 0

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`rounds[arm][r]`: true expected reward per user and day; the rest is over the judged rounds, paired by seed.

    Shares are of the gap between a floor and the oracle: `(arm - floor) / (oracle - floor)`, one number a seed.
    """

    plan: Plan
    seeds: tuple[int, ...]
    rounds: dict[str, tuple[Estimate, ...]]
    means: dict[str, Estimate]
    per_request: dict[str, Estimate]
    gain: Estimate
    """Retrained minus frozen."""
    last_gain: Estimate
    """The same in the last round."""
    gain_per_request: Estimate
    shares: dict[str, Estimate]
    retrainings: int
    refused: int
    first_refused: int
    """Seeds whose first release the gates would have kept back; it serves both arms all the same."""
    cpu_s: dict[str, float]
    """Mean CPU seconds a seed."""

    def statement(self) -> str:
        """One sentence, whatever came out."""
        if len(self.seeds) < 2:
            return (
                f"retraining changed the true reward by {self.gain.value:+.3f} per user and day; one seed is no proof"
            )
        verb = "beats" if self.gain.is_above_zero else ("is worse than" if self.gain.high < 0 else "does not beat")
        return (
            f"{self.plan.preset}: retraining {verb} no retraining: {self.gain} reward per user and day more, over "
            f"{len(self.seeds)} seeds"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"plan": self.plan.to_dict(), "statement": self.statement()}


def verdict(simulations: Sequence[Simulation]) -> Verdict:
    """Over all seeds of one plan. UsageError: there are none, or their plans differ."""
    if not simulations:
        raise UsageError("a verdict over seeds needs at least one simulation")
    plan = simulations[0].plan
    if any(s.plan != plan for s in simulations):
        raise UsageError("a verdict over seeds needs simulations of one plan; these differ in preset, size or length")
    judged = plan.rounds - 1

    def over(measure: Measure, arm: str, rounds: slice = slice(-judged, None)) -> np.ndarray[Any, Any]:
        """Each seed's mean over those rounds, shape S."""
        return np.array([np.mean([getattr(r, measure) for r in s.of(arm)[rounds]]) for s in simulations])

    reward = {arm: over("reward", arm) for arm in ARMS}
    return Verdict(
        plan=plan,
        seeds=tuple(s.seed for s in simulations),
        rounds={
            arm: tuple(Estimate.of(over("reward", arm, slice(r, r + 1)).tolist()) for r in range(plan.rounds))
            for arm in ARMS
        },
        means={arm: Estimate.of(reward[arm].tolist()) for arm in ARMS},
        per_request={arm: Estimate.of(over("per_request", arm).tolist()) for arm in ARMS},
        gain=_difference(reward[RETRAINED], reward[FROZEN]),
        last_gain=_difference(*(over("reward", arm, slice(-1, None)) for arm in (RETRAINED, FROZEN))),
        gain_per_request=_difference(*(over("per_request", arm) for arm in (RETRAINED, FROZEN))),
        shares={
            f"{arm} above {floor}": _share(reward[arm], reward[floor], reward[ORACLE])
            for arm, floor in (
                (RETRAINED, RANDOM),
                (FROZEN, RANDOM),
                (RETRAINED, POPULAR),
                (FROZEN, POPULAR),
                (RETRAINED, FROZEN),
            )
        },
        retrainings=sum(1 for s in simulations for r in s.rounds if r.retrained is not None),
        refused=sum(s.refused for s in simulations),
        first_refused=sum(bool(s.first_release.refused) for s in simulations),
        cpu_s={
            "prepare": float(np.mean([s.prepare_cpu_s for s in simulations])),
            **{arm: float(np.mean([s.cpu_s(arm) for s in simulations])) for arm in ARMS},
        },
    )


def _difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> Estimate:
    return Estimate.of((one - other).tolist())


def _share(arm: np.ndarray[Any, Any], floor: np.ndarray[Any, Any], ceiling: np.ndarray[Any, Any]) -> Estimate:
    """NaN, and so not counted, for a seed whose ceiling is no higher than the floor."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return Estimate.of(np.where(ceiling > floor, (arm - floor) / (ceiling - floor), np.nan).tolist())

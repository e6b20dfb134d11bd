"""Simulate: the closed loop in a world whose truth is known.

    history by the logging policy → project, first release → copied into two arms
    each round: every arm serves the same visits with the same luck → one of the two retrains and publishes

Both arms of the system have live features, live sources and filters, the same project file and the same first release;
what the frozen one lacks is retraining. Beside them live the world's own policies: `random`, `popular` (greedy), the
`logging` policy that made the history (popular with exploration), and `oracle` (the truth, one slate at a time).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from feedwell.core.clock import ManualClock
from feedwell.data.world import OraclePolicy, PopularPolicy, RandomPolicy, World, record_history
from feedwell.jobs.lives import Arm, PolicyArm, live
from feedwell.jobs.plan import Plan
from feedwell.jobs.system_arm import OpenSystem, Retrained, SystemArm
from feedwell.jobs.world_project import write

RETRAINED, FROZEN = "retrained", "frozen"
RANDOM, POPULAR, LOGGING, ORACLE = "random", "popular", "logging", "oracle"
ARMS = (RETRAINED, FROZEN, RANDOM, POPULAR, LOGGING, ORACLE)

Progress = Callable[[str, int, int | None], None]
"""(what is being done, how much of it is done, of how much; None: not known)"""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One arm in one round. `reward`: true expected reward per user and day, whoever came; `per_request`: per page."""

    arm: str
    round: int
    requests: int
    reward: float
    per_request: float
    cpu_s: float
    release_id: str = ""
    retrained: Retrained | None = None
    """What the retraining after this round came to; None where there was none."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """One seed's rounds of every arm. `prepare_cpu_s`: history, ingest and the first release, which the arms share."""

    plan: Plan
    seed: int
    rounds: tuple[Round, ...]
    prepare_cpu_s: float
    first_release: Retrained
    """The release that both arms begin with: it serves even where the gates would have kept it back, and says so."""

    @property
    def refused(self) -> int:
        """Releases that a gate or a check kept from serving."""
        return sum(1 for r in self.rounds if r.retrained is not None and r.retrained.refused)

    def of(self, arm: str) -> list[Round]:
        return [r for r in self.rounds if r.arm == arm]

    def cpu_s(self, arm: str) -> float:
        """What an arm cost, its rounds and retrainings, without what it shares."""
        return sum(r.cpu_s for r in self.of(arm))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"plan": self.plan.to_dict()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Simulation:
        """The inverse of `to_dict`, also through JSON."""
        rounds = tuple(
            Round(**r | {"retrained": None if r["retrained"] is None else _retrained(r["retrained"])})
            for r in data["rounds"]
        )
        return Simulation(
            plan=Plan(**data["plan"]),
            seed=data["seed"],
            rounds=rounds,
            prepare_cpu_s=data["prepare_cpu_s"],
            first_release=_retrained(data["first_release"]),
        )


def simulate(plan: Plan, seed: int, open_system: OpenSystem, *, progress: Progress | None = None) -> Simulation:
    """The loop of one seed, in temporary folders. Equal (plan, seed) give equal rounds, but for what they cost."""
    told = progress or (lambda what, done, of: None)
    with TemporaryDirectory(prefix="feedwell-simulate-") as folder, ExitStack() as opened:
        begin = time.process_time()
        told("history and first release", 0, None)
        world, logging, first = _prepared(plan, seed, Path(folder) / RETRAINED, open_system)
        prepare_cpu_s = time.process_time() - begin
        shutil.copytree(Path(folder) / RETRAINED, Path(folder) / FROZEN)
        arms: list[Arm] = list(_policies(world, logging, seed))
        for name in (FROZEN, RETRAINED):
            clock = ManualClock(plan.start_ts)
            system = SystemArm(name, world.fork(), open_system(Path(folder) / name, clock), clock)
            opened.callback(system.close)
            arms.append(system)
        rounds = []
        for number in range(1, plan.rounds + 1):
            for arm in arms:
                told(f"round {number} of {plan.rounds}: {arm.name}", 0, None)
                rounds.append(_lived(arm, plan, number))
    return Simulation(
        plan=plan, seed=seed, rounds=tuple(rounds), prepare_cpu_s=round(prepare_cpu_s, 2), first_release=first
    )


def _prepared(plan: Plan, seed: int, folder: Path, open_system: OpenSystem) -> tuple[World, PopularPolicy, Retrained]:
    """The world after its history, the policy that made it, and in `folder` the project with its first release.

    The gates judge that one, too, but it serves whatever they say: without it there would be nothing to retrain.
    """
    world, logging = World(plan.world, seed), PopularPolicy(seed)
    folder.mkdir()
    write(record_history(world, logging, plan.history_days), plan, folder)
    system = open_system(folder, ManualClock(plan.start_ts))
    try:
        system.ingest()
        report = system.train(max_requests=plan.judge_on)
        refused = "; ".join(f"{gate.name}: {gate.why}" for gate in report.gates if not gate.passed)
        release_id = system.publish(force=bool(refused))
    finally:
        system.close()
    first = Retrained(release_id=release_id, refused=refused, warnings=report.warnings)
    return world, logging, first


def _policies(world: World, logging: PopularPolicy, seed: int) -> Iterator[Arm]:
    yield PolicyArm(RANDOM, world.fork(), RandomPolicy(seed))
    yield PolicyArm(POPULAR, world.fork(), logging.greedy())
    yield PolicyArm(LOGGING, world.fork(), deepcopy(logging))
    best = world.fork()
    yield PolicyArm(ORACLE, best, OraclePolicy(best))


def _lived(arm: Arm, plan: Plan, number: int) -> Round:
    start, end = plan.span(number)
    begin, retrained, release_id = time.process_time(), None, ""
    if isinstance(arm, SystemArm):
        arm.expect(start, end)
        release_id = arm.release_id
    lived = live(arm, start, end)
    if isinstance(arm, SystemArm):
        arm.advance(end)
        if arm.name == RETRAINED and number < plan.rounds:
            retrained = arm.retrain(plan.judge_on)
    return Round(
        arm=arm.name,
        round=number,
        requests=lived.requests,
        reward=lived.reward / plan.user_days,
        per_request=lived.reward / max(1, lived.requests),
        cpu_s=round(time.process_time() - begin, 2),
        release_id=release_id,
        retrained=retrained,
    )


def _retrained(data: dict[str, Any]) -> Retrained:
    return Retrained(**data | {"warnings": tuple(data["warnings"])})

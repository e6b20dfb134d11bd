"""Lives: an arm lives in its world for a round; what it served is weighed by the world's truth, never by its log.

The true expected reward of a slate is Σ over its slots of p(examined at the slot) × the item's expected reward if
examined, by the user's hidden state at that moment. So no draw of what users happened to do is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from feedwell.data.world import SessionRequest, World, WorldEvent
from feedwell.data.world.events import ITEM, ids_of
from feedwell.data.world.policies import Policy


class Arm(Protocol):
    """Whoever chooses what users see, in a world of its own."""

    name: str
    world: World

    def choose(self, request: SessionRequest) -> Sequence[str]:
        """Item ids in the order of the slots."""
        ...

    def learn(self, request: SessionRequest, events: Sequence[WorldEvent]) -> None:
        """What the user did and is going to do; those with a later `ts` are not known before it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Lived:
    """One round of one arm: how many pages were asked for, and what they were truly worth in all."""

    requests: int
    slots: int
    reward: float


def live(arm: Arm, start_ts: int, end_ts: int) -> Lived:
    """Every visit of [start_ts, end_ts), served by the arm and answered by its world."""
    requests, slots, reward = 0, 0, 0.0
    for request in arm.world.sessions(start_ts, end_ts):
        item_ids = arm.choose(request)
        reward += expected_reward(arm.world, request, item_ids)
        arm.learn(request, arm.world.respond(request, item_ids))
        requests, slots = requests + 1, slots + len(item_ids)
    return Lived(requests=requests, slots=slots, reward=reward)


def expected_reward(world: World, request: SessionRequest, item_ids: Sequence[str]) -> float:
    """The slate's true expected reward, before the user has looked at it."""
    if not item_ids:
        return 0.0
    utility_N = world.true_utility(request.user_id, item_ids, request.ts)
    return float(world.examination(len(item_ids)) @ utility_N)


class PolicyArm:
    """A policy of the world itself: random, popular, the oracle."""

    def __init__(self, name: str, world: World, policy: Policy) -> None:
        self.name, self.world, self._policy = name, world, policy

    def choose(self, request: SessionRequest) -> Sequence[str]:
        return ids_of(ITEM, self._policy.choose(request, self.world.live_rows(request.ts)).rows_n)

    def learn(self, request: SessionRequest, events: Sequence[WorldEvent]) -> None:
        self._policy.observe(events)

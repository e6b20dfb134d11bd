"""The closed loop: both arms meet the same luck, the truth orders the arms, retraining goes through the gates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pyarrow.compute as pc
import pytest

from feedwell import workspace
from feedwell.core.clock import DAY, ManualClock
from feedwell.core.errors import CheckFailed, DataError, UsageError
from feedwell.data.world import PopularPolicy, SessionRequest, World, WorldEvent, record_history
from feedwell.jobs.lives import Lived, expected_reward, live
from feedwell.jobs.plan import Plan
from feedwell.jobs.simulate import ARMS, FROZEN, ORACLE, RANDOM, RETRAINED, Simulation
from feedwell.jobs.system_arm import SystemArm
from feedwell.jobs.world_project import LEAST_POSITIVES, project_text, write
from tests.jobs.small import SEED, SMALL

pytestmark = pytest.mark.timeout(900)  # about 25 CPU-s in all; a busy machine stretches them


class Watched:
    """An arm that remembers what it served, and whether all of it was there to be chosen."""

    def __init__(self, arm: SystemArm) -> None:
        self.name, self.world, self._arm = arm.name, arm.world, arm
        self.served: list[tuple[str, tuple[str, ...]]] = []
        self.too_old: list[str] = []

    def choose(self, request: SessionRequest) -> Sequence[str]:
        chosen = self._arm.choose(request)
        self.served.append((request.request_id, tuple(chosen)))
        self.too_old += sorted(set(chosen) - set(self.world.live_items(request.ts)))
        return chosen

    def learn(self, request: SessionRequest, events: Sequence[WorldEvent]) -> None:
        self._arm.learn(request, events)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two arms with one past that lived half a day; before a release both serve what needs no training."""

    arms: list[SystemArm]
    watched: list[Watched]
    outcomes: list[Lived]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    (folder / "one").mkdir()
    world = World(SMALL.world, SEED)
    write(record_history(world, PopularPolicy(SEED), SMALL.history_days), SMALL, folder / "one")
    with workspace.open(folder / "one", clock=ManualClock(SMALL.start_ts)) as opened:
        assert opened.ingest().n_quarantined == 0
    shutil.copytree(folder / "one", folder / "other")
    made = Pair(arms=[], watched=[], outcomes=[])
    for name in ("one", "other"):
        clock = ManualClock(SMALL.start_ts)
        arm = SystemArm(name, world.fork(), workspace.open(folder / name, clock=clock), clock)
        made.arms.append(arm)
        made.watched.append(Watched(arm))
        arm.expect(SMALL.start_ts, SMALL.start_ts + DAY // 2)
        made.outcomes.append(live(made.watched[-1], SMALL.start_ts, SMALL.start_ts + DAY // 2))
        arm.advance(SMALL.start_ts + DAY // 2)
    yield made
    for arm in made.arms:
        arm.close()


def log_of(arm: SystemArm) -> list[dict[str, Any]]:
    """Every event but for its digest: a catalog row has no id of its own, and so a fresh one each time."""
    return arm._system.log.read(-1, 1_000_000).drop_columns(["event_id"]).to_pylist()


def test_two_arms_with_one_release_are_equal_to_the_last_event(pair: Pair) -> None:
    assert pair.outcomes[0].requests > 20
    assert pair.outcomes[0] == pair.outcomes[1]
    assert pair.watched[0].served == pair.watched[1].served
    assert log_of(pair.arms[0]) == log_of(pair.arms[1])


def test_what_is_served_and_done_is_in_the_log_at_its_time(pair: Pair) -> None:
    new = [row for row in log_of(pair.arms[0]) if row["available_at"] >= SMALL.start_ts]
    assert sum(row["type"] == "served" for row in new) == pair.outcomes[0].slots
    assert {"$item", "served", "view", "click"} <= {row["type"] for row in new}
    assert {row["origin"] for row in new if row["type"] == "view"} == {"simulated"}
    at = [row["available_at"] for row in new]
    assert at == sorted(at)
    # A batch holds a minute at most, and a µs an event may be added to keep the order: never before it happened.
    assert all(0 <= row["available_at"] - row["ts"] < 61_000_000 for row in new)


def test_only_live_items_are_served(pair: Pair) -> None:
    assert len({item for _, items in pair.watched[0].served for item in items}) > 20
    assert pair.watched[0].too_old == []


def test_a_later_page_shows_nothing_of_an_earlier_one(pair: Pair) -> None:
    pages: dict[str, list[str]] = {}
    for request_id, items in pair.watched[0].served:
        pages.setdefault(request_id.rsplit("-", 1)[0], []).extend(items)
    scrolls = [items for items in pages.values() if len(items) > 10]
    assert len(scrolls) > 2
    assert all(len(set(items)) == len(items) for items in scrolls)


def test_a_refused_release_does_not_serve(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    arm = pair.arms[0]
    before = arm.release_id

    def refuse(self: Any, *, force: bool = False) -> str:
        raise CheckFailed("champion: worse than what serves")

    monkeypatch.setattr(workspace.Workspace, "train", lambda self, *, max_requests: SimpleNamespace(warnings=()))
    monkeypatch.setattr(workspace.Workspace, "publish", refuse)
    came = arm.retrain(SMALL.judge_on)
    assert (came.release_id, came.refused) == (before, "champion: worse than what serves")
    assert arm.release_id == before


def test_an_event_that_the_project_refuses_stops_the_loop(pair: Pair) -> None:
    arm = pair.arms[1]
    arm._push(SMALL.start_ts, {"type": "view"}, arm._read_event)
    with pytest.raises(DataError, match="which the project refuses: user is missing"):
        arm.advance(SMALL.start_ts + DAY)


def test_the_arms_of_a_simulation(lived: Simulation) -> None:
    assert [r.arm for r in lived.rounds[: len(ARMS)]] == [RANDOM, "popular", "logging", ORACLE, FROZEN, RETRAINED]
    for arm in ARMS:
        assert [r.round for r in lived.of(arm)] == [1, 2]
        assert all(r.requests > 20 for r in lived.of(arm))
    first, second = lived.of(RETRAINED)
    assert first.release_id == lived.first_release.release_id
    assert first.retrained is not None
    assert first.retrained.refused == ""
    assert second.release_id == first.retrained.release_id != first.release_id
    assert second.retrained is None
    assert {r.release_id for r in lived.of(FROZEN)} == {first.release_id}


def test_in_the_first_round_both_arms_earn_the_same(lived: Simulation) -> None:
    one, other = lived.of(RETRAINED)[0], lived.of(FROZEN)[0]
    assert (one.reward, one.requests) == (other.reward, other.requests)


def test_the_truth_puts_the_oracle_above_the_system_above_chance(lived: Simulation) -> None:
    mean = {arm: sum(r.reward for r in lived.of(arm)) for arm in ARMS}
    for arm in (RETRAINED, FROZEN):
        assert mean[ORACLE] > mean[arm] > mean[RANDOM]


def test_a_simulation_survives_json(lived: Simulation) -> None:
    assert Simulation.from_dict(json.loads(json.dumps(lived.to_dict()))) == lived


def test_expected_reward_is_the_mean_of_what_happens() -> None:
    """One slate, answered in many worlds that differ by luck only: its mean reward is near the expectation."""
    config = replace(Plan(preset="news", factor=0.05).world, days=2)
    world = World(config, 7)
    request = next(r for r in world.sessions(SMALL.start_ts, SMALL.start_ts + 10**11) if r.page == 0)
    items = world.live_items(request.ts)[:8]
    told = expected_reward(world, request, items)
    rewards = []
    for luck in range(400):
        twin = world.fork()
        twin._roots = {name: root + luck for name, root in world._roots.items()}
        twin._actions._roots = {part: [root + luck for root in roots] for part, roots in twin._actions._roots.items()}
        done = [e for e in twin.respond(request, items) if not e["type"].startswith("un")]
        rewards.append(world.reward(done))
    mean = sum(rewards) / len(rewards)
    error = (sum((r - mean) ** 2 for r in rewards) / len(rewards) ** 2) ** 0.5
    assert told > 0
    assert abs(mean - told) < 4 * error


def test_a_slate_of_nothing_is_worth_nothing() -> None:
    world = World(SMALL.world, SEED)
    request = next(iter(world.sessions(SMALL.start_ts, SMALL.start_ts + 10**11)))
    assert expected_reward(world, request, []) == 0.0


def test_a_plan_that_cannot_run_is_refused() -> None:
    for wrong in ({"rounds": 1}, {"history_days": 1}, {"factor": 0.0}, {"days_per_round": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Plan(**wrong)
    with pytest.raises(UsageError, match="'sociable' is unknown"):
        Plan(preset="sociable")


def test_what_no_window_closes_for_is_no_objective():
    # In this shop nobody filled a cart early enough for a half-day's window to close where the ranker learns.
    plan = Plan(preset="shop")
    history = record_history(World(plan.world, 1003), PopularPolicy(1003), plan.history_days)
    bought = history.events.filter(pc.equal(history.events["type"], "buy"))

    text = project_text(plan, history.events)

    assert bought.num_rows >= LEAST_POSITIVES
    assert "[objective.cart]" in text
    assert "[objective.buy]" not in text

"""The verdict over seeds: paired, over the rounds after the first retraining, honest with few seeds; its picture."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from feedwell.cli._shared import console, plain
from feedwell.cli.simulate import print_verdict
from feedwell.core.errors import UsageError
from feedwell.jobs.drawing import svg
from feedwell.jobs.plan import Plan
from feedwell.jobs.simulate import ARMS, FROZEN, ORACLE, RANDOM, RETRAINED, Round, Simulation
from feedwell.jobs.system_arm import Retrained
from feedwell.jobs.verdict import Estimate, verdict

PLAN = Plan(preset="shop", rounds=3)
FIRST = Retrained(release_id="first", refused="too few users")
BASE = {RANDOM: 1.0, "popular": 1.5, "logging": 1.2, FROZEN: 2.0, RETRAINED: 2.5, ORACLE: 5.0}


def simulation(seed: int, *, plan: Plan = PLAN, shift: float = 0.0, **reward: float) -> Simulation:
    """Every arm earns its figure in every round, in the first both arms the frozen one's."""
    earned = BASE | reward
    rounds = []
    for number in range(1, plan.rounds + 1):
        for arm in ARMS:
            value = shift + (earned[FROZEN] if arm == RETRAINED and number == 1 else earned[arm])
            trained = arm == RETRAINED and number < plan.rounds
            came = Retrained(release_id="r", refused="too few users" if number == 2 else "") if trained else None
            one = Round(
                arm=arm, round=number, requests=10, reward=value, per_request=value / 2, cpu_s=1.0, retrained=came
            )
            rounds.append(one)
    return Simulation(plan=plan, seed=seed, rounds=tuple(rounds), prepare_cpu_s=2.0, first_release=FIRST)


def test_the_gain_is_paired_by_seed_and_leaves_the_first_round_out() -> None:
    # Seeds differ far more from each other than the arms of one seed do: only pairing sees the gain.
    found = verdict([simulation(seed, shift=30.0 * seed, retrained=2.5 + 0.01 * seed) for seed in range(5)])
    gains = [0.5 + 0.01 * seed for seed in range(5)]
    low, high = stats.t.interval(0.95, 4, np.mean(gains), stats.sem(gains))
    assert (found.gain.value, found.gain.low, found.gain.high) == pytest.approx((np.mean(gains), low, high))
    assert found.gain.is_above_zero
    assert found.means[RETRAINED].low < found.means[FROZEN].value
    assert found.rounds[RETRAINED][0].value == pytest.approx(found.rounds[FROZEN][0].value)
    assert "shop: retraining beats no retraining: 0.520" in found.statement()


def test_shares_are_of_the_gap_between_floor_and_oracle() -> None:
    found = verdict([simulation(seed, shift=seed) for seed in range(3)])
    assert found.shares["retrained above random"].value == pytest.approx(1.5 / 4)
    assert found.shares["frozen above random"].value == pytest.approx(1 / 4)
    assert found.shares["retrained above popular"].value == pytest.approx(1 / 3.5)
    assert found.shares["retrained above frozen"].value == pytest.approx(0.5 / 3)
    upside_down = verdict([simulation(0, oracle=0.5), simulation(1)])
    assert upside_down.shares["retrained above random"].n_seeds == 1


def test_refused_releases_are_counted() -> None:
    found = verdict([simulation(seed) for seed in range(4)])
    assert (found.retrainings, found.refused, found.first_refused) == (8, 4, 4)


def test_one_seed_is_no_proof_and_a_loss_is_called_a_loss() -> None:
    alone = verdict([simulation(0)])
    assert math.isnan(alone.gain.low)
    assert not alone.gain.is_above_zero
    assert alone.statement().endswith("one seed is no proof")
    worse = verdict([simulation(seed, retrained=1.0 + 0.01 * seed) for seed in range(3)])
    assert "is worse than no retraining" in worse.statement()
    unclear = verdict([simulation(0, retrained=1.0), simulation(1, retrained=3.0)])
    assert "does not beat no retraining" in unclear.statement()


def test_simulations_of_two_plans_are_not_mixed() -> None:
    with pytest.raises(UsageError, match="of one plan"):
        verdict([simulation(0), simulation(1, plan=replace(PLAN, factor=2.0))])
    with pytest.raises(UsageError, match="at least one"):
        verdict([])


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    inside = [e.low < 1.0 < e.high for e in (Estimate.of(rng.normal(1.0, 2.0, 6).tolist()) for _ in range(1_000))]
    assert 0.93 < np.mean(inside) < 0.97


def points_of(picture: str, arm: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(picture)
    path = next(p for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("class") == arm)
    pairs = [point.split() for point in str(path.get("d")).removeprefix("M").split(" L")]
    return [(float(x), float(y)) for x, y in pairs]


def test_the_picture_draws_what_the_verdict_says() -> None:
    found = verdict([simulation(seed, retrained=2.5 + 0.3 * seed, shift=0.1 * seed) for seed in range(3)])
    picture = svg(found)
    for arm in ARMS:
        drawn = points_of(picture, arm)
        values = [e.value for e in found.rounds[arm]]
        assert len(drawn) == len(values)
        assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
        # Height is linear in the value, on one axis for all arms.
        oracle, random = points_of(picture, ORACLE)[0][1], points_of(picture, RANDOM)[0][1]
        scale = (random - oracle) / (found.rounds[ORACLE][0].value - found.rounds[RANDOM][0].value)
        for (_, y), value in zip(drawn, values, strict=True):
            assert y == pytest.approx(random - scale * (value - found.rounds[RANDOM][0].value), abs=0.3)
    bars = [b for b in ElementTree.fromstring(picture).iter() if "bar" in str(b.get("class"))]
    assert len(bars) == len(ARMS) * PLAN.rounds
    assert "3 seeds" in picture
    assert "script" not in picture


def test_a_picture_of_one_seed_has_no_bars_and_losses_are_below_the_line() -> None:
    picture = svg(verdict([simulation(0, random=-1.0)]))
    assert 'class="bar' not in picture
    assert points_of(picture, RANDOM)[0][1] > points_of(picture, ORACLE)[0][1]
    assert ">-2<" in picture or ">-1<" in picture


def test_what_people_read_has_every_arm_and_share(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = verdict([simulation(seed) for seed in range(3)])
    print_verdict(console(), found)
    said = capsys.readouterr().out
    for phrase in (*ARMS, "SIMULATED", "retrained above popular", "6 retrainings, 3 releases refused", "round 3"):
        assert phrase in said
    kept = json.loads(json.dumps(plain(found.to_dict())))
    assert kept["gain"]["value"] == pytest.approx(0.5)
    assert kept["plan"]["preset"] == "shop"

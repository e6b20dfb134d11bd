import numpy as np
import pytest

from feedwell.core import registry
from feedwell.core.clock import DAY
from feedwell.core.needs import RankingNeed
from feedwell.core.project import ObjectiveConfig
from feedwell.core.protocols import Interactions, Setting, learns
from feedwell.core.request import Ranking, Request, UserSide

Popular = registry.find("source", "popular")
SETTING = Setting(
    name="source.popular",
    event_types=("view", "like", "unlike", "hide"),
    undone_by={"like": "unlike"},
    objectives={"annoyed": ObjectiveConfig(events=("hide",), direction="down")},
)


def ask(part, keys=(), scores=(), **fields):
    rankings = {need: Ranking(keys_N=np.array(keys, np.int64), scores_N=np.array(scores, float)) for need in part.needs}
    return Request(request_id="", user_id="", t=0, n=5, side=UserSide(rankings=rankings), **fields)


def test_live_reads_the_leaderboard_and_spends_k_on_what_is_not_avoided():
    part = Popular(Popular.Config(k=2), SETTING)
    assert not learns(part)
    got = part(
        ask(part, [5, 9, 7, 1, 3], [5, 4, 3, 2, 1], skip=np.array([5]), exclude=np.array([7]), prefix=np.array([9]))
    )
    assert got.keys_N.tolist() == [1, 3]
    assert got.scores_N.tolist() == [2, 1]


def test_counts_neither_undoing_nor_unwanted_events_by_default():
    part = Popular(Popular.Config(), SETTING)
    assert part.needs == (RankingNeed("decayed", ("view", "like"), 7 * DAY, 1000),)


def test_fitted_counts_halve_with_each_half_life():
    part = Popular(Popular.Config(live=False, half_life="1d", events=("view",)), SETTING)
    assert learns(part)
    part.fit(
        Interactions(
            user_E=np.array([1, 1, 2, 2, 1]),
            item_E=np.array([10, 10, 20, 30, -1]),
            at_E=np.array([0, DAY, 2 * DAY, 2 * DAY, 2 * DAY]),
            type_E=np.array([0, 0, 0, 1, 0], np.int16),
            types=("view", "like"),
            until=2 * DAY,
        )
    )
    got = part(ask(part))
    assert got.keys_N.tolist() == [20, 10]
    assert got.scores_N.tolist() == pytest.approx([1.0, 0.75])


def test_ties_go_to_the_smaller_key():
    part = Popular(Popular.Config(live=False), SETTING)
    item_E = np.array([9, 4, 6])
    part.fit(Interactions(user_E=item_E, item_E=item_E, at_E=item_E * 0, type_E=np.zeros(3, np.int16), types=("view",)))
    assert part(ask(part)).keys_N.tolist() == [4, 6, 9]


def test_a_leaderboard_that_was_not_read_is_nothing_and_no_error():
    part = Popular(Popular.Config(), SETTING)
    assert len(part(Request(request_id="", user_id="", t=0, n=5)).keys_N) == 0

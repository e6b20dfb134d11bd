import numpy as np
import pytest

from feedwell.core import registry
from feedwell.core.clock import HOUR
from feedwell.core.protocols import Setting
from feedwell.core.request import Ranking, Request, UserSide

Fresh = registry.find("source", "fresh")


def ask(part, **fields):
    ranking = Ranking(keys_N=np.array([4, 2, 8]), scores_N=np.array([99.0, 98.0, 90.0]) * HOUR)
    side = UserSide(rankings=dict.fromkeys(part.needs, ranking))
    return Request(request_id="", user_id="", t=100 * HOUR, n=5, side=side, **fields)


def test_newest_first_with_the_age_as_score():
    part = Fresh(Fresh.Config(), Setting(name="fresh"))
    got = part(ask(part))
    assert got.keys_N.tolist() == [4, 2, 8]
    assert got.scores_N.tolist() == pytest.approx([-1, -2, -10])


def test_nothing_older_than_max_age_the_edge_included():
    part = Fresh(Fresh.Config(max_age="2h"), Setting(name="fresh"))
    assert part(ask(part)).keys_N.tolist() == [4, 2]
    assert part(ask(part, skip=np.array([4]))).keys_N.tolist() == [2]

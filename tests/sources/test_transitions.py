"""The counter beside a slow, obvious one in dictionaries."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedwell.core import registry
from feedwell.core.protocols import Interactions, Setting
from feedwell.core.request import History, Request, UserSide

Transitions = registry.find("source", "transitions")
SETTING = Setting(name="transitions", event_types=("view",))
KEY = 11  # item i has the key 11 i + 1


def fitted(events, **config):
    part = Transitions(Transitions.Config(**config), SETTING)
    user_E, item_E = (np.array([e[i] for e in events], np.int64) for i in (0, 1))
    zeros = np.zeros(len(events), np.int16)
    part.fit(
        Interactions(user_E=user_E, item_E=item_E * KEY + 1, at_E=zeros.astype(int), type_E=zeros, types=("view",))
    )
    return part


def ask(part, history, **fields):
    keys_L = np.array(history, np.int64) * KEY + 1
    made = History(keys_L=keys_L, at_L=keys_L, type_L=np.zeros(len(keys_L), np.int16))
    side = UserSide(histories=dict.fromkeys(part.needs, made))
    return Request(request_id="", user_id="", t=1, n=5, side=side, **fields)


def obvious(events, history, window, skip, k, n_history=3):
    follows, popular, last = defaultdict(Counter), Counter(item for _, item in events), defaultdict(list)
    for user, item in events:
        for d, before in enumerate(reversed(last[user][-window:]), 1):
            if before != item:
                follows[before][item] += 1 / d
        last[user].append(item)
    known = [(d, item) for d, item in enumerate(reversed(history[-n_history:]), 1) if item in popular]
    if not known:
        return []
    score = Counter()
    for d, item in known:
        for other, n in follows[item].items():
            score[other] += n / d
    order = [i for i in popular if i not in skip]
    order.sort(key=lambda i: (-round(score[i], 5), -popular[i], i))
    return [(i, score[i]) for i in order[:k]]


EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60)


@settings(max_examples=300, deadline=None)
@given(
    EVENTS, st.lists(st.integers(0, 11), max_size=6), st.integers(1, 4), st.sets(st.integers(0, 11)), st.integers(1, 12)
)
def test_equals_the_obvious_counter(events, history, window, skip, k):
    part = fitted(events, window=window, k=k)
    got = part(ask(part, history, skip=np.array(sorted(skip), np.int64) * KEY + 1))
    expected = obvious(events, history, window, skip, len(events))
    of_key = {i * KEY + 1: s for i, s in expected}
    keys = got.keys_N.tolist()
    assert len(set(keys)) == len(keys) == min(k, len(expected))
    assert got.scores_N.tolist() == pytest.approx([s for _, s in expected[:k]], rel=1e-5)
    # Sums of fractions that are equal on paper may differ in the last place, and so change places.
    for key, want in zip(keys, of_key, strict=False):
        assert key == want or 0 < of_key[key] == pytest.approx(of_key[want], rel=1e-5)


def test_users_are_told_apart_however_their_events_mix():
    part = fitted([(1, 0), (2, 5), (1, 1), (2, 6)], k=1)
    assert part(ask(part, [0])).keys_N.tolist() == [1 * KEY + 1]
    assert part(ask(part, [5])).keys_N.tolist() == [6 * KEY + 1]


def test_only_the_strongest_neighbours_are_kept():
    events = [(u, i) for u, other in enumerate([1, 1, 1, 2, 2, 3]) for i in (0, other)]
    part = fitted(events, neighbours=2, fill=False)
    assert part(ask(part, [0])).keys_N.tolist() == [1 * KEY + 1, 2 * KEY + 1]


def test_popularity_fills_up_with_score_zero_and_can_be_turned_off():
    events = [(0, 0), (0, 1), (1, 7), (2, 7), (3, 8)]
    assert fitted(events, fill=False)(ask(fitted(events, fill=False), [0])).keys_N.tolist() == [1 * KEY + 1]
    part = fitted(events, k=3)
    got = part(ask(part, [0]))
    assert got.keys_N.tolist() == [1 * KEY + 1, 7 * KEY + 1, 0 * KEY + 1]
    assert got.scores_N.tolist() == [1, 0, 0]

"""Ranking rows: histories as of t from the log are what the online state held at t."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa

from feedwell.core.needs import HistoryNeed
from feedwell.core.project import Project
from feedwell.core.protocols import Histories, RankingRows
from feedwell.data.interactions import UserEvents, user_events
from feedwell.data.split import NEVER
from feedwell.features import FeatureSet, histories
from feedwell.pipeline.replay import Replayer
from feedwell.training.rows import Names, RowBuilder, Rows, join

NEEDS = (HistoryNeed(("view", "buy"), 5), HistoryNeed(("buy",), 50))


def lists(read: Histories, r: int) -> tuple[list[int], list[int], list[int]]:
    inside = slice(read.indptr_R[r], read.indptr_R[r + 1])
    return read.keys_E[inside].tolist(), read.at_E[inside].tolist(), read.type_E[inside].tolist()


def test_histories_from_the_log_are_what_serving_reads_from_state(shop):
    inputs = shop().training_inputs(None)
    features = FeatureSet.compile(inputs.project, NEEDS)
    events = user_events(inputs.view(), inputs.project)
    user_R, t_R = events.moments()
    user_R, t_R = np.concatenate([user_R, [3, -1, 10_000]]), np.concatenate([t_R, [t_R.max() + 1] * 3])
    order = np.argsort(t_R, kind="stable")
    user_R, t_R = user_R[order], t_R[order]
    frame = pa.table({"user": user_R, "t": t_R})
    read = histories(features, inputs.log.segment_paths(), frame, NEEDS, engine=inputs.view())
    replayer, most = Replayer(features, inputs.batches()), dict.fromkeys(NEEDS, 0)
    for r, (user, t) in enumerate(zip(user_R.tolist(), t_R.tolist(), strict=True)):
        with replayer.at(t) as reader:
            served = reader.user_side(user, t).histories
        for need in NEEDS:
            h = served[need]
            assert lists(read[need], r) == (h.keys_L.tolist(), h.at_L.tolist(), h.type_L.tolist()), (user, t, need)
            most[need] = max(most[need], len(h.keys_L))
    assert most[NEEDS[0]] == 5
    assert most[NEEDS[1]] > 5
    assert len(set(read[NEEDS[0]].type_E.tolist())) == 2


def test_what_a_user_turned_to_is_found_without_looking_through_their_history():
    """A user with a hundred times the events: the same items, and no more memory to find them."""
    objective = {"buy": {"events": ["buy"], "within": 50}}
    project = Project.model_validate({"project": {"name": "p"}, "event": {"view": {}}, "objective": objective})
    shown = pa.table({name: pa.array([], pa.int64()) for name in ("user", "item", "moment")})
    held, found = [], []
    for n in (2_000, 200_000):
        at = np.arange(n) - n // 2
        made = UserEvents(
            user_E=np.zeros(n, np.int64),
            item_E=at % 7,
            at_E=at,
            moment_E=at,
            type_E=(at % 2).astype(np.int16),
            value_E=np.full(n, np.nan),
            undone_at_E=np.full(n, NEVER),
            types=("view", "buy"),
        )
        builder = RowBuilder(cast(Any, SimpleNamespace(project=project)), cast(Any, None), made, shown, Names((), ()))
        found.append(builder._turned_to(0, 10, 20).tolist())
        tracemalloc.start()
        builder._turned_to(0, 10, 20)
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found == [[11 % 7, 13 % 7, 15 % 7, 17 % 7, 19 % 7]] * 2
    assert held[1] < 3 * held[0]


def test_no_log_has_no_history(shop):
    inputs = shop(events=[]).training_inputs(None)
    features = FeatureSet.compile(inputs.project, NEEDS)
    read = histories(features, [], pa.table({"user": [1, 2], "t": [5, 6]}), NEEDS, engine=inputs.view())
    assert read[NEEDS[0]].indptr_R.tolist() == [0, 0, 0]


def rows(n_groups: int, start: int) -> Rows:
    n = n_groups * 2
    need = NEEDS[0]
    read = Histories(
        indptr_R=np.arange(n_groups + 1),
        keys_E=np.arange(n_groups) + start,
        at_E=np.zeros(n_groups, np.int64),
        type_E=np.zeros(n_groups, np.int16),
    )
    ranking = RankingRows(
        features_NF=np.full((n, 1), start, np.float32),
        feature_names=("x",),
        labels={"buy": np.zeros(n)},
        group_N=np.arange(n) // 2,
        weight_N=np.ones(n),
        valid_N=np.zeros(n, np.bool_),
        user_N=np.arange(n) // 2 + start,
        item_N=np.arange(n),
        t_N=np.zeros(n, np.int64),
        histories={need: read},
    )
    return Rows(ranking=ranking, exposed_N=np.ones(n, np.bool_))


def test_joined_rows_keep_their_requests_histories():
    first = rows(3, 100).take(np.array([True, True, False, False, False, False]))
    joined = join([first, rows(2, 200)]).ranking
    read = joined.histories[NEEDS[0]]
    for n in range(len(joined)):
        assert lists(read, joined.group_N[n])[0] == [joined.user_N[n]]
    assert np.unique(joined.group_N).tolist() == [0, 3, 4]


def test_taken_rows_are_those_rows():
    ranking = rows(3, 100).ranking
    part = ranking.take(np.array([5, 0]))
    assert part.item_N.tolist() == [5, 0]
    assert part.group_N.tolist() == [2, 0]
    assert lists(part.histories[NEEDS[0]], part.group_N[0])[0] == [102]
    bare = RankingRows(
        features_NF=ranking.features_NF,
        feature_names=("x",),
        labels={},
        group_N=ranking.group_N,
        weight_N=ranking.weight_N,
        valid_N=ranking.valid_N,
    )
    assert len(bare.take(np.array([1])).item_N) == 0

"""The light ranker: what it values goes on to the heavy one, the rest is cut under its own name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from feedwell.pipeline.compile import part_names
from feedwell.pipeline.overlays import Compiled
from feedwell.pipeline.project_file import parse_project
from feedwell.pipeline.record import RETRIEVED
from feedwell.pipeline.replay import differences, replay_trace

from .conftest import PROJECT, Shop, accounted

LIGHT = PROJECT + '\n[light]\nkind = "test_value_is_key"\nkeep = 10\n\n[ranker]\nkind = "test_scorer_nan"\n'


def failing(kind: str) -> str:
    return LIGHT.replace('kind = "test_value_is_key"', f'kind = "{kind}"')


def test_the_heavy_ranker_scores_what_the_light_one_values_most(shops: Callable[..., Shop]) -> None:
    answer = shops(LIGHT).ask("u9").answer
    best = np.sort(answer.offered.keys_N)[-10:]
    assert np.sort(answer.scored.keys_N).tolist() == best.tolist()
    assert answer.record.counts["cut.light"] == len(answer.offered) - 10 > 0
    assert accounted(answer.record.counts) == 0
    assert answer.record.counts[RETRIEVED] == len(answer.candidates)
    assert np.isnan(answer.offered.value_N).all()
    assert {"light", "ranker"} <= set(answer.record.stage_ms)


def test_it_never_makes_a_slate_short_and_narrows_with_the_request(shops: Callable[..., Shop]) -> None:
    shop = shops(LIGHT)
    assert len(shop.ask("u9", n=15).record.keys) == 15
    assert shop.ask("u9", n=15).record.counts["cut.light"] == len(shop.ask("u9", n=15).answer.offered) - 15
    everything = shops(LIGHT.replace("keep = 10", "keep = 500")).ask("u9").record
    assert "cut.light" not in everything.counts
    assert "light" not in everything.stage_ms


def test_one_that_fails_cuts_in_retrieval_order(shops: Callable[..., Shop]) -> None:
    answer = shops(failing("test_scorer_breaks")).ask("u9").answer
    assert answer.scored.keys_N.tolist() == answer.offered.keys_N[:10].tolist()
    assert any(d.startswith("light: ") for d in answer.record.degraded)
    assert accounted(answer.record.counts) == 0


def test_what_it_cannot_score_goes_last(shops: Callable[..., Shop]) -> None:
    text = failing("test_scorer_nan")
    text = text.replace('[ranker]\nkind = "test_scorer_nan"', '[ranker]\nkind = "test_value_is_key"')
    answer = shops(text).ask("u9").answer
    scorable = answer.offered.keys_N[1::2]
    assert len(scorable) >= 10
    assert sorted(answer.scored.keys_N.tolist()) == sorted(scorable.tolist())[-10:]


def test_a_traced_request_replays_through_it(shops: Callable[..., Shop]) -> None:
    shop = shops(LIGHT)
    answer = shop.ask("u9", explain=True).answer
    trace = shop.records.trace(answer.record.request_id)
    assert trace is not None
    again = replay_trace(shop.compiled.base, answer.record, trace)
    assert differences(answer.record, again.record) == []
    assert again.record.counts == answer.record.counts


def test_an_arm_may_change_what_it_keeps_and_shares_the_part() -> None:
    text = LIGHT + '\n[surface.search]\n"light.keep" = 8\n'
    compiled = Compiled(parse_project(text), {})
    assert part_names(compiled.project)[-4:] == ["light", "ranker", "value", "slate"]
    search = compiled.pipeline("search", {})
    assert search.project.light is not None
    assert search.project.light.keep == 8
    assert search.ranker is compiled.base.ranker

from __future__ import annotations

from collections.abc import Callable

import pytest

from feedwell.core.errors import NotTrained, ProjectError, UsageError
from feedwell.pipeline.compile import compile_features, make_part, part_names, project_needs, retrieval_features
from feedwell.pipeline.overlays import Compiled
from feedwell.pipeline.project_file import parse_project

from .conftest import PROJECT, Shop
from .test_run import RANKED, with_sections

OVERLAID = (
    RANKED
    + """
[surface.search.slate]
k = 3

[experiment.weights]
share = 1.0
arms.a = { "value.weights.buy" = 5.0 }
arms.b = { "source.popular.k" = 5 }
"""
)


def test_parts_stand_in_the_order_of_the_flow() -> None:
    assert part_names(parse_project(RANKED)) == [
        "source.popular",
        "source.fresh",
        "filter.seen",
        "filter.expired",
        "ranker",
        "value",
        "slate",
    ]


def test_all_parts_without_artifact_are_named_together() -> None:
    project = parse_project(with_sections("[source.als]\n", "[source.transitions]\n"))
    with pytest.raises(NotTrained, match=r"source\.als, source\.transitions.*feedwell train"):
        Compiled(project, {})


def test_untrained_parts_are_left_out_and_named_in_every_answer(shops: Callable[..., Shop]) -> None:
    shop = shops(with_sections("[source.als]\n"))
    record = shop.ask("u1").record
    assert record.degraded == ["source.als: not trained"]
    assert len(record.keys) == 6


def test_a_wrong_key_is_a_problem_with_its_place() -> None:
    with pytest.raises(ProjectError, match=r"source\.popular\.k"):
        make_part(parse_project(PROJECT.replace("k = 40", "k = 0")), "source.popular")


def test_an_undeclared_part_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"source\.nope"):
        make_part(parse_project(PROJECT), "source.nope")


def test_surface_and_arm_change_the_feed_and_are_recorded(shops: Callable[..., Shop]) -> None:
    shop = shops(OVERLAID)
    assert len(shop.ask("u9", surface="search").item_ids) == 3
    assert len(shop.ask("u9", surface="elsewhere").item_ids) == 6
    by_arm = {}
    for i in range(40):
        record = shop.ask(f"visitor {i}", explore=False).record
        by_arm[record.assignments["weights"]] = record
    assert set(by_arm) == {"a", "b"}
    a, b = by_arm["a"], by_arm["b"]
    assert a.predictions["value"] == pytest.approx([5.0 * p for p in a.predictions["buy"]])
    assert b.predictions["value"] == pytest.approx([2.0 * p for p in b.predictions["buy"]])
    assert b.counts["retrieved"] < a.counts["retrieved"]


def test_an_overlay_is_compiled_once_and_shares_what_it_leaves_alone() -> None:
    compiled = Compiled(parse_project(OVERLAID), {})
    search = compiled.pipeline("search", {})
    assert search is compiled.pipeline("search", {"unknown": "x"})
    assert search.sources["source.popular"] is compiled.base.sources["source.popular"]
    assert search.ranker is compiled.base.ranker
    arm = compiled.pipeline("", {"weights": "b"})
    assert arm.sources["source.popular"] is not compiled.base.sources["source.popular"]
    assert compiled.warm() == 6


def test_needs_of_every_overlay_are_read() -> None:
    text = PROJECT + '\n[surface.search.filter.seen]\nevents = ["hide"]\n'
    needs = project_needs(parse_project(text))
    assert {event for need in needs for event in getattr(need, "events", ())} >= {"hide", "buy"}
    assert compile_features(parse_project(text)).version != compile_features(parse_project(PROJECT)).version


LAST = '[feature.last_views]\nentity = "user"\naggregate = "last_n"\nevents = ["view"]\nn = 5\n'


@pytest.mark.parametrize("wanted", ["user_views_1d", "item_views_1h", "last_views", "item.price", "item.creator"])
def test_retrieval_reads_what_its_parts_need_and_no_other_feature(wanted: str) -> None:
    project = parse_project(RANKED + LAST + f'[source.needy]\nkind = "test_needy"\nwants = ["{wanted}"]\n')
    features, every = retrieval_features(project), compile_features(project)
    names = {column.name for column in features.columns} | set(features.sequences)
    assert wanted in names
    assert len(features.views) < len(every.views) or len(names) < len({c.name for c in every.columns})
    others = {"user_views_1d", "item_views_1h", "last_views"} - {wanted}
    assert not names & others


TWO_EXPERIMENTS = (
    OVERLAID
    + """
[experiment.depth]
share = 1.0
arms.c = { "slate.k" = 4 }
arms.d = {}
"""
)


def test_arms_that_meet_are_warmed_and_load_nothing_twice() -> None:
    compiled = Compiled(parse_project(TWO_EXPERIMENTS), {})
    assert compiled.warm() == 2 * (1 + 4 + 4)
    b, both = compiled.pipeline("", {"weights": "b"}), compiled.pipeline("", {"weights": "b", "depth": "c"})
    assert both.project.slate.k == 4
    assert both.sources["source.popular"] is b.sources["source.popular"]
    assert both.sources["source.popular"] is not compiled.base.sources["source.popular"]
    assert compiled.warm() == 18

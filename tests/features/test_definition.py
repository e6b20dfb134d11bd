import pyarrow as pa
import pytest

from feedwell.core.clock import DAY, HOUR, MINUTE
from feedwell.core.errors import ProjectError, UsageError
from feedwell.core.needs import ColumnNeed, FeatureNeed, HistoryNeed, ObjectsNeed, RankingNeed
from feedwell.core.project import EntitySection, EventSection, FeatureConfig, Project, ProjectSection
from feedwell.features import FeatureSet, asof
from feedwell.features.hops import hop_of, tiles_of
from feedwell.features.views import Catalog, CatalogRows, Facts, Leaderboard, Relation, Sequence


def project(**features):
    return Project(
        project=ProjectSection(name="p"),
        event={
            "buy": EventSection(value_scale=100),
            "rate": EventSection(),
            "follow": EventSection(object="creator", undone_by="unfollow"),
            "meet": EventSection(object="user"),
        },
        entity={
            "user": EntitySection(columns={"years": "int"}),
            "item": EntitySection(columns={"price": "float", "title": "string"}, created_at="made"),
            "category": EntitySection.model_validate({"from": "item.category"}),
            "creator": EntitySection.model_validate({"from": "item.creator_id"}),
            "merchant": EntitySection(),
        },
        feature={name: FeatureConfig.model_validate(body) for name, body in features.items()},
    )


def test_columns_are_named_by_feature_and_window_and_sorted_by_whose_they_are():
    made = FeatureSet.compile(
        project(
            seen={"entity": "item", "aggregate": "count", "events": ["view"], "windows": ["1h", "7d"]},
            mine={"entity": "user", "aggregate": "count", "events": ["view"]},
            love={"entity": ["user", "category"], "aggregate": "count", "events": ["view"]},
            recent={"entity": "user", "aggregate": "last_n", "events": ["view"], "n": 9},
        ),
        [
            ColumnNeed("item", "price"),
            ColumnNeed("item", "category"),
            ColumnNeed("user", "years"),
            FeatureNeed("seen_1h"),
        ],
    )
    assert [c.name for c in made.user_columns] == ["mine", "user.years"]
    assert [c.name for c in made.item_columns] == ["seen_1h", "seen_7d", "love", "item.price", "item.category"]
    assert made.sequences == {"recent": HistoryNeed(("view",), 9)}
    assert made.column("love").entities == ("user", "category")


def test_views_keep_each_measure_once():
    made = FeatureSet.compile(
        project(
            views={"entity": "item", "aggregate": "count", "events": ["view"], "windows": ["1h", "2h", "7d"]},
            ctr={"entity": "item", "aggregate": "rate", "events": ["view"], "numerator": ["click"], "windows": ["7d"]},
        ),
        [
            HistoryNeed(("view",), 5),
            HistoryNeed(("view",), 50),
            ObjectsNeed(("follow",), "creator"),
            RankingNeed("decayed", ("view",), HOUR),
        ],
    )
    (facts,) = [v for v in made.views if isinstance(v, Facts)]
    assert len(facts.tallies) == 2
    assert [(t.hop, t.reach) for t in facts.tiles] == [(MINUTE, 120), (HOUR, 168)]
    assert [v.n for v in made.views if isinstance(v, Sequence)] == [50]
    assert [(v.event, v.undone_by) for v in made.views if isinstance(v, Relation)] == [("follow", "unfollow")]
    assert [v.k for v in made.views if isinstance(v, Leaderboard)] == [1000]
    assert {v.entity for v in made.views if isinstance(v, Catalog)} == {"item"}
    assert {v.entity for v in made.views if isinstance(v, CatalogRows)} >= {"item", "user"}
    assert len({v.prefix for v in made.views}) == len(made.views)
    assert all(v.prefix[0] > 1 for v in made.views)


def test_a_version_names_what_is_read_and_not_the_order_it_is_declared_in():
    views = {"entity": "item", "aggregate": "count", "events": ["view"]}
    clicks = {"entity": "item", "aggregate": "count", "events": ["click"]}
    one, other = FeatureSet.compile(project(a=views, b=clicks)), FeatureSet.compile(project(b=clicks, a=views))
    assert {v.digest for v in one.views} == {v.digest for v in other.views}
    assert one.version == FeatureSet.compile(project(a=views, b=clicks)).version
    changed = FeatureSet.compile(project(a=views, b={**clicks, "where": 'surface == "home"'}))
    assert changed.version != one.version


WRONG = {
    "an unknown aggregate": ({"entity": "item", "aggregate": "cuont", "events": ["v"]}, "f.aggregate", "count"),
    "an unknown entity": ({"entity": "itme", "aggregate": "count", "events": ["v"]}, "f.entity", "item"),
    "an entity nobody leads to": ({"entity": "merchant", "aggregate": "count", "events": ["v"]}, "f.entity", "from ="),
    "the same entity twice": ({"entity": ["user", "user"], "aggregate": "count", "events": ["v"]}, "f.entity", "two"),
    "three entities": (
        {"entity": ["user", "item", "category"], "aggregate": "count", "events": ["v"]},
        "f.entity",
        "two",
    ),
    "no events": ({"entity": "item", "aggregate": "count"}, "f.events", "list of event types"),
    "a catalog event": ({"entity": "item", "aggregate": "count", "events": ["$item"]}, "f.events", "catalog change"),
    "a window between tiles": (
        {"entity": "item", "aggregate": "count", "events": ["v"], "windows": ["90s"]},
        "f.windows",
        "hops of 1m",
    ),
    "a window where there is none": (
        {"entity": "item", "aggregate": "time_since_last", "events": ["v"], "windows": ["1d"]},
        "f.windows",
        "no windows",
    ),
    "an unknown key": ({"entity": "item", "aggregate": "count", "events": ["v"], "wher": "x"}, "f.wher", "where"),
    "a missing key": ({"entity": "item", "aggregate": "decayed_count", "events": ["v"]}, "f.half_life", "required"),
    "a sequence of items": ({"entity": "item", "aggregate": "last_n", "events": ["v"]}, "f", 'entity = "user"'),
    "a long sequence": ({"entity": "user", "aggregate": "last_n", "events": ["v"], "n": 513}, "f.n", "512"),
    "two scales": ({"entity": "user", "aggregate": "sum", "events": ["buy", "rate"]}, "f", "different scales"),
    "a relation to a user": (
        {"entity": "user", "aggregate": "active_count", "events": ["meet"]},
        "f",
        "other than user",
    ),
    "a relation by category": (
        {"entity": "category", "aggregate": "active_count", "events": ["follow"]},
        "f",
        "creator",
    ),
    "the wrong object": ({"entity": ["user", "item"], "aggregate": "is_active", "events": ["follow"]}, "f", "object"),
    "no creation column": ({"entity": "creator", "aggregate": "age", "since": "catalog"}, "f", "created_at"),
}


@pytest.mark.parametrize(("body", "key", "says"), WRONG.values(), ids=WRONG.keys())
def test_each_wrong_declaration_is_named_with_its_mend(body, key, says):
    with pytest.raises(ProjectError) as caught:
        FeatureSet.compile(project(f=body))
    (problem,) = caught.value.problems
    assert problem.key == f"feature.{key}"
    assert says in str(problem)


WRONG_NEEDS = {
    "an undeclared feature": (FeatureNeed("item_view"), "item_views"),
    "a text column": (ColumnNeed("item", "title"), "string"),
    "an undeclared column": (ColumnNeed("item", "prise"), "price"),
    "an undeclared entity": (ColumnNeed("shop", "size"), "[entity.shop]"),
    "a history without end": (HistoryNeed(("view",), 1000), "512"),
    "a history of users": (HistoryNeed(("view",), 5, "user"), "not an object"),
    "an unknown object": (ObjectsNeed(("view",), "thing"), "not an object"),
    "no half-life": (RankingNeed("decayed", ("view",)), "half-life"),
}


@pytest.mark.parametrize(("need", "says"), WRONG_NEEDS.values(), ids=WRONG_NEEDS.keys())
def test_a_need_that_cannot_be_met_is_a_problem(need, says):
    views = {"entity": "item", "aggregate": "count", "events": ["view"]}
    with pytest.raises(ProjectError) as caught:
        FeatureSet.compile(project(item_views=views), [need])
    assert says in str(caught.value)


def test_all_problems_come_together():
    with pytest.raises(ProjectError) as caught:
        FeatureSet.compile(project(a={"entity": "x", "aggregate": "y"}, b={"entity": "item", "aggregate": "count"}))
    assert len(caught.value.problems) >= 2
    assert {p.key.split(".")[1] for p in caught.value.problems} == {"a", "b"}


def test_hops_follow_the_length_of_the_window():
    lengths = [MINUTE, 2 * HOUR, 3 * HOUR, 2 * DAY, 3 * DAY, 14 * DAY, 15 * DAY]
    assert [hop_of(w) // MINUTE for w in lengths] == [1, 1, 15, 15, 60, 60, 360]
    assert tiles_of(30 * DAY) == 120
    with pytest.raises(ValueError, match="whole number"):
        tiles_of(15 * DAY + HOUR)


def test_a_frame_without_time_is_refused():

    with pytest.raises(UsageError, match="'t'"):
        asof(FeatureSet.compile(project()), [], pa.table({"user": [1]}))

"""What sections say of each other: every name that is referred to exists, or the nearest is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedwell.core.errors import Problem, ProjectError
from feedwell.pipeline.project_checks import findings_of
from feedwell.pipeline.project_file import parse_project
from feedwell.pipeline.project_folder import load_project

GOOD = """\
[project]
name = "shop"

[data]
exposure = ["view"]

[entity.item]
columns = { title = "string", category = "string", maker = "string", created_at = "time" }
text = ["title"]
group = "maker"
created_at = "created_at"

[entity.category]
from = "item.category"

[event.view]
[event.click]
[event.buy]
[event.follow]
object = "category"
undone_by = "unfollow"

[objective.click]
events = ["click"]

[objective.buy]
events = ["buy"]
given = "click"

[feature.item_views]
entity = "item"
aggregate = "count"
events = ["view"]
windows = ["1h"]

[feature.user_maker_views]
entity = ["user", "maker"]
aggregate = "count"
events = ["view"]

[source.popular]
k = 10

[source.hot]
kind = "popular"
half_life = "1h"

[filter.seen]
events = ["buy", "click"]

[slate]
kind = "top_k"
k = 5

[serving]
fallback = ["hot"]

[evaluate]
relevant = "buy"
"""


def problems_of(text: str) -> list[Problem]:
    with pytest.raises(ProjectError) as caught:
        parse_project(text, checks=(findings_of,))
    return list(caught.value.problems)


def test_a_good_project_has_no_problem_and_its_group_is_an_entity() -> None:
    project = parse_project(GOOD, checks=(findings_of,))
    assert project.entities == ("user", "item", "category", "maker")
    assert project.derived_entities["maker"] == ("item", "maker")
    assert project.event_types == ("buy", "click", "follow", "unfollow", "view")


@pytest.mark.parametrize(
    ("old", "new", "key", "nearest"),
    [
        ('exposure = ["view"]', 'exposure = ["veiw"]', "data.exposure", "view"),
        ('events = ["view"]\nwindows', 'events = ["viewd"]\nwindows', "feature.item_views.events", "view"),
        ('events = ["buy"]\ngiven', 'events = ["bye"]\ngiven', "objective.buy.events", "buy"),
        ('events = ["buy", "click"]', 'events = ["clik"]', "filter.seen.events", "click"),
        ('given = "click"', 'given = "clicks"', "objective.buy.given", "click"),
        ('entity = ["user", "maker"]', 'entity = ["user", "makers"]', "feature.user_maker_views.entity", "maker"),
        ('"item"\naggregate = "count"', '"item"\naggregate = "cuont"', "feature.item_views.aggregate", "count"),
        ('group = "maker"', 'group = "makr"', "entity.item.group", "maker"),
        ('created_at = "created_at"', 'created_at = "createdat"', "entity.item.created_at", "created_at"),
        ('text = ["title"]', 'text = ["titel"]', "entity.item.text", "title"),
        ('from = "item.category"', 'from = "item.categry"', "entity.category.from", "category"),
        ('from = "item.category"', 'from = "itm.category"', "entity.category.from", "item"),
        ('object = "category"', 'object = "categoy"', "event.follow.object", "category"),
        ("[source.popular]", "[source.populr]", "source.populr", "popular"),
        ('kind = "popular"', 'kind = "poplar"', "source.hot.kind", "popular"),
        ('half_life = "1h"', 'halflife = "1h"', "source.hot.halflife", "half_life"),
        ('kind = "top_k"', 'kind = "topk"', "slate.kind", "top_k"),
        ("k = 5", "k = 5\nkindd = 1", "slate.kindd", "kind"),
        ('fallback = ["hot"]', 'fallback = ["hott"]', "serving.fallback", "hot"),
        ('relevant = "buy"', 'relevant = "byu"', "evaluate.relevant", "buy"),
        ('undone_by = "unfollow"', 'undone_by = "unfolow"\n[event.unfollow]', "event.follow.undone_by", "unfollow"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_told_with_the_nearest(old: str, new: str, key: str, nearest: str) -> None:
    assert GOOD.count(old) >= 1
    text = GOOD.replace(old, new)
    problem = next(p for p in problems_of(text) if p.key == key)
    assert problem.nearest == nearest
    line = text.splitlines()[(problem.line or 1) - 1]
    assert key.split(".")[-1] in line or key.split(".")[-2] in line


def test_a_ranker_that_learns_needs_something_to_predict() -> None:
    bare = '[project]\nname = "p"\n[event.view]\n[ranker]\nkind = "xgboost"\n'
    assert [(p.key, p.line) for p in problems_of(bare)] == [("ranker", 4)]
    parse_project(bare + '[objective.view]\nevents = ["view"]\n', checks=(findings_of,))


@pytest.mark.parametrize(
    ("more", "key", "says"),
    [
        ('[engine]\nkind = "spark"', "engine.kind", "not supported yet"),
        ('[state]\nkind = "redis"', "state.kind", "not supported yet"),
        ("[releases]\nkep = 10", "releases.kep", "unknown key"),
        ("[state]\nmapsize = 1", "state.mapsize", "unknown key"),
        ('[objective.late]\nevents = ["buy"]\nwithin = "0s"', "objective.late.within", "no time"),
        ('[objective.odd]\nevents = ["buy"]\nweight = nan', "objective.odd.weight", "nan does not fit"),
        ("[gates]\nmargin = inf", "gates.margin", "inf does not fit"),
        ('[event.like]\nundone_by = "like"', "event.like.undone_by", "cannot undo itself"),
        ('[releases]\nkind = "file"', "releases.kind", "no releases is called 'file'"),
        ('[event."$item"]', 'event.$item', "cannot be an event type"),
        ("[event.served]", "event.served", "what the server appends"),
        ('[objective.shown]\nevents = ["served"]', "objective.shown.events", "no outcome"),
        ('[light]\nkind = "logistic"', "light", "there is none"),
        (
            '[ranker]\nkind = "logistic"\n[split]\nfractions = [0.8, 0.0, 0.0, 0.2]',
            "split.fractions",
            "nothing to learn from",
        ),
        ('[light]\nkind = "logistik"', "light.kind", "no scorer is called"),
        ("[entity.slot]", "entity.slot", "column of every event"),
        ('[entity.user]\ngroup = "item"', "entity.user.group", "an entity already"),
        ('[feature."a b"]\nentity = "item"\naggregate = "age"', "feature.a b", "cannot be a name"),
        ('[source.transitions]\nwindow = "3x"', "source.transitions.window", "does not fit"),
        ('[source.fresh]\nmax_age = 5', "source.fresh.max_age", "has no unit"),
        ('[gates]\nmetric = "nope"', "gates.metric", "no metric is called 'nope'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(more: str, key: str, says: str) -> None:
    found = {p.key: p for p in problems_of(GOOD + more + "\n")}
    assert says in found[key].message


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ('name = "shop"', 'name = "shop"\ntimezone = "Mars/Base"', "project.timezone", "no time zone"),
        ("k = 5", "k = 5\nexplore = { first = 5, last = 2 }", "slate.explore", "no slot to explore"),
        ("k = 5", "k = 5\nexplore = { first = 5 }", "slate.explore", "no slot to explore"),
    ],
)
def test_values_that_cannot_be_meant_are_told(old: str, new: str, key: str, says: str) -> None:
    found = problems_of(GOOD.replace(old, new, 1))
    assert [p.key for p in found] == [key]
    assert says in found[0].message


def test_an_ending_that_no_reader_knows_is_told(tmp_path: Path) -> None:
    (tmp_path / "v1.2").mkdir()
    events = 'events = ["a/*.csv.gz", "v1.2", "b.log"]'
    text = GOOD.replace("[data]", f"[data]\n{events}").replace("k = 5", "explore = { first = 1, last = 0 }")
    path = tmp_path / "feedwell.toml"
    path.write_text(text + '[entity.user]\npath = "people.xlsx"\n')
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    assert [p.key for p in caught.value.problems] == ["data.events", "entity.user.path"]
    assert "b.log" in caught.value.problems[0].message
    path.write_text(text.replace(events, f'{events}\ndelimiter = "|"'))
    load_project(tmp_path)


def test_a_slice_that_is_no_column_of_the_user_is_told(tmp_path: Path) -> None:
    more = '[feature.user_views]\nentity = "user"\naggregate = "count"\nevents = ["view"]\n'
    text = GOOD.replace('relevant = "buy"', 'relevant = "buy"\nslices = ["user_views", "user_vews"]') + more
    (tmp_path / "feedwell.toml").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    assert [(p.key, p.nearest) for p in caught.value.problems] == [("evaluate.slices", "user_views")]


def test_features_and_exposure_may_name_what_was_served() -> None:
    text = GOOD.replace('exposure = ["view"]', 'exposure = ["served"]')
    fatigue = '[feature.fatigue]\nentity = ["user", "item"]\naggregate = "count"\nevents = ["served"]\n'
    assert "fatigue" in parse_project(text + fatigue, checks=[findings_of]).feature


def test_objectives_given_each_other_in_a_circle_are_told() -> None:
    text = GOOD.replace('[objective.click]\nevents = ["click"]', '[objective.click]\nevents = ["click"]\ngiven = "buy"')
    assert {p.key for p in problems_of(text)} == {"objective.click.given", "objective.buy.given"}


def test_a_file_without_event_sections_declares_types_by_their_use() -> None:
    text = "\n".join(
        [
            '[project]\nname = "x"',
            '[data]\nexposure = ["view"]',
            '[objective.buy]\nevents = ["buy"]',
            "[source.popular]",
        ]
    )
    assert parse_project(text, checks=(findings_of,)).event_types == ("buy", "view")
    assert [p.nearest for p in problems_of(text + '\nevents = ["veiw"]\n')] == ["view"]


def test_references_are_checked_although_other_keys_do_not_fit() -> None:
    text = GOOD.replace("k = 5", 'k = "five"').replace('events = ["click"]', 'events = ["clikc"]')
    assert {p.key for p in problems_of(text)} == {"slate.k", "objective.click.events"}


def test_an_objective_that_did_not_validate_still_counts_as_declared() -> None:
    text = GOOD.replace('[objective.click]\nevents = ["click"]', '[objective.click]\nevents = "click"')
    assert {p.key for p in problems_of(text)} == {"objective.click.events"}


PLUGIN = """
from feedwell.core.protocols import PartConfig, serve
from feedwell.core.registry import source

@source("mine_{n}")
class Mine:
    class Config(PartConfig):
        k: int = serve(3, ge=1)
    def __init__(self, config, setting):
        self.config = config
    needs = ()
"""


def test_plugins_are_read_before_the_check(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.format(n=1))
    text = 'plugins = ["mine.py", "gone.py"]\n' + GOOD + "[source.mine_1]\nk = 0\n"
    (tmp_path / "feedwell.toml").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    assert {p.key for p in caught.value.problems} == {"plugins", "source.mine_1.k"}
    (tmp_path / "feedwell.toml").write_text(text.replace(', "gone.py"', ""))
    with pytest.raises(ProjectError) as again:
        load_project(tmp_path)
    assert [p.key for p in again.value.problems] == ["source.mine_1.k"]
    (tmp_path / "feedwell.toml").write_text(text.replace(', "gone.py"', "").replace("k = 0", "k = 2"))
    assert load_project(tmp_path).source["mine_1"].options == {"k": 2}


BARE = "from feedwell.core.registry import source\n\n@source('bare_{n}')\nclass Bare:\n    pass\n"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = 1\nimport nowhere_at_all\n", "p.py:2: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = 1\ny = (\n", "p.py:2: SyntaxError: '(' was never closed"),
        ("import sys\n\nsys.exit(3)\n", "p.py:3: SystemExit: 3"),
        (BARE, "p.py:3: the source 'bare_{n}' has no Config"),
    ],
)
def test_a_plugin_that_fails_is_a_problem_at_its_line_beside_the_others(tmp_path: Path, code: str, says: str) -> None:
    (tmp_path / "p.py").write_text(code)
    text = 'plugins = ["p.py"]\n' + GOOD.replace('relevant = "buy"', 'relevant = "byu"')
    (tmp_path / "feedwell.toml").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    found = {p.key: p for p in caught.value.problems}
    assert set(found) == {"plugins", "evaluate.relevant"}
    assert (found["plugins"].line, says in found["plugins"].message) == (1, True), found["plugins"]


def test_a_file_that_is_not_text_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "feedwell.toml").write_bytes(b'[project]\nname = "\xff"\n')
    with pytest.raises(ProjectError, match="not UTF-8"):
        load_project(tmp_path)


def test_an_objective_to_lower_cannot_be_what_is_relevant() -> None:
    assert "evaluate.relevant" in {
        p.key for p in problems_of(GOOD.replace("[objective.buy]\n", '[objective.buy]\ndirection = "down"\n'))
    }


@pytest.mark.parametrize(
    ("section", "message", "nearest"),
    [
        ('[embedder.title]\nkind = "hashin"', "no embedder is called 'hashin'", "hashing"),
        ('[embedder.title]\nkind = "hashing"\ndims = 8', "dims", "dim"),
        ("[embedder.9]\nkind = 'text'", "cannot be a name", ""),
    ],
)
def test_an_embedder_is_checked_like_any_part(section: str, message: str, nearest: str) -> None:
    found = problems_of(GOOD + "\n" + section)
    assert [p.nearest for p in found if message in f"{p.key} {p.message}"] == [nearest]


def test_a_feature_that_is_not_of_the_user_alone_is_none_for_a_source(tmp_path: Path) -> None:
    user = '[feature.user_views]\nentity = "user"\naggregate = "count"\nevents = ["view"]\nwindows = ["1d"]\n'
    source = '[source.two_tower]\nuser_features = ["user_views_1d", "item_views_1h", "nothing"]\n'
    (tmp_path / "feedwell.toml").write_text(GOOD + user + source)
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    found = {p.key: p for p in caught.value.problems}
    assert set(found) == {"source.two_tower.user_features", "feature.nothing"}
    assert "'item_views_1h' is not of the user alone" in found["source.two_tower.user_features"].message
    assert found["source.two_tower.user_features"].expected == "one of user_views_1d"


def test_a_list_is_nothing_that_a_source_learns_from(tmp_path: Path) -> None:
    recent = '[feature.recent]\nentity = "user"\naggregate = "last_n"\nevents = ["view"]\nn = 5\n'
    (tmp_path / "feedwell.toml").write_text(GOOD + recent + '[source.two_tower]\nuser_features = ["recent"]\n')
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    assert [(p.key, p.message) for p in caught.value.problems] == [
        ("source.two_tower.user_features", "'recent' is a list, and a source learns from numbers")
    ]


@pytest.mark.parametrize("column", ["nope", "title"])
def test_an_item_column_that_two_tower_cannot_read_is_told(tmp_path: Path, column: str) -> None:
    (tmp_path / "feedwell.toml").write_text(GOOD + f'[source.two_tower]\nitem_columns = ["{column}"]\n')
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    assert [p.key for p in caught.value.problems] == ["source.two_tower.item_columns"]
    assert "expected some of" in caught.value.problems[0].message

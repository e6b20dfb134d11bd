"""The project file: what is wrong is all told at once, with line, key, expectation and nearest name."""

from __future__ import annotations

import pytest

from feedwell.core.errors import Problem, ProjectError
from feedwell.core.project import Project
from feedwell.pipeline.project_file import lines_of, parse_project, variant
from feedwell.pipeline.validation import Finding

WHOLE = """\
[project]
name = "shop"

[event.view]
[event.buy]

[objective.buy]
events = ["buy"]
within = "1d"

[slate]
k = 30
explore = { first = 3, last = 10 }

[surface.email.slate]
k = 5

[environment.production]
serving.workers = 4

[experiment.fresher]
arms.b = { "objective.buy.weight" = 2.5 }
arms.c = { objective.buy.weight = 3.0 }
"""


def problems_of(text: str, **more: object) -> dict[str, Problem]:
    with pytest.raises(ProjectError) as caught:
        parse_project(text, **more)  # type: ignore[arg-type]
    return {p.key: p for p in caught.value.problems}


def test_a_whole_file_becomes_a_typed_project() -> None:
    project = parse_project(WHOLE)
    assert project.slate.k == 30
    assert project.objective["buy"].within == 86_400_000_000
    assert project.event_types == ("buy", "view")
    assert parse_project("\ufeff" + WHOLE).digest == project.digest


def test_all_problems_come_together_with_their_lines() -> None:
    text = WHOLE.replace('name = "shop"', 'nme = "shop"').replace("k = 30", 'k = "many"')
    text = text.replace('within = "1d"', "within = 7").replace("[event.view]", "[evnt.view]") + "\n[feature.x]\n"
    found = problems_of(text)
    assert {(p.key, p.line) for p in found.values()} == {
        ("project.name", 1),
        ("project.nme", 2),
        ("evnt", 4),
        ("objective.buy.within", 9),
        ("slate.k", 12),
        ("feature.x.entity", 25),
        ("feature.x.aggregate", 25),
    }
    assert found["project.nme"].nearest == "name"
    assert found["evnt"].nearest == "event"
    assert "integer" in found["slate.k"].expected
    assert "unit" in found["objective.buy.within"].message


@pytest.mark.parametrize(
    ("old", "new", "key", "line", "nearest"),
    [
        ("first = 3", "frst = 3", "slate.explore.frst", 13, "first"),
        (
            '[objective.buy]\nevents = ["buy"]',
            '[objective.buy]\nevents = ["buy"]\nkind = "binry"',
            "objective.buy.kind",
            9,
            "binary",
        ),
        ("[event.buy]", '[event.buy]\nundone = "x"', "event.buy.undone", 6, "undone_by"),
    ],
)
def test_a_misspelt_key_or_choice_names_the_nearest(old: str, new: str, key: str, line: int, nearest: str) -> None:
    problem = problems_of(WHOLE.replace(old, new))[key]
    assert (problem.line, problem.nearest) == (line, nearest)


def test_a_union_is_one_problem_with_both_expectations() -> None:
    problem = problems_of(WHOLE + "[data]\nevents = 3\n")["data.events"]
    assert problem.expected == "a string or a list"


def test_a_text_that_is_no_toml_says_where() -> None:
    assert problems_of("[project]\nname = \n")["toml"].line == 2


def test_what_stands_twice_is_named() -> None:
    problem = problems_of("[a.b]\n[c]\n[a.b]\n")["toml"]
    assert (problem.line, problem.message) == (3, "[a.b] stands twice")
    assert "stands twice" in problems_of("a = 1\na = 2\n")["toml"].message


def test_overlays_go_environment_then_surface_then_arm() -> None:
    project = parse_project(WHOLE, environment="production")
    assert project.serving.workers == 4
    assert variant(project, surface="email").slate.k == 5
    assert variant(project, assignments={"fresher": "b"}).objective["buy"].weight == 2.5
    assert variant(project, surface="nowhere", assignments={"fresher": "control"}) is project
    both = variant(project, surface="email", assignments={"fresher": "c"})
    assert (both.slate.k, both.objective["buy"].weight, both.slate.explore.first) == (5, 3.0, 3)
    assert both.digest != project.digest


def test_an_overlay_that_breaks_the_project_is_told_at_its_own_line() -> None:
    text = WHOLE.replace("k = 5", "k = 5000").replace("serving.workers = 4", "serving.wrkers = 4")
    found = problems_of(text.replace('"objective.buy.weight" = 2.5', '"data.events" = "x"'))
    assert found["surface.email.slate.k"].line == 16
    assert found["environment.production.serving.wrkers"].nearest == "workers"
    assert "cannot set 'data'" in found['experiment.fresher.arms.b."data.events"'].message
    assert "environment.production" not in found


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("[experiment.x]\narms.b = 3\n", [("experiment.x.arms.b", 26, "a table")]),
        ("[surface]\nweb = { slate = 5 }\n", [("surface.web.slate", 26, "a table")]),
        ("[surface.web]\ndata.x = 1\nslate.k = 0\n",
         [("surface.web.data.x", 26, None), ("surface.web.slate.k", 27, None)]),
        ("[environment.z]\nsurface.a.slate.k = 0\n", [("environment.z.surface.a.slate.k", 26, None)]),
        ("[environment.z]\nobjective.o.wthin = 1\n",
         [("environment.z.objective.o.events", 26, None), ("environment.z.objective.o.wthin", 26, "")]),
    ],
)  # fmt: skip
def test_each_problem_of_an_overlay_is_told_once_at_its_line(more: str, told: list[tuple[str, int, str]]) -> None:
    text = WHOLE.replace('arms.b = { "objective.buy.weight" = 2.5 }\n', "# b\n") + "\n" + more
    with pytest.raises(ProjectError) as caught:
        parse_project(text)
    found = caught.value.problems
    assert [(p.key, p.line) for p in found] == [(key, line) for key, line, _ in told]
    assert all(p.expected == expected for p, (_, _, expected) in zip(found, told, strict=True) if expected is not None)


def test_a_list_is_called_a_list() -> None:
    assert problems_of('plugins = "p.py"\n' + WHOLE)["plugins"].expected == "a list"


def test_two_arms_that_may_meet_cannot_set_one_key() -> None:
    other = '[experiment.other]\narms.z = { "objective.buy.weight" = 9.0 }\n'
    problem = problems_of(WHOLE + other)['experiment.other.arms.z."objective.buy.weight"']
    assert "fresher" in problem.message
    parse_project(WHOLE + other.replace("objective.buy.weight", "slate.k").replace("9.0", "9"))  # they may both exist


def test_many_things_wrong_in_one_section_are_all_told() -> None:
    text = WHOLE.replace('events = ["buy"]', "events = [1, 2]\nkind = 4\nweight = []").replace("k = 30", "k = []")
    keys = set(problems_of(text + "[feature.x]\nwindows = [1, true]\n[data]\nexposure = 3\n"))
    assert {"objective.buy.events.0", "objective.buy.events.1", "objective.buy.kind", "objective.buy.weight"} <= keys
    assert {"slate.k", "feature.x.entity", "feature.x.windows.0", "data.exposure"} <= keys
    assert set(problems_of("surface = 3\nevent = []\n[project]\nname = []\n")) >= {"surface", "event", "project.name"}


def test_an_unknown_environment_is_named() -> None:
    assert problems_of(WHOLE, environment="prodction")["environment.prodction"].nearest == "production"


def test_secrets_come_from_the_environment_and_a_missing_one_is_a_problem() -> None:
    text = WHOLE + '[data]\nevents = "${FOLDER_A}/x.csv"\n'
    assert parse_project(text, variables={"FOLDER_A": "there"}).data.events == "there/x.csv"
    assert "FOLDER_A" in problems_of(text, variables={})["data.events"].message


def test_checks_run_on_the_rest_although_keys_do_not_fit_and_under_each_overlay() -> None:
    seen: list[int] = []

    def check(project: Project, data: object) -> list[Finding]:
        seen.append(project.slate.k)
        return [Finding(("slate", "k"), "is five")] if project.slate.k == 5 else []

    found = problems_of(WHOLE.replace('within = "1d"', 'within = "soon"'), checks=(check,))
    assert set(found) == {"objective.buy.within", "surface.email.slate.k"}
    assert {5, 30} <= set(seen)


def test_lines_of_every_way_to_write_a_key() -> None:
    text = '''# comment
plugins = [
  "a", # ] "
]
[a.b]
c.d = """two
lines ] = """
[[t]]
x = 1
[[t]]
"q.r" = { y = [1,
  2], z = 'w' }
'''
    lines = lines_of(text)
    assert lines["plugins", 0] == 2
    assert lines["a", "b", "c", "d"] == 6
    assert (lines["t", 0, "x"], lines["t", 1]) == (9, 10)
    assert (lines["t", 1, "q.r", "y", 1], lines["t", 1, "q.r", "z"]) == (11, 11)

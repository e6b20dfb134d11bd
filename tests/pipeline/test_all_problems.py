"""Everything wrong with a project file is told in one run, whatever else is wrong, and nothing that only follows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from feedwell.core.errors import Problem, ProjectError
from feedwell.pipeline.project_folder import load_project

from .test_project_checks import GOOD

NAMES = {
    ('exposure = ["view"]', 'exposure = ["veiw"]'): "data.exposure",
    ('events = ["buy", "click"]', 'events = ["clik"]'): "filter.seen.events",
    ('given = "click"', 'given = "clicks"'): "objective.buy.given",
    ('entity = ["user", "maker"]', 'entity = ["user", "makers"]'): "feature.user_maker_views.entity",
    ('"item"\naggregate = "count"', '"item"\naggregate = "cuont"'): "feature.item_views.aggregate",
    ('group = "maker"', 'group = "makr"'): "entity.item.group",
    ('created_at = "created_at"', 'created_at = "createdat"'): "entity.item.created_at",
    ('from = "item.category"', 'from = "itm.category"'): "entity.category.from",
    ("[source.popular]", "[source.populr]"): "source.populr",
    ('half_life = "1h"', 'half_life = "1"'): "source.hot.half_life",
    ('kind = "top_k"', 'kind = "topk"'): "slate.kind",
    ("k = 5", "k = 5\nkindd = 1"): "slate.kindd",
    ('fallback = ["hot"]', 'fallback = ["hott"]'): "serving.fallback",
    ('columns = { title = "string"', 'columns = { title = "strng"'): "entity.item.columns.title",
}
"""Faults that the sections' own checks find."""
COMPILED = {
    "feature.odd.windows": '[feature.odd]\nentity = "item"\naggregate = "age"\nevents = ["view"]\nwindows = ["1h"]',
    "feature.none.events": '[feature.none]\nentity = "item"\naggregate = "count"',
    "feature.extra.colour": '[feature.extra]\nentity = "item"\naggregate = "count"\nevents = ["view"]\ncolour = "red"',
    "entity.item.columns.gone": '[filter.expired]\nexpires_at = "gone"',
}
"""Faults that only show when the features are compiled, each a section of its own."""
KEYS = ['from = "item.maker"', 'from = "category.x"', 'group = "title"', "columns = { a = 'list' }", 'object = "maker"']
VALUES = [
    '"view"',
    '"maker"',
    '"item.item"',
    '"user"',
    "5",
    "-1",
    "true",
    "[]",
    '["view"]',
    "{}",
    '"last_n"',
    '""',
    "[[]]",
]
SLICES = '[evaluate]\nslices = ["nothing"]'


def problems(tmp_path: Path, text: str) -> list[Problem]:
    (tmp_path / "feedwell.toml").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    return list(caught.value.problems)


def follows(change: tuple[str, str]) -> set[str]:
    """With another group `maker` is no entity any more, and the feature that names it is as wrong as the group."""
    return {"feature.user_maker_views.entity"} if NAMES[change] == "entity.item.group" else set()


def broken(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


@pytest.mark.parametrize("change", NAMES, ids=NAMES.values())
def test_what_only_follows_from_one_fault_is_not_told(tmp_path: Path, change: tuple[str, str]) -> None:
    assert {p.key for p in problems(tmp_path, broken(GOOD, change))} == {NAMES[change], *follows(change)}


@pytest.mark.parametrize("key", COMPILED)
def test_each_fault_of_the_features_is_told(tmp_path: Path, key: str) -> None:
    assert [p.key for p in problems(tmp_path, f"{GOOD}\n{COMPILED[key]}\n")] == [key]


@pytest.mark.parametrize("change", NAMES, ids=NAMES.values())
def test_faults_of_the_features_are_told_beside_any_other(tmp_path: Path, change: tuple[str, str]) -> None:
    text = broken(GOOD, change).replace("[evaluate]", SLICES) + "\n" + "\n".join(COMPILED.values())
    found = {p.key for p in problems(tmp_path, text)}
    assert found == {NAMES[change], "evaluate.slices", *COMPILED, *follows(change)}


def test_all_at_once(tmp_path: Path) -> None:
    text = broken(GOOD, *NAMES).replace("[evaluate]", SLICES) + "\n" + "\n".join(COMPILED.values())
    found = problems(tmp_path, text)
    hidden = {"slate.kindd"}  # which keys a slate may have depends on its kind, and that is unknown here
    assert {p.key for p in found} == {*NAMES.values(), "evaluate.slices", *COMPILED} - hidden
    assert len({(p.key, p.message) for p in found}) == len(found)
    assert all(p.line for p in found)


@pytest.mark.parametrize("seed", range(40))
def test_a_file_garbled_at_random_ends_in_problems_never_in_a_crash(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lines = "\n".join([GOOD, *COMPILED.values(), '[ranker]\nkind = "xgboost"', "[surface.a]\nslate.k = 3"]).split("\n")
    for _ in range(rng.randint(1, 4)):
        i = rng.randrange(len(lines))
        if lines[i].startswith("["):
            lines[i] += "\n" + rng.choice(KEYS)
        else:
            lines[i] = lines[i].partition("=")[0] + "= " + rng.choice(VALUES) if "=" in lines[i] else ""
    assert all(p.key for p in problems(tmp_path, "\n".join(lines)))


def test_a_slice_of_a_feature_that_is_itself_wrong_is_not_told(tmp_path: Path) -> None:
    text = GOOD.replace("[evaluate]", '[evaluate]\nslices = ["mine_1h"]')
    text += '\n[feature.mine]\nentity = "user"\naggregate = "count"\nwindows = ["1h"]\n'
    assert [p.key for p in problems(tmp_path, text)] == ["feature.mine.events"]


def test_a_fault_of_a_surface_does_not_hide_the_features(tmp_path: Path) -> None:
    text = f'{GOOD}\n[surface.email]\nslate.kind = "topk"\n{COMPILED["feature.none.events"]}\n'
    assert {p.key for p in problems(tmp_path, text)} == {"surface.email.slate.kind", "feature.none.events"}

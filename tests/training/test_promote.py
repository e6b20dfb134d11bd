"""Publishing asks the gates, changed `serve` keys need no training, a rollback brings the configuration back."""

from __future__ import annotations

import pytest

import feedwell.workspace as workspace
from feedwell.cli import doctor
from feedwell.core.errors import CheckFailed, CorruptArtifact, DataError, Unavailable, UsageError
from feedwell.pipeline.project_file import parse_project
from feedwell.serving.reload import FeatureSets
from feedwell.training import gates
from feedwell.training.promote import changed_fits, publish

from .conftest import bare, shop_events

RANKER = '[ranker]\nkind = "xgboost"\nn_trees = 20\nthreads = 1\n'
ALS = "[source.als]\nk = 20\nembedding_dim = 8\nepochs = 3\n"


def test_too_few_users_is_a_no_unless_forced(shop):
    ws = shop(("min_users = 5", "min_users = 5000"))
    first = ws.train(max_requests=5)
    with pytest.raises(CheckFailed, match=rf"{first.release_id} is not published: .*5000 are needed.*--force"):
        ws.publish()
    assert ws.releases.channel("champion") is None
    assert ws.publish(force=True) == first.release_id
    ws.clock.advance(1)
    second = ws.train(max_requests=5)
    assert {g.name: g.passed for g in second.gates[:2]} == {"enough users": False, "champion": True}
    with pytest.raises(CheckFailed, match="5000 are needed"):
        ws.publish()
    assert ws.releases.channel("champion") == first.release_id
    assert ws.publish(force=True) == second.release_id


def test_a_new_recipe_is_judged_on_the_requests_of_the_candidate(shop):
    ws = shop()
    first = ws.train(max_requests=5).release_id
    ws.publish(force=True)
    path = ws.folder / "feedwell.toml"
    path.write_text(path.read_text().replace("embedding_dim = 8", "embedding_dim = 9"))
    second = workspace.open(ws.folder, clock=ws.clock).train(max_requests=5)
    gate = next(g for g in second.gates if g.name == "champion")
    assert "minus the champion's" in gate.why
    release = ws.releases.read(second.release_id)
    assert (release.judged_against, release.judged_recipe) == (first, ws.project.digest)


def test_a_champion_that_reads_the_log_otherwise_is_judged_by_what_the_candidate_calls_relevant(shop):
    """It counted dear buys only, learned from other exposures, ruled nothing out and knew no undo."""
    rows = shop_events()
    for n, row in enumerate(rows):
        if row["type"] == "buy":
            row["value"] = 1 + n % 5
    dear = 'within = "1h"\nwhere = "value >= 4"'
    few = ("n_trees = 20", "n_trees = 5")
    ws = shop(few, ('within = "1h"', dear), ("[filter.seen]\nevents", "[filter.expired]\n#"),
              ('exposure = ["view"]', 'exposure = ["view", "buy"]'), events=rows)  # fmt: skip
    ws.train(max_requests=40)
    ws.publish(force=True)
    path = ws.folder / "feedwell.toml"
    text = path.read_text().replace("[filter.expired]\n#", "[filter.seen]\nevents").replace(', "buy"]', "]")
    text = text.replace('\nwhere = "value >= 4"', '\nwhere = "value >= 2"').replace(
        "[event.buy]", '[event.buy]\nundone_by = "refund"\n[event.refund]'
    )
    path.write_text(text)
    report = workspace.open(ws.folder, clock=ws.clock).train(max_requests=40)
    gate = next(g for g in report.gates if g.name == "champion")
    assert "minus the champion's" in gate.why
    assert f"over {report.evaluation.n_users} users" in gate.why


def test_whatever_the_champions_recipe_fails_with_is_a_no_and_not_a_lost_run(shop, monkeypatch):
    ws = shop((RANKER, ""), (ALS, ALS.replace("k = 20", "k = 19")))
    ws.train(max_requests=5)
    ws.publish(force=True)
    path = ws.folder / "feedwell.toml"
    path.write_text(path.read_text().replace("k = 19", "k = 18"))

    def gone(*_of):
        raise KeyError("what no recipe has any more")

    monkeypatch.setattr(gates, "frozen_project", gone)
    report = workspace.open(ws.folder, clock=ws.clock).train(max_requests=5)
    gate = next(g for g in report.gates if g.name == "champion")
    assert not gate.passed
    assert "could not be judged: KeyError: 'what no recipe has any more'" in gate.why
    assert ws.releases.channel("candidate") == report.release_id


def test_nothing_trained_nothing_published(shop):
    with pytest.raises(Unavailable, match="feedwell train"):
        shop().publish()


def test_the_state_is_ready_before_the_channel_moves(shop):
    ws = shop()
    report = ws.train(max_requests=5)

    def fails(release):
        assert release.release_id == report.release_id
        raise Unavailable("no state")

    with pytest.raises(Unavailable, match="no state"):
        publish(ws.releases, force=True, hydrate=fails)
    assert ws.releases.channel("champion") is None


def test_serve_keys_publish_over_the_same_artifacts_and_roll_back(shop):
    ws = shop()
    ws.train(max_requests=5)
    base = ws.publish(force=True)
    path = ws.folder / "feedwell.toml"
    text = path.read_text()

    path.write_text(text.replace("[source.als]\nk = 20", "[source.als]\nk = 7"))
    changed = workspace.open(ws.folder, clock=ws.clock)
    published = changed.publish_config()
    assert published != base
    release = ws.releases.read(published)
    assert release.artifacts == ws.releases.read(base).artifacts
    assert release.parent == base
    assert changed.rollback() == base
    assert "k = 7" not in ws.releases.read(base).project_text

    path.write_text(text.replace("embedding_dim = 8", "embedding_dim = 9"))
    with pytest.raises(UsageError, match=r"source.als.embedding_dim: 8 → 9"):
        workspace.open(ws.folder, clock=ws.clock).publish_config()

    changed = text.replace('aggregate = "count"\nevents = ["view"]', 'aggregate = "count"\nevents = ["buy"]', 1)
    assert changed != text
    path.write_text(changed)
    with pytest.raises(UsageError, match=r"feature\.\w+ is declared otherwise"):
        workspace.open(ws.folder, clock=ws.clock).publish_config()


BEFORE = """
[project]
name = "p"
[event.buy]
[event.view]
[event.refund]
[entity.item]
path = "items.csv"
columns = { price = "float" }
[source.als]
"""


OTHERWISE = [
    ("[event.buy]", "[event.buy]\nvalue_scale = 100", "event.buy.value_scale: 1 → 100"),
    ("[event.buy]", '[event.buy]\nundone_by = "refund"', "event.buy.undone_by: None → 'refund'"),
    ("[event.view]", '[event.view]\nobject = "creator"', "event.view.object: 'item' → 'creator'"),
    ("[event.view]", '[event.view]\ncontext = { n = "int" }', "event.view.context: {} → {'n': 'int'}"),
    ('price = "float"', 'price = "int"', "entity.item.columns.price: 'float' → 'int'"),
    ('price = "float"', 'cost = "float"', "entity.item.columns.price: 'float' → None"),
    ("[entity.item]", '[entity.item]\nrename = { price = "cost" }', "entity.item.rename: {} → {'price': 'cost'}"),
    ("[event.view]", '[event.view]\nunit = "s"\n[event.share]\nvalue_scale = 10', ""),
    ('price = "float"', 'price = "float", cost = "int"', ""),
    ("[entity.item]", '[entity.item]\nexpires_at = "until"', ""),
    ("[event.refund]\n", "", ""),
]


def test_events_and_entities_that_mean_another_thing_need_training(shop):
    """What only says what may be served, and event types that nothing was fitted on, do not."""
    ws = shop(events=[])
    made = ws.releases.write_artifact("source", "als", lambda folder: (folder / "of").write_text("it"))
    release = ws.releases.read(bare(ws, artifacts={"source.als": made}, project_text=BEFORE))
    for old, new, says in OTHERWISE:
        assert old in BEFORE
        found = changed_fits(ws.releases, release, parse_project(BEFORE.replace(old, new)))
        assert [problem for problem in found if not problem.startswith("source.")] == ([says] if says else [])


def test_who_publishes_while_another_does_is_told_and_replaces_nothing(shop):
    ws = shop()
    first, second = bare(ws), bare(ws)

    def other_publisher(_release):
        ws.releases.set_channel("champion", first)

    with pytest.raises(Unavailable, match=f"points to {first} by now"):
        publish(ws.releases, release_id=second, force=True, hydrate=other_publisher)
    assert ws.releases.history("champion") == (first,)


def test_a_torn_pointer_is_written_anew_by_force(shop):
    ws = shop()
    made = bare(ws)
    publish(ws.releases, release_id=made, force=True)
    (ws.state_folder / "channels/champion").write_bytes(b"")
    with pytest.raises(CorruptArtifact, match="publish RELEASE --force"):
        publish(ws.releases, release_id=made)
    assert publish(ws.releases, release_id=made, force=True) == made
    assert ws.releases.history("champion") == (made,)


def test_a_release_that_cannot_be_loaded_does_not_become_the_champion_and_doctor_tells_one(shop):
    """Every checksum holds: what it was written by reads it otherwise, or its code is gone."""
    ws = shop(events=[])
    text = ws.project_text.partition("[source.als]")[0]
    junk = ws.releases.write_artifact("source", "als", lambda folder: (folder / "of").write_text("another version"))
    broken = bare(ws, artifacts={"source.als": junk}, project_text=text + "[source.als]\n")
    sound = bare(ws, project_text=text)
    for release_id in (broken, sound):
        ws.releases.set_channel("champion", release_id)
    assert sound in doctor._loading(ws)
    said = rf"release {broken} cannot be loaded: .*als.*; `feedwell publish RELEASE` serves another"
    with pytest.raises(DataError, match=said):
        ws.rollback()
    with pytest.raises(DataError, match=said):
        ws.publish(broken, force=True)
    assert ws.releases.history("champion") == (broken, sound)

    ws.releases.set_channel("champion", broken)
    ws.releases.set_channel("candidate", broken)
    with pytest.raises(DataError, match=f"champion: {said}"):
        doctor._loading(ws)
    assert not next(f for f in doctor._findings(ws.folder) if f.about == "loading").ok
    assert ws.rollback() == sound


def test_the_projector_goes_on_without_a_release_that_cannot_be_read(shop):
    ws = shop()
    made = bare(ws)
    (ws.state_folder / f"releases/{made}/release.json").write_bytes(b"rot")
    assert len(FeatureSets(ws.releases, ws.folder)()) == 1
    ws.catch_up()
    assert ws.projector.states.epoch == ws.log.epoch
    assert ws.projector.lag == 0

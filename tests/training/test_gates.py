"""A release is judged against whom it replaces: simple popularity at first, and no champion that it never met."""

from __future__ import annotations

import re

import pytest

from feedwell.core.errors import CheckFailed
from feedwell.training.promote import publish, rollback

from .conftest import DAY, START, bare

YES = ({"name": "champion", "passed": True, "why": "it was"},)
ONE, OTHER = "1" * 16, "2" * 16
RANKER = '[ranker]\nkind = "xgboost"\nn_trees = 20\nthreads = 1\n'
ALS = "[source.als]\nk = 20\nembedding_dim = 8\nepochs = 3\n"


def refused(ws, release_id, says):
    before = ws.releases.channel("champion")
    with pytest.raises(CheckFailed, match=says):
        publish(ws.releases, release_id=release_id)
    assert ws.releases.channel("champion") == before


def test_two_first_releases_do_not_both_publish_unjudged(shop):
    ws = shop(events=[])
    a, b = (bare(ws, project_digest=recipe, gates=YES) for recipe in (ONE, OTHER))
    publish(ws.releases, release_id=a)
    refused(ws, b, f"judged against simple popularity.*would replace {a}.*`feedwell train`.*--force")
    assert publish(ws.releases, release_id=b, force=True) == b


def test_a_champion_of_the_recipe_that_it_was_judged_against_may_be_another_release(shop):
    ws = shop(events=[])
    a, again, third = (bare(ws, project_digest=recipe, gates=YES) for recipe in (ONE, ONE, OTHER))
    b = bare(ws, project_digest="3" * 16, gates=YES, judged_against=a, judged_recipe=ONE)
    publish(ws.releases, release_id=a)
    publish(ws.releases, release_id=again)
    publish(ws.releases, release_id=b)
    rollback(ws.releases)
    publish(ws.releases, release_id=b)
    publish(ws.releases, release_id=third, force=True)
    refused(ws, b, f"judged against {a}, and would replace {third}")


def test_older_data_never_replace_newer_ones(shop):
    ws = shop(events=[])
    old, new = (bare(ws, gates=YES, watermark=at) for at in (10, 20))
    publish(ws.releases, release_id=new)
    refused(ws, old, f"older data than the champion {new}")
    rollback_needs_no_judge = bare(ws, gates=YES, watermark=20)
    publish(ws.releases, release_id=rollback_needs_no_judge)
    assert rollback(ws.releases) == new


def test_what_was_never_judged_replaces_nothing(shop):
    ws = shop(events=[])
    a, b = bare(ws, gates=YES), bare(ws)
    publish(ws.releases, release_id=a)
    refused(ws, b, "never judged")


def test_a_champion_that_cannot_be_read_is_replaced_by_force_only(shop):
    ws = shop((RANKER, ""), (ALS, ""), events=[])
    a = bare(ws, gates=YES)
    publish(ws.releases, release_id=a)
    (ws.state_folder / f"releases/{a}/release.json").write_bytes(b"rot")
    ws.clock.advance(1)
    report = ws.train()
    assert "could not be read" in next(g.why for g in report.gates if g.name == "champion")
    refused(ws, report.release_id, r"cannot be read.*--force")
    assert publish(ws.releases, force=True) == report.release_id


def test_before_the_first_event_a_release_passes_because_nothing_was_learned(shop):
    ws = shop((RANKER, ""), events=[])
    report = ws.train()
    assert [g.why for g in report.gates] == ["there are no events yet: nothing in it was learned"]
    assert ws.publish() == report.release_id


def test_parts_that_do_not_learn_need_no_judge(shop):
    ws = shop((RANKER, ""), (ALS, ""), ("min_users = 5", "min_users = 5000"))
    report = ws.train(max_requests=5)
    assert [(g.name, g.passed) for g in report.gates] == [("first release", True)]
    assert ws.publish() == report.release_id


def test_a_first_release_that_popularity_equals_and_a_refit_that_learned_nothing_are_refused(shop):
    """Everybody views and buys at random; nobody ever likes anything."""
    noise = [
        {"type": kind, "user": f"u{n % 30}", "item": f"i{(n * n + n // 7) % 23}", "ts": START + n * DAY // 60 + late}
        for n in range(600)
        for kind, late in (("view", 0), ("buy", 30_000_000))
        if kind == "view" or n % 3 == 0
    ]
    views = "[feature.item_views]\n"
    like = '[event.like]\n\n[objective.like]\nevents = ["like"]\nwithin = "1h"\n'
    ws = shop((views, like + views), ("[gates]", "[gates]\nmin_rank_correlation = 1.0"), events=noise)
    report = ws.train(max_requests=60)
    answers = {g.name: g for g in report.gates}
    assert list(answers) == ["enough users", *(f"first release, popularity {of}" for of in ("as of then", "fitted")),
                             "refit labels", "refit scores"]  # fmt: skip
    assert answers["enough users"].passed
    assert not all(g.passed for name, g in answers.items() if name.startswith("first release"))
    assert "no positive of like among the" in answers["refit labels"].why
    assert not answers["refit labels"].passed
    assert re.search(r"buy -?0\.\d\d, \d.*at least 1 ", answers["refit scores"].why)
    assert not answers["refit scores"].passed
    with pytest.raises(CheckFailed, match=r"refit labels.*refit scores.*--force"):
        ws.publish()

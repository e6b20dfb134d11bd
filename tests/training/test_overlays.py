"""What surfaces and arms set of parts that learn: fitted by `train`, kept in the release, served to those it is for."""

from __future__ import annotations

import pytest

import feedwell.workspace as workspace
from feedwell.core.errors import ProjectError, UsageError
from feedwell.pipeline.path import Wish
from feedwell.training import refit

OVERLAID = """
[source.transitions]
k = 5

[surface.search]
"source.transitions.window" = 9

[experiment.taste]
share = 1.0
arms.a = {}
arms.b = { "source.als.embedding_dim" = 4, "ranker.n_trees" = 3 }

[experiment.wide]
share = 1.0
arms.c = { "source.ease.k" = 10 }
"""


def fitted_dim(als) -> int:
    """Of the vectors, not of the configuration."""
    return als._items.shape[1]


def overlaid(shop, sections=OVERLAID):
    return shop(("[ranker]", f"{sections}\n[ranker]"))


def test_what_overlays_fit_otherwise_is_trained_released_and_served(shop, monkeypatch):
    ws, fits, fit_in_order = overlaid(shop), [], refit.fit_in_order
    monkeypatch.setattr(refit, "fit_in_order", lambda *a, **more: fits.append(1) or fit_in_order(*a, **more))
    report = ws.train(max_requests=5)
    assert len(fits) == 2, "the base's rankers and the arm's, each with its calibration, once"
    release = ws.releases.verify(report.release_id)
    plain = {"source.als", "source.transitions", "ranker", "calibration"}
    beside = {name.partition("@")[0]: name for name in release.artifacts if "@" in name}
    assert set(release.artifacts) == plain | set(beside.values())
    assert set(beside) == plain | {"source.ease"}
    assert all(release.artifacts[name] != release.artifacts[kept] for name, kept in beside.items() if name in plain)
    assert report.cost[f"fit {beside['source.ease']}"]["cpu_s"] > 0
    ws.publish(force=True)

    compiled = ws.path().compiled
    assert compiled.warm() > 3
    base, search = compiled.base, compiled.pipeline("search", {})
    arm, both = compiled.pipeline("", {"taste": "b"}), compiled.pipeline("search", {"taste": "b", "wide": "c"})
    assert [p.sources["source.transitions"].config.window for p in (base, search, both)] == [3, 9, 9]
    assert search.sources["source.transitions"] is not base.sources["source.transitions"]
    assert [fitted_dim(p.sources["source.als"]) for p in (base, search, arm, both)] == [8, 8, 4, 4]
    assert arm.ranker is not base.ranker
    assert arm.calibration is not base.calibration
    assert search.ranker is base.ranker
    assert "source.ease" in both.sources
    for surface in ("default", "search"):
        answer = ws.path().prepare(Wish(user_id="u1", surface=surface)).answer
        assert answer.record.degraded == []
        assert answer.record.keys


def test_a_changed_fit_key_of_an_arm_needs_training(shop):
    ws = overlaid(shop)
    ws.train(max_requests=5)
    ws.publish(force=True)
    text = (ws.folder / "feedwell.toml").read_text()
    (ws.folder / "feedwell.toml").write_text(text.replace('window" = 9', 'window" = 10'))
    with pytest.raises(UsageError, match=r"source.transitions, as a surface or an arm sets it, has no artifact"):
        workspace.open(ws.folder, clock=ws.clock).publish_config()


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            OVERLAID.replace('"source.ease.k" = 10', '"ranker.max_depth" = 2'),
            r"experiment.wide.arms.c: sets `fit` keys of ranker, and so does experiment.taste.arms.b",
        ),
        (
            OVERLAID.replace('"source.ease.k" = 10', '"source.transitions.k" = 2, "source.transitions.neighbours" = 7'),
            r"experiment.wide.arms.c: sets `fit` keys of source.transitions, and so does surface.search",
        ),
        ('[surface.search]\nobjective.buy.within = "2h"\n', r"surface.search.objective.buy: sets within: labels are"),
    ],
)
def test_fit_keys_that_would_meet_and_other_labels_are_refused(shop, sections, told):
    with pytest.raises(ProjectError, match=told):
        overlaid(shop, sections)

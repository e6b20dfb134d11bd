"""A training run end to end on a small shop: what it finds, what it writes, what it refuses."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from feedwell.core.errors import CheckFailed, DataError
from feedwell.data.interactions import user_events
from feedwell.data.log_view import LogView
from feedwell.data.split import spans
from feedwell.pipeline.path import Wish
from feedwell.training import measure as measure_module
from feedwell.training import training_rows
from feedwell.training.parts import Parts
from feedwell.training.walk import AS_OF, FITTED, PIPELINE
from tests.training.conftest import shop_events

DEAD = '[feature.dead]\nentity = "item"\naggregate = "count"\nevents = ["buy"]\nwhere = "value >= 99"\n'


def test_a_light_ranker_is_trained_on_the_same_rows_and_released(shop):
    ws = shop(("[ranker]", '[light]\nkind = "logistic"\nkeep = 8\n\n[ranker]'))
    report = ws.train()
    release = ws.releases.verify(report.release_id)
    assert set(release.artifacts) == {"source.als", "light", "ranker", "calibration"}
    assert release.artifacts["light"].startswith("light/logistic/")
    assert report.cost["fit light"]["cpu_s"] > 0
    ws.publish(force=True)
    answer = ws.path().prepare(Wish(user_id="u1")).answer
    assert answer.record.counts["cut.light"] > 0
    assert len(answer.scored) == 8 < len(answer.offered)
    assert answer.record.degraded == []


def test_rows_are_the_same_whether_requests_or_the_batch_plan_read_their_features(shop, monkeypatch):
    """Requests that only retrieve fold and read less; which rows there are and what they say stays."""
    inputs = shop().training_inputs(None)
    view = inputs.view()
    events, cut = user_events(view, inputs.project), spans(view, inputs.project.split)
    batch = measure_module.measure(inputs, events, cut, max_requests=3).train.ranking
    monkeypatch.setattr(Parts, "retrieving", Parts.pipeline)
    online = measure_module.measure(inputs, events, cut, max_requests=3).train.ranking
    assert len(batch) > 500
    assert (batch.item_N == online.item_N).all()
    assert (batch.t_N == online.t_N).all()
    np.testing.assert_array_equal(batch.features_NF, online.features_NF)


def test_from_events_to_a_published_release(shop):
    ws = shop()
    report = ws.train()
    assert ws.releases.channel("candidate") == report.release_id
    assert ws.releases.channel("champion") is None
    release = ws.releases.verify(report.release_id)
    assert set(release.artifacts) == {"source.als", "ranker", "calibration"}
    assert release.watermark == ws.log.high_water()[1]
    assert json.loads(json.dumps(report.to_dict()))["release_id"] == report.release_id

    evaluation = report.evaluation
    assert {r.name for r in evaluation.rows} == {
        PIPELINE,
        "pipeline, exploring",
        "source.popular",
        "source.als",
        AS_OF,
        FITTED,
    }
    assert evaluation.n_counted > 20
    assert evaluation.row(PIPELINE).metrics["ndcg@5"].value > 0
    assert all(0 <= i.value <= 1 for r in evaluation.rows for i in r.metrics.values())
    assert {h.name for h in evaluation.heads} == {"xgboost", "logistic", "popularity", "constant"}
    assert {h.over for h in evaluation.heads} == {"exposures", "candidates"}
    assert next(s.slice for s in evaluation.slices).startswith(("cold", "warm"))
    assert {r.feature for r in report.coverage} >= {"item_views_7d", "retrieval.source.als"}
    assert all(r.gap == 0 for r in report.coverage if r.declared)
    assert report.cost["fit ranker"]["cpu_s"] > 0
    assert report.cost["fit calibration"]["cpu_s"] > 0
    _, exposures = ([c for c in evaluation.calibration if c.over == over] for over in ("candidates", "exposures"))
    assert [(c.objective, c.kind, c.method) for c in exposures] == [("buy", "binary", "beta")]
    assert exposures[0].outcomes > 10
    served = next(h for h in evaluation.heads if h.name == "xgboost" and h.over == "exposures")
    assert served.ece == exposures[0].after.ece
    assert served.log_loss.value == pytest.approx(exposures[0].after.log_loss.value)
    change = exposures[0].after.log_loss.value - exposures[0].before.log_loss.value
    assert exposures[0].log_loss_difference.value == pytest.approx(change)
    assert sum(report.n_exposures.values()) == sum(report.labels["buy"].values())

    first, *between, last = evaluation.funnel
    assert (first.step, last.step) == ("retrieved", "shown")
    assert "scored" in {row.step for row in between}
    between = [row for row in between if row.step != "scored"]
    assert first.candidates == pytest.approx(sum(row.candidates for row in between) + last.candidates)
    assert first.wanted == pytest.approx(sum(row.wanted for row in between) + last.wanted)
    assert {s.name for s in evaluation.sources} == {"all sources together", "source.popular", "source.als"}
    assert {row.name for row in evaluation.lorenz} == {r.name for r in evaluation.rows} | {"what users wanted"}
    (curve,) = evaluation.curves
    assert (curve.part, curve.head) == ("ranker", "buy")
    assert len(curve.train) == len(curve.valid) > curve.best >= 0
    assert curve.valid[curve.best] == min(curve.valid)
    page = ElementTree.parse(ws.report_path(report.release_id))
    assert {f.get("id") for f in page.iter("figure")} >= {"gains", "funnel", "reliability", "curves", "cost"}

    published = ws.publish(force=True)  # 40 people: popularity is not beaten for sure
    assert ws.releases.channel("champion") == published == report.release_id
    assert ws.path().compiled.release_id == published


def test_exposure_by_group_and_what_slices_are_shown(shop, tmp_path):
    items = "".join(f"i{n},{'abcd'[n % 4]}\n" for n in range(40))
    (tmp_path / "items.csv").write_text("item_id,taste\n" + items)
    entity = (
        '[entity.item]\npath = "items.csv"\ngroup = "taste"\n[entity.item.columns]\ntaste = "string"\n\n[event.view]'
    )
    report = shop(("[event.view]", entity), ('[ranker]\nkind = "xgboost"\nn_trees = 20\nthreads = 1\n', "")).evaluate()
    assert {g.group for g in report.groups} == set("abcd")
    assert sum(g.exposure for g in report.groups) == pytest.approx(1)
    assert sum(g.relevant for g in report.groups) == pytest.approx(1)
    row = report.row(PIPELINE)
    gap = sum(abs(g.exposure - g.relevant) for g in report.groups) / 2
    assert row.group_distance == pytest.approx(gap)
    assert 0 <= row.group_gini < 0.75
    whole = next(s for s in report.slices if s.slice == "warm" and s.name == PIPELINE)
    assert 0 < whole.coverage <= row.coverage
    assert 0 <= whole.gini < 1
    assert 0 < whole.diversity <= 1
    assert not whole.pipeline_minus
    for other in (s for s in report.slices if s.slice == "warm" and s.name != PIPELINE):
        for metric, found in other.pipeline_minus.items():
            assert found.value == pytest.approx(whole.metrics[metric].value - other.metrics[metric].value, nan_ok=True)
        assert other.pipeline_minus.keys() == {f"{name}@5" for name in ("recall", "ndcg", "mrr", "hit_rate")}


def test_two_runs_over_the_same_log_give_the_same_artifacts(shop):
    ws = shop()
    first = ws.train(max_requests=5)
    ws.clock.advance(1)
    second = ws.train(max_requests=5)
    one, other = (ws.releases.read(r.release_id) for r in (first, second))
    assert one.artifacts["source.als"] == other.artifacts["source.als"]


def test_without_a_ranker_sources_alone_make_a_release(shop):
    ws = shop(('[ranker]\nkind = "xgboost"\nn_trees = 20\nthreads = 1\n', ""))
    report = ws.train()
    assert set(ws.releases.read(report.release_id).artifacts) == {"source.als"}
    assert report.evaluation.heads == ()
    assert report.evaluation.row(PIPELINE).metrics["recall@5"].value > 0


def test_counts_and_amounts_are_judged_beside_simpler_models(shop):
    more = """[objective.views]
events = ["view"]
kind = "count"
within = "1h"

[objective.spent]
events = ["buy"]
kind = "amount"
within = "1h"

[feature.item_views]"""
    rows = [r | ({"value": 5.0 if r["item"] == "i1" else 1.0} if r["type"] == "buy" else {}) for r in shop_events()]
    report = shop(("[feature.item_views]", more), events=rows).train(max_requests=20)
    found = report.evaluation.quantities
    assert {(q.objective, q.kind) for q in found} == {("views", "count"), ("spent", "amount")}
    assert {q.name for q in found} == {"xgboost", "linear", "item mean", "constant"}
    assert {q.over for q in found} == {"exposures", "candidates"}
    assert all(q.rmse.low <= q.rmse.value <= q.rmse.high for q in found)
    assert all((q.kind == "count") == (q.poisson_deviance.value >= 0) for q in found)
    views = next(q for q in found if q.objective == "views" and q.over == "exposures")
    assert views.mean >= 1  # every exposure here is a view
    assert {h.objective for h in report.evaluation.heads} == {"buy"}
    assert '"quantities"' in json.dumps(report.evaluation.to_dict())


def test_split_by_user_says_what_it_is_not(shop):
    ws = shop(("[train]", '[split]\nby = "user"\n\n[train]'))
    assert "not causal" in ws.train(max_requests=10).evaluation.note


def test_a_feature_that_says_nothing_stops_the_run(shop):
    ws = shop(("[source.popular]", DEAD + "\n[source.popular]"))
    with pytest.raises(CheckFailed, match="dead"):
        ws.train(max_requests=5)
    assert ws.releases.channel("candidate") is None


DEAD_LIST = '[feature.hidden]\nentity = "user"\naggregate = "last_n"\nevents = ["hide"]\nn = 5\n\n[event.hide]\n'


@pytest.mark.parametrize("dead", [DEAD, DEAD_LIST])
@pytest.mark.parametrize("ranked", [True, False])
def test_a_feature_that_says_nothing_stops_the_run_whatever_reads_it(shop, dead, ranked):
    without = [] if ranked else [('[ranker]\nkind = "xgboost"\nn_trees = 20\nthreads = 1\n', "")]
    ws = shop(("[source.popular]", dead + "\n[source.popular]"), *without)
    with pytest.raises(CheckFailed, match=r"dead|hidden"):
        ws.train(max_requests=5)


def test_lists_and_features_without_a_ranker_are_in_the_report(shop):
    seen = '[feature.seen_views]\nentity = "user"\naggregate = "last_n"\nevents = ["view"]\nn = 5\n\n[source.popular]'
    without = ('[ranker]\nkind = "xgboost"\nn_trees = 20\nthreads = 1\n', "")
    report = shop(("[source.popular]", seen), without).train(max_requests=5)
    found = {row.feature: row for row in report.coverage}
    assert {"seen_views", "item_views_7d", "item_buys", "pair_views"} <= set(found)
    assert found["seen_views"].train_non_null == found["seen_views"].train_non_zero == 1
    assert 0 < found["pair_views"].train_non_zero < found["item_views_7d"].train_non_zero


def test_a_sparse_feature_may_be_allowed(shop):
    allowed = DEAD + "allow_sparse = true\n"
    assert shop(("[source.popular]", allowed + "\n[source.popular]")).train(max_requests=5).release_id


def test_a_planted_leak_stops_the_run(shop, monkeypatch):
    """The leak: an item's buys counted without regard to t, which is what a plain join would do."""
    honest = training_rows.batch_reading

    def leaking(features):
        read = honest(features)

        def with_leak(view: LogView, frame):
            found = dict(read(view, frame))
            with view.connect(rows=frame) as connection:
                counted = connection.execute(
                    "SELECT (SELECT count(*) FROM log e WHERE e.item = r.item AND e.type = 'buy') AS n FROM rows r"
                ).to_arrow_table()
            return found | {"item_buys": counted["n"].to_numpy().astype(float)}

        return with_leak

    monkeypatch.setattr(training_rows, "batch_reading", leaking)
    ws = shop()
    with pytest.raises(CheckFailed, match="item_buys changed in"):
        ws.train(max_requests=5)
    assert ws.releases.channel("candidate") is None


def test_a_log_without_events_gives_a_release_of_what_needs_no_training(shop):
    ws = shop(
        ('[ranker]\nkind = "xgboost"\nn_trees = 20\nthreads = 1\n', ""),
        ("[source.als]\nk = 20\nembedding_dim = 8\nepochs = 3\n", ""),
        events=[],
    )
    report = ws.train()
    assert report.release_id
    assert report.evaluation.n_requests == 0


def test_a_ranker_without_any_event_says_to_load_some(shop):
    with pytest.raises(DataError, match="no event of a user; load some with `feedwell ingest`"):
        shop(events=[]).train()


def test_no_more_requests_are_judged_than_the_project_and_the_caller_allow(shop):
    ws = shop(
        ("[evaluate]", "[evaluate]\nmax_requests = 12"), ('[ranker]\nkind = "xgboost"\nn_trees = 20\nthreads = 1\n', "")
    )
    assert [ws.evaluate(max_requests=n).n_requests for n in (None, 5, 50)] == [12, 5, 12]

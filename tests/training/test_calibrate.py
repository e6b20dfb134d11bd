"""Calibration in a training run and on the request path: fit, then stop, then calibrate, each on its own rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feedwell.core.project import Project
from feedwell.core.protocols import PartConfig, RankingRows, fit
from feedwell.core.registry import scorer
from feedwell.pipeline.explain import lines_of
from feedwell.training.calibrate import calibration_rows, carve_valid, fit_in_order
from feedwell.training.inputs import Fitting
from feedwell.training.parts import Parts
from feedwell.training.rows import Rows
from tests.training.conftest import shop_events


@scorer("test_boastful")
class Boastful:
    """Predicts feature f0, which the rows below make three times too large, and keeps what it was fitted on."""

    class Config(PartConfig):
        seed: int = fit(0)

    needs = ()

    progress = None
    work = None

    def __init__(self, config, setting):
        self.config = config
        self.rows = None

    def __call__(self, request, candidates):
        raise NotImplementedError

    def predict(self, rows):
        return {"buy": rows.features_NF[:, 0].astype(np.float64)}

    def fit(self, rows):
        self.rows = rows

    def save(self, folder):
        (folder / "nothing.json").write_text("{}")

    def load(self, folder):
        self.rows = None


PROJECT = Project.model_validate(
    {
        "project": {"name": "p"},
        "objective": {"buy": {"events": ["buy"]}},
        "source": {"popular": {}},
        "ranker": {"kind": "test_boastful"},
    }
)
PARTS = Parts(project=PROJECT, features=None, fitted={}, cost={})


def rows_of(n=4000, seed=0):
    """400 requests of 10 rows each, a second apart; a third of what f0 says comes true."""
    rng = np.random.default_rng(seed)
    f0_N = rng.uniform(0.05, 0.95, n).astype(np.float32)
    keys_N = np.arange(n)
    ranking = RankingRows(
        features_NF=np.stack([f0_N, np.full(n, 1, np.float32)], axis=1),
        feature_names=("f0", "retrieval.source.popular"),
        labels={"buy": (rng.random(n) < f0_N / 3).astype(float)},
        group_N=np.arange(n) // 10,
        weight_N=np.ones(n),
        valid_N=np.zeros(n, np.bool_),
        user_N=keys_N // 40,
        item_N=keys_N,
        t_N=keys_N // 10,
    )
    return Rows(ranking=ranking, exposed_N=keys_N % 2 == 0)


def test_whoever_fits_for_long_may_tell_how_far_it_is_and_has_a_folder_to_go_on_from(tmp_path):
    told = []
    parts = replace(PARTS, fitting=Fitting(progress=told.append, work=tmp_path))
    fitted = fit_in_order(parts, rows_of(200), np.arange(200) >= 160).fitted["ranker"]
    assert fitted.progress == told.append
    assert fitted.work == tmp_path / "ranker"
    assert fit_in_order(PARTS, rows_of(200), np.arange(200) >= 160).fitted["ranker"].work is None


def test_each_step_has_its_own_stretch_in_the_order_of_time():
    rows = rows_of()
    parts = fit_in_order(PARTS, rows, rows.t_N >= 320)
    fitted = parts.fitted["ranker"].rows
    assert len(fitted.group_N) == 3200
    assert fitted.group_N[fitted.valid_N].min() == 256
    assert fitted.group_N[~fitted.valid_N].max() == 255
    assert parts.fitted["calibration"].methods == {"buy": "beta"}
    assert set(parts.cost) == {"ranker", "calibration"}


@pytest.mark.parametrize("marked", [False, True])
def test_where_a_stretch_is_empty_the_last_fifth_calibrates(marked):
    rows = rows_of()
    parts = fit_in_order(PARTS, rows, np.full(len(rows), marked))
    assert len(parts.fitted["ranker"].rows.group_N) == 3200


def test_the_report_shows_what_calibration_mended():
    rows, test = rows_of(), rows_of(seed=1)
    parts = fit_in_order(PARTS, rows, rows.t_N >= 100)
    (candidates, exposures) = calibration_rows(parts, test)
    assert (candidates.over, candidates.n, exposures.over, exposures.n) == ("candidates", 4000, "exposures", 2000)
    assert candidates.outcomes == int(test.ranking.labels["buy"].sum())
    assert candidates.before.ece > 0.3 > 0.03 > candidates.after.ece
    assert candidates.log_loss_difference.high < 0
    assert candidates.log_loss_difference.value == pytest.approx(
        candidates.after.log_loss.value - candidates.before.log_loss.value
    )
    for side in (candidates.before, candidates.after):
        assert np.dot(side.weight, side.happened) == pytest.approx(candidates.outcomes)
        assert list(side.predicted) == sorted(side.predicted)


def test_carving_takes_whole_requests_from_the_end():
    rows = rows_of()
    assert carve_valid(rows.ranking, rows.t_N, 0.1).nonzero()[0].tolist() == list(range(3600, 4000))
    few = rows.take(rows.t_N < 4)
    assert not carve_valid(few.ranking, few.t_N).any()


def test_served_values_are_made_of_calibrated_predictions_and_explain_shows_both(shop):
    ws = shop()
    ws.train(max_requests=5)
    ws.publish(force=True)
    answer = ws.recommend("u1")
    record = answer.record
    raw, told = record.predictions["uncalibrated.buy"], record.predictions["buy"]
    assert raw != told
    assert np.argsort(raw, kind="stable").tolist() == np.argsort(told, kind="stable").tolist()
    assert record.predictions["value"] == told
    calibration = ws.path().compiled.base.calibration
    assert calibration.calibrated({"buy": np.array(raw)})["buy"].tolist() == told
    slot = ws.explain(answer.request_id)["slots"][0]
    assert (slot["predictions"]["buy"]["prediction"], slot["predictions"]["buy"]["uncalibrated"]) == (told[0], raw[0])
    assert any(line.strip().startswith("before calibration: buy ") for line in lines_of(ws.explain(answer.request_id)))
    assert "p_uncalibrated.buy" not in answer.table.column_names

    ws.folder.joinpath("feedwell.toml").write_text(ws.project_text + "\n[calibration]\nenabled = false\n")
    ws.close()
    with type(ws)(ws.folder, *_read(ws.folder), ws.clock) as again:
        again.publish_config()
        assert "uncalibrated.buy" not in again.recommend("u1").record.predictions


def _read(folder):
    from feedwell.pipeline.project_folder import load_project, read_text

    return load_project(folder), read_text(folder)


def test_a_span_without_outcomes_leaves_predictions_alone_and_the_report_says_so(shop):
    rows = shop_events()
    last = max(r["ts"] for r in rows) - 2.4 * 86_400e6
    report = shop(events=[r for r in rows if r["type"] == "view" or r["ts"] < last]).train(max_requests=5)
    assert any("calibration of 'buy': nothing happened" in warning for warning in report.warnings)
    assert {c.method for c in report.evaluation.calibration} == {"none"}
    assert all(c.before == c.after for c in report.evaluation.calibration)

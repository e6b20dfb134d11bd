"""The check finds features that change once the future is deleted, and leaves honest ones alone."""

from __future__ import annotations

import numpy as np
import pytest

from feedwell.core.protocols import RankingRows
from feedwell.training.leakage import batch_reading, future_leaks, suspicious
from feedwell.training.rows import Rows

COUNT = "SELECT (SELECT count(*) FROM log e WHERE e.item = r.item AND e.available_at {op} r.t) AS n FROM rows r"


def counting(op):
    def read(view, frame):
        with view.connect(rows=frame) as connection:
            return {"n": connection.execute(COUNT.format(op=op)).to_arrow_table()["n"].to_numpy().astype(float)}

    return read


@pytest.fixture
def frame(shop):
    ws = shop()
    view = ws.training_inputs(None).view()
    with view.connect() as connection:
        rows = connection.execute(
            "SELECT \"user\", item, available_at AS t FROM log WHERE type = 'view' AND available_at > 0"
        ).to_arrow_table()
    return ws, view, rows


def test_one_equals_sign_too_many_is_caught(frame):
    _, view, rows = frame
    assert not future_leaks(view, rows, counting("<"), times=20)
    found = future_leaks(view, rows, counting("<="), times=20)
    assert [leak.feature for leak in found] == ["n"]
    assert "20 of 20 rows" in found[0].why or "rows when" in found[0].why


def test_declared_features_do_not_know_the_future(frame):
    ws, view, rows = frame
    assert future_leaks(view, rows, batch_reading(ws.features.set), times=4) == ()


def test_nothing_to_read_is_no_leak(frame):
    _, view, rows = frame
    assert future_leaks(view, rows.slice(0, 0), counting("<=")) == ()


def rows_with(column, y):
    n = len(y)
    return Rows(
        ranking=RankingRows(
            features_NF=np.stack([column, np.zeros(n)], axis=1).astype(np.float32),
            feature_names=("x", "zero"),
            labels={"buy": y},
            group_N=np.arange(n),
            weight_N=np.ones(n),
            valid_N=np.zeros(n, bool),
            user_N=np.arange(n),
            item_N=np.arange(n),
            t_N=np.arange(n),
        ),
        exposed_N=np.ones(n, bool),
    )


def test_a_feature_made_from_the_label_is_suspicious():
    y = (np.arange(200) % 3 == 0).astype(float)
    assert [leak.feature for leak in suspicious(rows_with(y, y))] == ["x"]
    assert [leak.feature for leak in suspicious(rows_with(-y, y))] == ["x"]
    assert suspicious(rows_with(np.random.default_rng(0).random(200), y)) == ()

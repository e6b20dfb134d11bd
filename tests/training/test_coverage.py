"""Served slots are read back, compared with the batch plan, and decide what "at serve" means."""

from __future__ import annotations

import numpy as np

from feedwell.training.coverage import served_slots
from feedwell.training.rows import Names


def names_of(ws):
    return Names(tuple(c.name for c in ws.features.set.columns), ("source.popular", "source.als"))


def test_nothing_served_nothing_compared(shop):
    ws = shop()
    assert served_slots(ws.training_inputs(), ws.features.set, names_of(ws)) is None


def test_what_was_recorded_equals_the_batch_plan_and_a_changed_value_shows(shop, monkeypatch):
    ws = shop()
    ws.train(max_requests=5)
    ws.publish(force=True)  # five requests are too few for the gates
    for user in ("u1", "u2", "nobody"):
        ws.recommend(user)
    assert len(ws.rank("u1", ["i1", "i2", "i3"], shown=False).item_ids) > 0  # no slot: nobody saw it
    inputs, features, names = ws.training_inputs(), ws.features.set, names_of(ws)
    found = served_slots(inputs, features, names)
    assert len(found.recorded_NF) == 15
    assert found.gap["item_views_7d"] == found.gap["item_buys"] == found.gap["pair_views"] == 0
    assert not np.isnan(found.recorded_NF[:, names.all.index("item_views_7d")]).any()
    report = ws.train(max_requests=5)
    row = next(r for r in report.coverage if r.feature == "item_views_7d")
    assert row.serving_gap == 0
    assert row.serve_non_null == 1
    retrieval = next(r for r in report.coverage if r.feature == "retrieval.source.popular")
    assert retrieval.train_non_zero > 0
    assert np.isnan(retrieval.serve_non_null)  # records hold no retrieval scores: unknown, not never there
    assert report.served == {"slots": 15, "held": 0, "seen": 0}
    assert any("none of 15 served slots was seen" in warning for warning in report.warnings)

    whole = inputs.slots

    def shifted(self):
        # As if serving had read each item's neighbour: what recorded features are compared for.
        table = whole()
        item = table["item"].to_numpy()
        return table.set_column(table.column_names.index("item"), "item", [np.roll(item, 1)])

    monkeypatch.setattr(type(inputs), "slots", shifted)
    assert served_slots(inputs, features, names).gap["item_buys"] > 0.2

"""After `forget` every reading agrees: as-of features, training's view, and the online state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from feedwell.features import asof
from feedwell.workspace import Workspace


def test_every_reading_leaves_a_forgotten_user_out(shop: Callable[..., Workspace]):
    with shop() as made:
        served = made.recommend("u2")
        buys = served.record.feature_names.index("item_buys")
        before = {key: row[buys] for key, row in zip(served.record.keys, served.record.features, strict=True)}
        made.forget("u1")
        record = made.recommend("u2").record
        assert record.epoch > served.record.epoch
        frame = pa.table({"user": [record.user] * len(record.keys), "item": list(record.keys)})
        frame = frame.append_column("t", pa.array([record.t] * len(record.keys)))
        view = made.training_inputs().view()
        names = [name for name in record.feature_names if name in made.features.columns]
        assert "item_buys" in names
        for name in names:
            online = [row[record.feature_names.index(name)] for row in record.features]
            np.testing.assert_array_equal(online, made.features.asof(frame)[name].to_numpy())
            np.testing.assert_array_equal(
                online, asof(made.features.set, view.segments, frame, engine=view)[name].to_numpy()
            )
        after = {key: row[buys] for key, row in zip(record.keys, record.features, strict=True)}
        assert any(after[key] < before[key] for key in after.keys() & before.keys())

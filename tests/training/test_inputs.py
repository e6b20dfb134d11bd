"""What training reads of the records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa

from feedwell.training.inputs import Inputs


def test_a_slate_of_a_user_new_at_serving_has_the_key_they_got_later() -> None:
    table = pa.table({"user": [-1, 4, -1, -1], "user_id": ["new", "old", "never", "new"], "item": [1, 2, 3, 4]})
    lookup = lambda _entity, ids: np.array([{"new": 7}.get(i, -1) for i in ids], np.int64)  # noqa: E731
    log = SimpleNamespace(ids=SimpleNamespace(lookup=lookup))
    records = SimpleNamespace(scan=lambda: table)
    parts = cast(Any, {"project": None, "project_text": "", "log": log, "releases": None, "clock": None})
    slots = Inputs(**parts, records=cast(Any, records)).slots()
    assert slots is not None
    assert slots["user"].to_pylist() == [7, 4, -1, 7]

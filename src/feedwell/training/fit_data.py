"""What parts fit on beside ranking rows: the events of earlier spans, and what the declared parts ask for.

Items' catalog rows as of then, and what a request would have read of the user as of each event: never anything later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from feedwell.core.candidates import Float
from feedwell.core.catalog import CatalogAsOf, follows
from feedwell.core.columns import USER, T
from feedwell.core.needs import ColumnNeed, FeatureNeed
from feedwell.core.protocols import Interactions, learns
from feedwell.data.catalog import catalog_asof
from feedwell.data.interactions import UserEvents
from feedwell.data.split import Spans
from feedwell.features import asof
from feedwell.pipeline.compile import compile_features, make_part, part_names
from feedwell.pipeline.overlays import parts_of_all
from feedwell.training.inputs import Inputs
from feedwell.training.parts import RANKERS

_ALL = 4


def fit_data(inputs: Inputs, events: UserEvents, cut: Spans, span: int) -> Interactions:
    """The events of the spans before that number (4: all of them), with the catalog and the users as of then."""
    data = events.before(cut, span)
    names = [name for name in part_names(inputs.project) if name.startswith("source.")]
    parts = [part for part in (make_part(inputs.project, name) for name in names) if learns(part)]
    if any(follows(part) for part in parts):
        items = _items(inputs, None if span == _ALL else data.until)
        data = replace(data, catalog={"item": items.table}, catalog_offset=items.offset)
    return replace(data, user_columns=_user_columns(inputs, data, parts))


def ranked_items(inputs: Inputs, until: int | None = None) -> CatalogAsOf:
    """The items as of `until` (None: all that the log has), where a declared ranker reads what they say."""
    if not any(follows(part) for part in parts_of_all(inputs.project, RANKERS)):
        return CatalogAsOf()
    return _items(inputs, until)


def _items(inputs: Inputs, until: int | None) -> CatalogAsOf:
    inputs.progress("read the catalog", 0, None)
    # Asked before the rows are read: whatever comes in between is told twice rather than never.
    upto = inputs.log.segments_upto()
    table = catalog_asof(inputs.view(), inputs.project, "item", until)
    if until is None:
        return CatalogAsOf(table=table, until=int(table.at_M.max(initial=-1)) + 1, offset=upto)
    # Of an earlier time it is the time that says what was known, and a replay tells the rest in its order.
    return CatalogAsOf(table=table, until=until)


def _user_columns(inputs: Inputs, data: Interactions, parts: Sequence[Any]) -> Mapping[str, Float]:
    """What the parts read of the user, as of each event: what a request at that time would have read."""
    needs = [need for part in parts for need in part.needs]
    wanted = [n.column for n in needs if isinstance(n, FeatureNeed)]
    wanted += [f"user.{n.column}" for n in needs if isinstance(n, ColumnNeed) and n.entity == "user"]
    if not wanted or not len(data.user_E):
        return {name: np.empty(0) for name in wanted}
    features = compile_features(inputs.project)
    inputs.progress("read users as of each event", 0, None)
    view = inputs.view()
    frame = pa.table({USER: data.user_E, T: data.at_E})
    read = asof(features, view.segments, frame, columns=set(wanted), sequences=False, engine=view)
    return {name: read[name].to_numpy() for name in dict.fromkeys(wanted)}

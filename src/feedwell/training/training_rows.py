"""Training rows: the exposures of the log with their labels, and the rows that rankers learn from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core.columns import USER
from feedwell.core.errors import DataError
from feedwell.data.exposure import exposures
from feedwell.data.interactions import UserEvents
from feedwell.data.labels import CLOSES, UNTIL, labels
from feedwell.data.log_view import MOMENT
from feedwell.data.split import Spans
from feedwell.pipeline.ask import Ask, Reader
from feedwell.pipeline.compile import Pipeline
from feedwell.pipeline.replay import live_of, replay_requests
from feedwell.training.inputs import Inputs
from feedwell.training.leakage import batch_reading, future_leaks, require_no_leaks
from feedwell.training.parts import Parts
from feedwell.training.rows import Names, RowBuilder, Rows, read_as_of_moments
from feedwell.training.walk import Moments, asks_of

LEARNED_SPANS = (1, 2)
"""The ranker's and the calibration span."""


def labelled_exposures(inputs: Inputs, events: UserEvents, cut: Spans) -> pa.Table:
    """Exposures of the whole log with labels that do not look beyond the span that each is in."""
    project, view = inputs.project, inputs.view()
    shown = exposures(view, project, slots=inputs.slots())
    user_X, t_X = shown[USER].to_numpy(), shown[MOMENT].to_numpy()
    shown = shown.append_column(UNTIL, pa.array(cut.span_end(user_X, t_X)))
    return labels(view, project, shown.append_column(CLOSES, pa.array(cut.closes(user_X, t_X))))


def training_rows(
    inputs: Inputs,
    first: Parts,
    events: UserEvents,
    cut: Spans,
    shown: pa.Table,
    span_X: NDArray[np.int8],
    *,
    builder: type[RowBuilder] = RowBuilder,
) -> Rows:
    """Rows of the ranker's and the calibration span; `first` are the sources as fitted on the span before them."""
    project = inputs.project
    pipeline = first.retrieving()
    moments = _exposure_moments(shown, span_X, project.train.max_requests)
    kept = shown.filter(pa.array(exposures_of(shown, np.isin(span_X, LEARNED_SPANS), moments)))
    if not len(events.user_E):
        raise DataError(
            "training the ranker: the log has no event of a user; load some with `feedwell ingest`, or remove [ranker]"
        )
    if not kept.num_rows:
        raise DataError(
            f"training the ranker: no exposure lies in the ranker's span of {len(events.user_E)} events; take more "
            "data, declare `[data] exposure`, or remove [ranker]"
        )
    rows = builder(inputs, first.features, events, kept, Names.of(first.features, pipeline.sources))
    _visit(inputs, pipeline, cut, moments, rows)
    return rows.build()


def _visit(inputs: Inputs, pipeline: Pipeline, cut: Spans, moments: Moments, builder: RowBuilder) -> None:
    ends = moments.ends(cut)
    asks = asks_of(inputs, moments, n=None, salt="train")

    def visit(ask: Ask, reader: Reader) -> None:
        builder.add(ask.user, ask.t, pipeline.retrieve(ask, reader), *ends[ask.user, ask.t])

    visits = replay_requests(pipeline.features, inputs.batches(), asks, visit, live=live_of(pipeline))
    for done, _ in enumerate(visits):
        if done % 200 == 0:
            inputs.progress("retrieve by replay", done, len(asks))


def _exposure_moments(shown: pa.Table, span_X: NDArray[np.int8], most: int) -> Moments:
    """One request per situation with exposures in the ranker's spans, at most `most`, evenly by place in time."""
    inside = np.isin(span_X, LEARNED_SPANS)
    pairs = np.unique(np.stack([shown[MOMENT].to_numpy()[inside], shown[USER].to_numpy()[inside]], axis=1), axis=0)
    if len(pairs) > most:
        pairs = pairs[np.linspace(0, len(pairs) - 1, most).astype(np.int64)]
    return Moments(user_R=pairs[:, 1], t_R=pairs[:, 0])


def exposures_of(shown: pa.Table, inside_X: NDArray[np.bool_], moments: Moments) -> NDArray[np.bool_]:
    """Which of those inside are of the requests that will be visited."""
    wanted = set(zip(moments.user_R.tolist(), moments.t_R.tolist(), strict=True))
    pairs = zip(shown[USER].to_pylist(), shown[MOMENT].to_pylist(), strict=True)
    return inside_X & np.fromiter((pair in wanted for pair in pairs), np.bool_, shown.num_rows)


def require_causal(inputs: Inputs, parts: Parts, shown: pa.Table, span_X: NDArray[np.int8]) -> None:
    """Stops when a feature of the rows to be trained on changes once the future is deleted."""
    inside = np.flatnonzero(np.isin(span_X, LEARNED_SPANS))
    frame = read_as_of_moments(shown).take(pa.array(inside))
    if frame.num_rows:
        inputs.progress("look for leaks", 0, None)
        require_no_leaks(future_leaks(inputs.view(), frame, batch_reading(parts.features)))

"""The views of a shop as ranking rows, no source in between: rank each user's by what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.project import PartSection
from feedwell.data.interactions import user_events
from feedwell.data.split import spans
from feedwell.pipeline.compile import compile_features
from feedwell.training.calibrate import fit_in_order
from feedwell.training.parts import Parts
from feedwell.training.rows import Names, RowBuilder, Rows
from feedwell.training.training_rows import labelled_exposures
from feedwell.workspace import Workspace

CALIBRATION_SPAN, TEST_SPAN = 2, 3


@dataclass(frozen=True)
class Views:
    """One row per view, with the features and histories of a training row; `parts` has nothing fitted."""

    parts: Parts
    rows: Rows
    span_N: NDArray[np.int8]

    @staticmethod
    def of(workspace: Workspace, ranker: str = "mmoe") -> Views:
        """What that ranker reads is read; one that reads less may be fitted on the same rows."""
        inputs = workspace.training_inputs()
        project = inputs.project.model_copy(update={"source": {}, "filter": {}, "ranker": PartSection(kind=ranker)})
        inputs = replace(inputs, project=project)
        view = inputs.view()
        events, cut = user_events(view, project), spans(view, project.split)
        features = compile_features(project)
        shown = labelled_exposures(inputs, events, cut)
        rows = RowBuilder(inputs, features, events, shown, Names.of(features, ())).build()
        parts = Parts(project=project, features=features, fitted={}, cost={})
        return Views(parts, rows, cut.span(rows.user_N, rows.t_N))

    def span(self, number: int) -> Rows:
        return self.rows.take(self.span_N == number)

    def fitted(self, ranker: str, **config: Any) -> Parts:
        """As a `train` goes: the ranker on the first two spans, whose last fifth by time stops it, then its
        calibration on the third."""
        project = self.parts.project.model_copy(update={"ranker": PartSection(kind=ranker, **config)})
        before_N = self.span_N < TEST_SPAN
        parts = replace(self.parts, project=project)
        return fit_in_order(parts, self.rows.take(before_N), self.span_N[before_N] == CALIBRATION_SPAN)

"""What lists are measured by: the ranking family and every family that the project declares as `[metric.<name>]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from feedwell.core.candidates import Float
from feedwell.core.errors import UsageError
from feedwell.core.project import Project
from feedwell.features import asof
from feedwell.metrics import ListMetric, Lists, Ratios
from feedwell.metrics.ranking import NAMES, ranking_values
from feedwell.pipeline.compile import make_metrics
from feedwell.training.inputs import Inputs


@dataclass(frozen=True, kw_only=True)
class MetricSet:
    """Lists → Ratios of every name at once, so that all of them share one bootstrap. `columns`: see ListMetric."""

    k: int
    families: tuple[ListMetric, ...] = ()
    columns: Mapping[str, Float] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return (*NAMES, *(name for family in self.families for name in family.names))

    def ratios(self, lists: Lists, bootstrap: int) -> Ratios:
        """UsageError where a declared family answers with anything but a row per request and a column per name."""
        parts = [ranking_values(lists, self.k)]
        for family in self.families:
            value_RM = np.asarray(family.values(lists, self.columns), np.float64)
            if value_RM.shape != (len(lists), len(family.names)):
                raise UsageError(
                    f"the metric {type(family).__name__} gave values of shape {value_RM.shape} for {len(lists)} "
                    f"requests and the names {', '.join(family.names)}; expected {(len(lists), len(family.names))}"
                )
            parts.append(value_RM)
        return Ratios.of(self.names, lists.unit_R, np.hstack(parts), bootstrap=bootstrap)


def metric_set(inputs: Inputs, project: Project, t: int) -> MetricSet:
    """The project's; catalog columns as of t."""
    families, features = make_metrics(project)
    needs = dict.fromkeys(need for family in families for need in family.needs)
    n, segments = inputs.log.ids.size("item"), inputs.log.segment_paths()
    columns = {f"{need.entity}.{need.column}": np.full(n, np.nan) for need in needs}
    if needs and n and segments:
        frame = pa.table({"t": np.full(n, t, np.int64), "item": np.arange(n, dtype=np.int64)})
        read = asof(features, segments, frame, columns=list(columns), engine=inputs.view())
        columns = {name: read[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in columns}
    return MetricSet(k=project.evaluate.k, families=families, columns=columns)

"""Gates: may this release replace the champion? Too little data is a no.

A champion was fitted on all data up to its watermark, so on an older test span it would be judged on what it has
seen. Where its recipe differs, that recipe is therefore fitted and judged on the same spans as the new one; the same
recipe on more data needs no comparison.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from feedwell.core.artifact import CHAMPION
from feedwell.core.errors import FeedwellError
from feedwell.core.project import GatesSection
from feedwell.data.interactions import UserEvents
from feedwell.data.split import Spans
from feedwell.metrics import difference
from feedwell.pipeline.project_file import parse_project
from feedwell.training.inputs import Inputs
from feedwell.training.measure import Measured, measure
from feedwell.training.metric_set import MetricSet, metric_set
from feedwell.training.report import Gate
from feedwell.training.walk import PIPELINE, Walked


def check_gates(inputs: Inputs, events: UserEvents, cut: Spans, found: Measured) -> tuple[Gate, ...]:
    """The gates' answers; all must have passed for `publish` to move the champion without force."""
    champion = inputs.releases.channel(CHAMPION)
    gates = inputs.project.gates
    if champion is None:
        return (Gate(name="champion", passed=True, why="there is no champion yet, nothing to be worse than"),)
    n_users = found.evaluation.n_users
    enough = Gate(
        name="enough users",
        passed=n_users >= gates.min_users,
        why=f"{n_users} users have something relevant in the test span, {gates.min_users} are needed",
    )
    return (enough, _against(inputs, events, cut, found, champion))


def compare_walks(ours: Walked, theirs: Walked, gates: GatesSection, metrics: MetricSet, bootstrap: int) -> Gate:
    """Passes where the lower bound of the paired difference on the requests of both walks is at least -margin."""
    a, b = _common(ours, theirs)
    if a is None or b is None:
        return Gate(name="champion", passed=False, why="the two were not judged on the same requests")
    replicates, metric, margin = max(bootstrap, 200), gates.metric, gates.margin
    ratios = [metrics.ratios(walked.lists(PIPELINE), replicates) for walked in (a, b)]
    d = difference(ratios[0], ratios[1], metric)
    return Gate(
        name="champion",
        passed=bool(d.low >= -margin),
        why=f"{metric}@{ours.k} minus the champion's: {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}] over {d.n_units} "
        f"users, the lower bound must be at least {-margin:+.4f}",
    )


def _against(inputs: Inputs, events: UserEvents, cut: Spans, found: Measured, champion: str) -> Gate:
    release = inputs.releases.read(champion)
    if release.project_digest == inputs.project.digest:
        return Gate(name="champion", passed=True, why=f"the recipe of {champion} on newer data")
    try:
        project = parse_project(release.project_text)
        project = project.model_copy(update={"split": inputs.project.split, "evaluate": inputs.project.evaluate})
        theirs = measure(replace(inputs, project=project), events, cut, moments=found.moments)
    except FeedwellError as error:
        return Gate(name="champion", passed=False, why=f"the recipe of {champion} could not be judged: {error}")
    metrics = metric_set(inputs, inputs.project, cut.end)
    return compare_walks(found.walked, theirs.walked, inputs.project.gates, metrics, inputs.project.evaluate.bootstrap)


def _common(ours: Walked, theirs: Walked) -> tuple[Walked | None, Walked | None]:
    """Both restricted to what is relevant to both: a filter that one recipe has may rule out more."""
    if (ours.user_R, ours.t_R) != (theirs.user_R, theirs.t_R):
        return None, None
    both = [np.intersect1d(a, b) for a, b in zip(ours.relevant, theirs.relevant, strict=True)]
    return replace(ours, relevant=both), replace(theirs, relevant=both)

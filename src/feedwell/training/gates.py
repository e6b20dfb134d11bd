"""Gates: may this release replace the champion? Too little data is a no.

A champion was fitted on all data up to its watermark, so on an older test span it would be judged on what it has
seen. Where its recipe differs, that recipe is therefore fitted and judged on the same spans as the new one; the same
recipe on more data needs no comparison. A first release is judged against simple popularity. The release says against
whom it was judged, and `publish` asks again when another champion stands there by then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from feedwell.core.artifact import Release
from feedwell.core.errors import FeedwellError
from feedwell.core.project import GatesSection, Project
from feedwell.data.interactions import UserEvents, user_events
from feedwell.data.split import Spans
from feedwell.metrics import Interval, difference
from feedwell.pipeline.contained import Contained
from feedwell.pipeline.frozen import frozen_project
from feedwell.stores.releases import ReleaseStore
from feedwell.training.inputs import Inputs
from feedwell.training.measure import Measured, measure
from feedwell.training.metric_set import MetricSet, metric_set
from feedwell.training.parts import Fitted, Parts
from feedwell.training.report import Gate, ScoreShift
from feedwell.training.walk import AS_OF, FITTED, PIPELINE, Relevance, Walked

_log = logging.getLogger("feedwell.train")


@dataclass(frozen=True, kw_only=True)
class Refit:
    """Everything fitted once more on all data: objective → positives of its rows, and how its scores moved from those
    of the models that were judged. `overlaid`: artifact name → what surfaces and arms fit otherwise."""

    parts: Parts
    overlaid: Mapping[str, Fitted] = field(default_factory=dict)
    n_rows: int = 0
    positives: Mapping[str, int]
    shift: Mapping[str, ScoreShift]


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A champion whose release is not whole any more: training goes on, and only force replaces it."""

    release_id: str
    why: str


def champion_of(store: ReleaseStore, channel: str) -> Release | Unreadable | None:
    """Whom a release that is trained now would replace."""
    release_id = store.channel(channel)
    if release_id is None:
        return None
    try:
        return store.read(release_id)
    except FeedwellError as error:
        return Unreadable(release_id=release_id, why=str(error))


def check_gates(
    inputs: Inputs, events: UserEvents, cut: Spans, found: Measured, champion: Release | Unreadable | None
) -> tuple[Gate, ...]:
    """The gates' answers to the candidate that would replace that champion (None: there is none yet)."""
    if champion is None:
        return _first(inputs, events, cut, found)
    return (_enough(inputs.project, found), _against(inputs, events, cut, found, champion))


def refit_gates(project: Project, refit: Refit) -> tuple[Gate, ...]:
    """What is released was fitted again on all data, and no table judged that fit: its labels and scores must hold."""
    if not refit.positives:
        return ()
    without = [name for name, n in refit.positives.items() if not n]
    labels = Gate(
        name="refit labels",
        passed=not without,
        why=f"no positive of {', '.join(without)} among the {refit.n_rows:,} rows that the release was fitted on; take "
        "more data, or take the objective out"
        if without
        else ", ".join(f"{n:,} positives of {name}" for name, n in refit.positives.items()),
    )
    return (labels, _shift_gate(project.gates, refit))


def _shift_gate(gates: GatesSection, refit: Refit) -> Gate:
    """An objective whose scores could not be compared is a no, as is one whose scores moved."""
    shifts = {name: refit.shift.get(name) for name in refit.positives}
    missing = [name for name, shift in shifts.items() if shift is None or not shift.measured]
    compared = {name: shift for name, shift in shifts.items() if shift is not None and name not in missing}
    told = [f"{name} {s.rank_correlation:.2f}, {s.mean_ratio:.2f} ×" for name, s in compared.items()]
    why = (
        f"rank correlation and ratio of means with the scores that were judged: {'; '.join(told) or 'none'}; at least "
        f"{gates.min_rank_correlation:g} ([gates] min_rank_correlation) and at most {gates.max_mean_ratio:g} × "
        "([gates] max_mean_ratio) are asked for"
    )
    if missing:
        why += f"; no scores for the test span's candidates to compare: {', '.join(missing)}, and that is a no"
    holds = all(s.within(gates.min_rank_correlation, gates.max_mean_ratio) for s in compared.values())
    return Gate(name="refit scores", passed=not missing and holds, why=why)


def why_not(store: ReleaseStore, release: Release, champion: str | None) -> list[str]:
    """Why the release may not replace that champion: gates that said no, or that were asked about another champion."""
    refused = [f"{g['name']}: {g['why']}" for g in release.gates if not g["passed"]]
    if champion is None or champion == release.release_id:
        return refused
    if not release.gates:
        return ["it was never judged (a changed configuration over another release's artifacts)"]
    try:
        current = store.read(champion)
    except FeedwellError as error:
        return [*refused, f"the champion {champion} that it would replace cannot be read: {error}"]
    if release.watermark < current.watermark:
        refused.append(f"it was trained on older data than the champion {champion}: run `feedwell train`")
    if current.project_digest not in (release.judged_recipe, release.project_digest):
        judged = release.judged_against or "simple popularity, as the first release"
        refused.append(
            f"it was judged against {judged}, and would replace {champion}, which has another recipe: run "
            "`feedwell train` to judge it against that one"
        )
    return refused


def compare_walks(ours: Walked, theirs: Walked, gates: GatesSection, metrics: MetricSet, bootstrap: int) -> Gate:
    """Passes where the lower bound of the paired difference on the requests of both walks is at least -margin."""
    a, b = _common(ours, theirs)
    if a is None or b is None:
        return Gate(name="champion", passed=False, why="the two were not judged on the same requests")
    replicates, metric, margin = max(bootstrap, 200), gates.metric, gates.margin
    ratios = [metrics.ratios(walked.lists(PIPELINE), replicates) for walked in (a, b)]
    d = difference(ratios[0], ratios[1], metric)
    return _lower_bound("champion", f"{metric}@{ours.k} minus the champion's", d, margin)


def _first(inputs: Inputs, events: UserEvents, cut: Spans, found: Measured) -> tuple[Gate, ...]:
    if not len(events.user_E):
        return (Gate(name="first release", passed=True, why="there are no events yet: nothing in it was learned"),)
    if not found.parts.fitted:
        why = "none of its parts learns: it answers as the server does before a first release"
        return (Gate(name="first release", passed=True, why=why),)
    judged = [_beats(inputs, cut, found, baseline) for baseline in (AS_OF, FITTED)]
    return (_enough(inputs.project, found), *judged)


def _enough(project: Project, found: Measured) -> Gate:
    n_users, least = found.evaluation.n_users, project.gates.min_users
    return Gate(
        name="enough users",
        passed=n_users >= least,
        why=f"{n_users} users have something relevant in the test span, {least} are needed ([gates] min_users)",
    )


def _beats(inputs: Inputs, cut: Spans, found: Measured, baseline: str) -> Gate:
    """There is no champion to be worse than, so the simplest thing that needs no training stands in for it."""
    name, project, walked = f"first release, {baseline}", inputs.project, found.walked
    if not found.evaluation.n_users:
        return Gate(name=name, passed=False, why="nothing in the test span is relevant, so nothing can be compared")
    metrics, replicates = metric_set(inputs, project, cut.end), max(project.evaluate.bootstrap, 200)
    ours, theirs = (metrics.ratios(walked.lists(of), replicates) for of in (PIPELINE, baseline))
    gates, metric = project.gates, project.gates.metric
    what = f"{metric}@{walked.k} minus {baseline}"
    margin = max(gates.margin, gates.first_margin * theirs.value(metric))
    return _lower_bound(name, what, difference(ours, theirs, metric), margin)


def _against(inputs: Inputs, events: UserEvents, cut: Spans, found: Measured, champion: Release | Unreadable) -> Gate:
    told = champion.release_id
    if isinstance(champion, Unreadable):
        return Gate(name="champion", passed=False, why=f"{told} could not be read: {champion.why}")
    if champion.project_digest == inputs.project.digest:
        return Gate(name="champion", passed=True, why=f"the recipe of {told} on newer data")
    theirs: Measured | None = None
    errors: list[Exception] = []
    with Contained(errors.append):  # whatever an old recipe fails with must not cost the run: it is a no
        theirs = _measured_again(inputs, events, cut, found, champion)
    if theirs is None:
        return _not_judged(told, errors[0])
    metrics = metric_set(inputs, inputs.project, cut.end)
    return compare_walks(found.walked, theirs.walked, inputs.project.gates, metrics, inputs.project.evaluate.bootstrap)


def _not_judged(release_id: str, error: Exception) -> Gate:
    _log.error("judging the recipe of %s", release_id, exc_info=error)
    why = str(error) if isinstance(error, FeedwellError) else f"{type(error).__name__}: {error}"
    return Gate(name="champion", passed=False, why=f"the recipe of {release_id} could not be judged: {why}")


def _measured_again(inputs: Inputs, events: UserEvents, cut: Spans, found: Measured, champion: Release) -> Measured:
    """The champion's recipe fitted to the log as that recipe reads it (its outcomes, undos and exposures), and judged
    on the candidate's requests by what the candidate calls relevant."""
    project = frozen_project(inputs.releases, champion)
    # Its own objective: the candidate's may not exist there, and is not what its baselines and its report are about.
    evaluate = inputs.project.evaluate.model_copy(update={"relevant": project.evaluate.relevant})
    project = project.model_copy(update={"split": inputs.project.split, "evaluate": evaluate})
    theirs = replace(inputs, project=project)
    moments = replace(found.moments, relevance=Relevance.of(inputs.project, events))
    return measure(theirs, user_events(theirs.view(), project), cut, moments=moments)


def _lower_bound(name: str, what: str, d: Interval, margin: float) -> Gate:
    over = f" over {d.n_units} users" if d.n_units > 1 else ""
    return Gate(
        name=name,
        passed=bool(d.low >= -margin),
        why=f"{what}: {d.signed()}{over}; the lower bound must be at least {0 - margin:+.4f}",
    )


def _common(ours: Walked, theirs: Walked) -> tuple[Walked | None, Walked | None]:
    """Both restricted to what is relevant to both: a filter that one recipe has may rule out more."""
    if (ours.user_R, ours.t_R) != (theirs.user_R, theirs.t_R):
        return None, None
    both = [np.intersect1d(a, b) for a, b in zip(ours.relevant, theirs.relevant, strict=True)]
    return replace(ours, relevant=both), replace(theirs, relevant=both)

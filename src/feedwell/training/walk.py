"""Walk: the requests of the test span under replay, and what each way of making lists answers to them.

The pipeline's lists come from the SlateRecords of `pipeline.run`, state as of t; sources and baselines answer the same
requests, with what the declared filters rule out left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core.assignment import bucket
from feedwell.core.columns import USER
from feedwell.core.errors import UsageError
from feedwell.core.keys import contains, union
from feedwell.core.project import ObjectiveConfig, Project
from feedwell.core.request import NO_KEYS, Keys, Request
from feedwell.core.telemetry import Telemetry
from feedwell.data.exposure import ORIGIN
from feedwell.data.interactions import UserEvents
from feedwell.data.log_view import MOMENT
from feedwell.data.split import NEVER, Spans
from feedwell.metrics import Lists
from feedwell.pipeline.ask import Answer, Ask, Reader
from feedwell.pipeline.compile import Pipeline
from feedwell.pipeline.notes import Notes
from feedwell.pipeline.replay import live_of, replay_requests
from feedwell.pipeline.screen import ruled_out
from feedwell.training.funnel import Funnel
from feedwell.training.inputs import Inputs
from feedwell.training.rows import RowBuilder

PIPELINE = "pipeline"
EXPLORING = "pipeline, exploring"
AS_OF = "popularity as of then"
FITTED = "popularity fitted"


@dataclass(frozen=True, kw_only=True)
class Moments:
    """R requests of the log in order of t: one per situation."""

    user_R: Keys
    t_R: Keys
    relevance: Relevance | None = None
    """What is relevant to them; None: what the project that is judged says. Two recipes are compared by one."""

    def __len__(self) -> int:
        return len(self.user_R)

    def ends(self, spans: Spans) -> dict[tuple[int, int], tuple[int, int]]:
        """(user, t) → (until, closes): how far labels may look, and by when a window counts as closed."""
        until_R, closes_R = spans.span_end(self.user_R, self.t_R), spans.closes(self.user_R, self.t_R)
        keys = zip(self.user_R.tolist(), self.t_R.tolist(), strict=True)
        return dict(zip(keys, zip(until_R.tolist(), closes_R.tolist(), strict=True), strict=True))


def situations(events: UserEvents, shown: pa.Table) -> tuple[Keys, Keys]:
    """(user, t) of every situation in which a list could have been asked for, distinct.

    Every situation of the exposures is one. So is whatever else a user did, until they were served a slate: from then
    on acts answer to slates, and only what `exposures` says was shown elsewhere stands for itself.
    """
    user_R, t_R = events.moments()
    user_X, t_X = shown[USER].to_numpy(), shown[MOMENT].to_numpy()
    slate_X = np.asarray(shown[ORIGIN].to_pylist(), dtype=object) == "slate"
    own_R = t_R < _first_of(user_X[slate_X], t_X[slate_X], user_R)
    known_X = user_X >= 0
    pairs = [np.stack([user_R[own_R], t_R[own_R]], axis=1), np.stack([user_X[known_X], t_X[known_X]], axis=1)]
    found = np.unique(np.concatenate(pairs), axis=0)
    return found[:, 0], found[:, 1]


def moments_of(asked: tuple[Keys, Keys], spans: Spans, wanted: Sequence[int], most: int | None, salt: str) -> Moments:
    """Those (user, t) in the wanted spans; at most `most`, chosen by hash, so that every run takes the same."""
    user_R, t_R = asked
    inside = np.isin(spans.span(user_R, t_R), list(wanted))
    user_R, t_R = user_R[inside], t_R[inside]
    if most is not None and len(user_R) > most:
        at = np.array([bucket(f"{u}:{t}", salt) for u, t in zip(user_R.tolist(), t_R.tolist(), strict=True)])
        chosen = np.argsort(at, kind="stable")[:most]
        user_R, t_R = user_R[chosen], t_R[chosen]
    order = np.lexsort((user_R, t_R))
    return Moments(user_R=user_R[order], t_R=t_R[order])


def _first_of(user_S: Keys, t_S: Keys, user_R: Keys) -> Keys:
    """Each row's user's earliest t of those; NEVER where there is none."""
    if not len(user_S):
        return np.full(len(user_R), NEVER)
    served, inverse = np.unique(user_S, return_inverse=True)
    first = np.full(len(served), NEVER)
    np.minimum.at(first, inverse.reshape(-1), t_S)
    at = np.minimum(np.searchsorted(served, user_R), len(served) - 1)
    return np.where(served[at] == user_R, first[at], NEVER)


def asks_of(inputs: Inputs, moments: Moments, *, n: int | None, salt: str) -> list[Ask]:
    """One ask per moment, without exploration."""
    users = np.unique(moments.user_R)
    ids = dict(zip(users.tolist(), inputs.log.ids.names("user", users.tolist()), strict=True))
    return [
        Ask(user_id=ids[u] or "", request_id=f"{salt}-{u}-{t}", t=t, user=u, n=n, explore=False)
        for u, t in zip(moments.user_R.tolist(), moments.t_R.tolist(), strict=True)
    ]


@dataclass
class Walked:
    """What was answered: `ranked[name][r]` and `relevant[r]`; `known_R` counts the user's events before t."""

    k: int
    user_R: list[int] = field(default_factory=list)
    t_R: list[int] = field(default_factory=list)
    known_R: list[int] = field(default_factory=list)
    relevant: list[Keys] = field(default_factory=list)
    ranked: dict[str, list[Keys]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    user_features: list[dict[str, float]] = field(default_factory=list)
    degraded: Counter[str] = field(default_factory=Counter)
    funnel: Funnel = field(default_factory=Funnel)

    def lists(self, name: str) -> Lists:
        return Lists.of(self.user_R, self.ranked[name], self.relevant, self.k)

    def add(self, name: str, kind: str, keys: Keys) -> None:
        self.kinds[name] = kind
        self.ranked.setdefault(name, []).append(np.asarray(keys[: self.k], np.int64))


class Popularity:
    """Counts of what an objective counts: as of t (`advance`), or as given (`counts`: what was fitted before).

    An outcome counts from when it was available, and no longer from when it was taken back: as known at the time.
    """

    def __init__(self, outcomes: Outcomes, n_items: int, counts: Keys | None = None) -> None:
        at, item = np.concatenate([outcomes.at_O, outcomes.back_O]), np.tile(outcomes.item_O, 2)
        change = np.repeat([1, -1], len(outcomes.at_O))
        order = np.argsort(at, kind="stable")
        order = order[: np.searchsorted(at[order], NEVER)]
        self._at, self._item, self._change = at[order], item[order], change[order]
        self._next = 0
        self.count_I = np.zeros(n_items, np.int64) if counts is None else counts

    def advance(self, t: int) -> None:
        """Counts everything with `available_at < t`."""
        stop = max(int(np.searchsorted(self._at, t)), self._next)
        rows = slice(self._next, stop)
        np.add.at(self.count_I, self._item[rows], self._change[rows])
        self._next = stop

    def best(self, k: int, without: Keys) -> Keys:
        """The k most counted items that are not in `without`; ties by smaller key; the never counted left out."""
        count_I = self.count_I.copy()
        count_I[without[without < len(count_I)]] = 0
        reach = min(k, int(np.count_nonzero(count_I)))
        if not reach:
            return np.empty(0, np.int64)
        least = np.partition(count_I, -reach)[-reach]
        rows = np.flatnonzero(count_I >= max(1, least))
        best: Keys = rows[np.lexsort((rows, -count_I[rows]))][:reach]
        return best


def walk(
    inputs: Inputs,
    pipeline: Pipeline,
    events: UserEvents,
    spans: Spans,
    moments: Moments,
    *,
    builder: RowBuilder | None = None,
    with_sources: bool = True,
) -> Walked:
    """Runs every request of the test span through the pipeline, each source and the baselines; feeds `builder` too."""
    project = pipeline.project
    outcomes = relevant_outcomes(project, events)
    n_items = max(1, inputs.log.ids.size("item"))
    live = Popularity(outcomes, n_items)
    fitted = Popularity(outcomes, n_items, outcomes.counts_before(spans.cuts(outcomes.user_O)[:, 2], n_items))
    relevance = moments.relevance or Relevance.of(project, events)
    walked = Walked(k=project.evaluate.k)
    ends = moments.ends(spans)
    explores = with_sources and project.slate.explore.first <= min(project.evaluate.k, project.slate.explore.last)

    def visit(ask: Ask, reader: Reader) -> None:
        answer, explored = pipeline.run_both(ask, reader) if explores else (pipeline.run(ask, reader), None)
        walked.add(PIPELINE, "pipeline", np.array(answer.record.keys, np.int64))
        if explored is not None:
            walked.add(EXPLORING, "pipeline", np.array(explored.record.keys, np.int64))
        skip = _ruled_out(answer)
        for note in answer.record.degraded:
            walked.degraded[note] += 1
        if with_sources:
            _add_sources(pipeline, answer, skip, walked)
            live.advance(ask.t)
            for name, baseline in ((AS_OF, live), (FITTED, fitted)):
                walked.add(name, "baseline", _best(baseline, walked.k, skip, pipeline, answer.request, reader))
        walked.user_R.append(ask.user)
        walked.t_R.append(ask.t)
        relevant, known = relevance.at(ask.user, ask.t, answer.request.skip)
        walked.relevant.append(relevant)
        walked.funnel.add(answer, relevant)
        walked.known_R.append(known)
        walked.user_features.append({c: answer.request.side.features.get(c, np.nan) for c in _slice_columns(pipeline)})
        if builder is not None:
            builder.add(ask.user, ask.t, answer.offered, *ends[ask.user, ask.t])

    asks = asks_of(inputs, moments, n=project.evaluate.k, salt="evaluate")
    visits = replay_requests(pipeline.features, inputs.batches(), asks, visit, live=live_of(pipeline))
    for done, _ in enumerate(visits):
        if done % 200 == 0:
            inputs.progress("evaluate by replay", done, len(asks))
    return walked


class Relevance:
    """The distinct items of a user's positive events from t on (within the horizon), without what was ruled out.

    A request costs as much as its user has items or the horizon has events, however many the user's history has.
    """

    def __init__(self, events: UserEvents, positive_E: NDArray[np.bool_], horizon: int | None) -> None:
        self._events, self._positive_E, self._horizon = events, positive_E, horizon
        self._last: dict[int, tuple[Keys, Keys]] = {}

    @staticmethod
    def of(project: Project, events: UserEvents) -> Relevance:
        """What that project calls relevant, of its own reading of the events."""
        return Relevance(events, relevant_events(project, events), project.evaluate.horizon)

    def at(self, user: int, t: int, skip: Keys) -> tuple[Keys, int]:
        """(relevant keys, number of the user's events before t)."""
        keys = self._from(user, t) if self._horizon is None else self._between(user, t, t + self._horizon)
        known = len(self._events.rows_of(user, until=t))
        return keys[~contains(skip, keys)] if len(skip) else keys, known

    def _between(self, user: int, since: int, until: int) -> Keys:
        rows = self._events.rows_of(user, since=since, until=until)
        return np.unique(self._events.item_E[rows[self._positive_E[rows]]])

    def _from(self, user: int, t: int) -> Keys:
        if user not in self._last:
            self._last[user] = self._last_of(user)
        last_I, item_I = self._last[user]
        return np.sort(item_I[np.searchsorted(last_I, t) :])

    def _last_of(self, user: int) -> tuple[Keys, Keys]:
        """(when the user's last positive on each item was, ascending; the item)."""
        rows = self._events.rows_of(user)[::-1]
        rows = rows[self._positive_E[rows]]
        item_I, place = np.unique(self._events.item_E[rows], return_index=True)
        last_I = self._events.at_E[rows[place]]
        order = np.argsort(last_I, kind="stable")
        return last_I[order], item_I[order]


def relevant_name(project: Project) -> str:
    """The objective whose positives are relevant: the declared one, else the first to raise; "" where there is none."""
    return project.evaluate.relevant or next((name for name, o in project.objective.items() if o.direction == "up"), "")


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What may count as relevant: user and item of each, since when, and when it was taken back inside its window
    (NEVER: not)."""

    user_O: Keys
    item_O: Keys
    at_O: Keys
    back_O: Keys

    def counts_before(self, until_O: Keys, n_items: int) -> Keys:
        """count_I of those that stood at `until_O`, each row's own."""
        stood_O = (self.at_O < until_O) & (self.back_O >= until_O)
        return np.bincount(self.item_O[stood_O], minlength=n_items).astype(np.int64)


def relevant_outcomes(project: Project, events: UserEvents) -> Outcomes:
    """The relevant objective's outcomes; without an objective every event that names an item, for ever."""
    objective = _relevant(project)
    back_E, counted_E = np.full(len(events.at_E), NEVER), events.item_E >= 0
    if objective is not None:
        counted_E, undone_E = events.outcomes(objective), events.undone_at_E
        back_E = np.where(undone_E < events.at_E + objective.within, undone_E, NEVER)
    return Outcomes(
        user_O=events.user_E[counted_E],
        item_O=events.item_E[counted_E],
        at_O=events.at_E[counted_E],
        back_O=back_E[counted_E],
    )


def relevant_events(project: Project, events: UserEvents) -> NDArray[np.bool_]:
    """The events whose items count as relevant; without an objective every event that names an item."""
    objective = _relevant(project)
    return events.positives(objective) if objective is not None else events.item_E >= 0


def _relevant(project: Project) -> ObjectiveConfig | None:
    name = relevant_name(project)
    if name and name not in project.objective:
        raise UsageError(f"evaluate.relevant = '{name}': expected one of {', '.join(project.objective)}")
    return project.objective[name] if name else None


def _add_sources(pipeline: Pipeline, answer: Answer, skip: Keys, walked: Walked) -> None:
    """The list of each source alone; one that failed brought nothing, as the answer's `degraded` says."""
    for name in pipeline.sources:
        keys_N = answer.retrieved[name].keys_N if name in answer.retrieved else NO_KEYS
        walked.add(name, "source", keys_N[~contains(skip, keys_N)] if len(skip) else keys_N)


def _best(baseline: Popularity, k: int, skip: Keys, pipeline: Pipeline, request: Request, reader: Reader) -> Keys:
    """Its k best that every declared filter lets pass, whether or not a source brought them."""
    reach, notes = k, Notes(perf_counter, Telemetry())  # what fails here failed in the request, and is noted there
    while True:
        keys_N = baseline.best(reach, skip)
        if not len(keys_N):
            return keys_N
        allowed_N = keys_N[~contains(ruled_out(pipeline, request, keys_N, reader, notes), keys_N)]
        if len(allowed_N) >= k or len(keys_N) < reach:
            return allowed_N[:k]
        reach *= 2


def _ruled_out(answer: Answer) -> Keys:
    """What a filter dropped, or would drop whatever is retrieved: sorted keys."""
    candidates = answer.candidates
    by_filter = np.array([reason.startswith("filter.") for reason in candidates.reasons], np.bool_)
    return union(answer.request.skip, candidates.keys_N[by_filter[candidates.status_N]])


def _slice_columns(pipeline: Pipeline) -> tuple[str, ...]:
    names = []
    for name in pipeline.project.evaluate.slices:
        names += [c for c in pipeline.user_columns if c in (name, f"user.{name}")]
    return tuple(names)

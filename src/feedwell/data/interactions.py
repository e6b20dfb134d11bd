"""UserEvents: who did what when, as columns in log order; what sources fit on and what relevance is read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.objective import where_sql
from feedwell.core.project import ObjectiveConfig, Project
from feedwell.core.protocols import Interactions
from feedwell.core.request import Keys
from feedwell.data.log_view import DID, MOMENT, LogView, next_undo, quoted, situated, sql_list
from feedwell.data.split import NEVER, Spans


@dataclass(frozen=True, kw_only=True)
class UserEvents:
    """All events that name a user, in log order. `undone_at_E`: when a later event took this one back (NEVER: not);
    `moment_E`: when the first event of its situation (one request, else one ts) became available."""

    user_E: Keys
    item_E: Keys
    at_E: Keys
    moment_E: Keys
    type_E: NDArray[np.int16]
    value_E: Float
    undone_at_E: Keys
    types: tuple[str, ...]
    holds: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """the `where` of an objective → the events for which it holds"""

    def before(self, spans: Spans, span: int) -> Interactions:
        """The events that belong to spans before that number (4: all of them)."""
        keep = self._span(spans) < span
        until = int(self.at_E[keep].max()) + 1 if keep.any() else 0
        limit = np.full(len(keep), spans.end) if span > 3 else spans.cuts(self.user_E)[:, span - 1]
        return Interactions(
            user_E=self.user_E[keep],
            item_E=self.item_E[keep],
            at_E=self.at_E[keep],
            type_E=self.type_E[keep],
            types=self.types,
            value_E=self.value_E[keep],
            undone_E=(self.undone_at_E < limit)[keep],
            until=until,
        )

    def positives(self, objective: ObjectiveConfig) -> NDArray[np.bool_]:
        """The events that are outcomes of an objective and were not taken back inside its window."""
        return self.outcomes(objective) & ~(self.undone_at_E < self.at_E + objective.within)

    def outcomes(self, objective: ObjectiveConfig) -> NDArray[np.bool_]:
        """The events on an item that an objective counts, taken back or not."""
        wanted = [i for i, name in enumerate(self.types) if name in objective.events]
        keep = np.isin(self.type_E, wanted) & (self.user_E >= 0) & (self.item_E >= 0)
        return keep & self.holds[objective.where] if objective.where else keep

    @cached_property
    def by_user(self) -> tuple[NDArray[np.intp], Keys, Keys]:
        """(rows sorted by user, in log order within one; the users of those rows; their `at`)."""
        order = np.argsort(self.user_E, kind="stable")
        return order, self.user_E[order], self.at_E[order]

    def rows_of(self, user: int, *, since: int = -NEVER, until: int = NEVER) -> NDArray[np.intp]:
        """That user's rows with `at` in `[since, until)`, in log order; found in log time, not by looking."""
        order, users, at = self.by_user
        first, last = np.searchsorted(users, user), np.searchsorted(users, user, side="right")
        inside = slice(*(first + np.searchsorted(at[first:last], [since, until])))
        return order[inside]

    def moments(self) -> tuple[Keys, Keys]:
        """(user, t) of every situation."""
        pairs = np.unique(np.stack([self.user_E, self.moment_E], axis=1), axis=0)
        return pairs[:, 0], pairs[:, 1]

    def _span(self, spans: Spans) -> NDArray[np.int8]:
        return spans.span(self.user_E, self.at_E)


def user_events(view: LogView, project: Project) -> UserEvents:
    """All that users did, in the log's order (what was served to them is not); without an item: item -1."""
    wheres = {o.where: where_sql(o.terms) for o in project.objective.values() if o.where}
    conditions = "".join(f", coalesce({sql}, FALSE) AS where_{i}" for i, sql in enumerate(wheres.values()))
    query = _EVENTS.format(
        undone=_undone(project), never=NEVER, did=DID, situated=situated(project), conditions=conditions
    )
    with view.connect() as connection:
        found = connection.execute(query).to_arrow_table()
    coded = found["type"].combine_chunks().dictionary_encode()
    return UserEvents(
        user_E=found["user"].to_numpy().astype(np.int64),
        item_E=found["item"].to_numpy().astype(np.int64),
        at_E=found["available_at"].to_numpy().astype(np.int64),
        moment_E=found[MOMENT].to_numpy().astype(np.int64),
        type_E=coded.indices.to_numpy(zero_copy_only=False).astype(np.int16),
        types=tuple(coded.dictionary.to_pylist()),
        value_E=found["value"].to_numpy(zero_copy_only=False).astype(np.float64),
        undone_at_E=found["undone_at"].to_numpy().astype(np.int64),
        holds={text: found[f"where_{i}"].to_numpy(zero_copy_only=False) for i, text in enumerate(wheres)},
    )


_EVENTS = """
WITH undo AS (SELECT "offset", undone_at FROM ({undone}) WHERE undone_at IS NOT NULL)
SELECT e."user", e.item, e.available_at, e.moment, e.type, e.value,
    coalesce(u.undone_at, {never}) AS undone_at{conditions}
FROM {situated} e LEFT JOIN undo u ON u."offset" = e."offset"
WHERE {did} ORDER BY e.available_at, e."offset"
"""

_UNDONE = """
SELECT "offset", type, {undone_at} AS undone_at FROM log WHERE "user" >= 0 AND type IN {both} QUALIFY type = {do}
"""


def _undone(project: Project) -> str:
    """offset, undone_at: what takes what back and when, the same user on the object that the event type is about."""
    told = []
    for name, undo in project.undone_by.items():
        undone_at = next_undo(undo, project.objects_of(name))
        told.append(_UNDONE.format(undone_at=undone_at, both=sql_list([name, undo]), do=quoted(name)))
    return " UNION ALL ".join(told) or 'SELECT NULL::BIGINT AS "offset", NULL::BIGINT AS undone_at'

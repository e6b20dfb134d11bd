"""Spans: the four successive stretches of the log that a training run uses, and which of them an event belongs to.

`by = "time"`: three cuts for everybody. `by = "user"`: three cuts on each user's own timeline, so that every user is in
the test; models then learn from other users' later events, which the report says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feedwell.core.project import SplitSection
from feedwell.core.request import Keys
from feedwell.data.log_view import DID, TOGETHER, LogView

SPANS = ("sources", "ranker", "calibration", "test")
NEVER = np.iinfo(np.int64).max
NOT_CAUSAL = (
    "not causal across users: models learned from other users' later events; "
    "what came after a user's own cut is labelled 0 in the span before it"
)


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Cuts on the `available_at` axis: span s of user u is `[cut_U3[s - 1], cut_U3[s])`.

    `user_U` is sorted; by time it is empty and `cut_U3` has one row that holds for everybody. A cut that nothing
    follows is NEVER. `end` is the first µs that the log has not reached; `n_S` counts events.
    """

    by: Literal["time", "user"]
    user_U: Keys
    cut_U3: NDArray[np.int64]
    end: int
    n_S: NDArray[np.int64]

    @property
    def note(self) -> str:
        """What a reader of the figures must know; "" by time."""
        return NOT_CAUSAL if self.by == "user" else ""

    def cuts(self, user_N: Keys) -> NDArray[np.int64]:
        """cut_N3 of each row's user; a user without events is in the first span throughout."""
        if self.by == "time":
            return np.broadcast_to(self.cut_U3[0], (len(user_N), 3))
        if not len(self.user_U):
            return np.full((len(user_N), 3), NEVER)
        at = np.minimum(np.searchsorted(self.user_U, user_N), len(self.user_U) - 1)
        return np.where((self.user_U[at] == user_N)[:, None], self.cut_U3[at], NEVER)

    def span(self, user_N: Keys, t_N: Keys) -> NDArray[np.int8]:
        """0 sources, 1 ranker, 2 calibration, 3 test."""
        return np.asarray((t_N[:, None] >= self.cuts(user_N)).sum(axis=1), np.int8)

    def span_end(self, user_N: Keys, t_N: Keys) -> Keys:
        """Where each row's span ends (exclusive): labels of the span may not look beyond it."""
        ends = np.concatenate([self.cuts(user_N), np.full((len(user_N), 1), self.end)], axis=1)
        return np.asarray(np.minimum(ends[np.arange(len(user_N)), self.span(user_N, t_N)], self.end), np.int64)

    def closes(self, user_N: Keys, t_N: Keys) -> Keys:
        """By when each row's label window must have ended to count as closed (exclusive).

        By time that is the span's end. By user a span is a stretch of that user's own events, often shorter than any
        window: outcomes are counted up to its end, and the window is closed by the end of the log. What came after the
        cut is thus labelled 0, not marked as open, for else short lives would leave hardly a label; `note` says it.
        """
        return self.span_end(user_N, t_N) if self.by == "time" else np.full(len(t_N), self.end, np.int64)

    def to_dict(self) -> dict[str, Any]:
        cuts = [int(c) for c in self.cut_U3[0]] if self.by == "time" else None
        counts = dict(zip(SPANS, (int(n) for n in self.n_S), strict=True))
        return {"by": self.by, "cuts": cuts, "end": self.end, "events": counts, "note": self.note}


def spans(view: LogView, section: SplitSection) -> Spans:
    """The spans of a log by the declared fractions of its users' events; catalog changes belong to no span.

    A cut never divides one (user, ts) that became available within a minute: events of one group, and groups whose
    `available_at` overlap, stay on one side. Where that leaves nothing to test by time, because in a log of hours such
    stretches follow each other without a gap, only what became available at once stays together.
    """
    key_U, cut_U3 = _cuts(view, section, TOGETHER)
    if section.by == "time" and len(cut_U3) and cut_U3[0, 2] == NEVER and _stretch(view) > 60 * TOGETHER:
        key_U, cut_U3 = _cuts(view, section, 0)
    if section.by == "time":
        key_U, cut_U3 = key_U[:0], cut_U3 if len(cut_U3) else np.full((1, 3), NEVER)
    made = Spans(by=section.by, user_U=key_U, cut_U3=cut_U3, end=view.end(), n_S=np.zeros(4, np.int64))
    return Spans(by=made.by, user_U=key_U, cut_U3=cut_U3, end=made.end, n_S=_count(view, made))


def _cuts(view: LogView, section: SplitSection, together: int) -> tuple[Keys, NDArray[np.int64]]:
    partition = '"user"' if section.by == "user" else "0"
    cuts = ", ".join(
        f"coalesce(min(start) FILTER (WHERE before >= {_share(edge)} * total - 1e-9), {NEVER}) AS cut_{i}"
        for i, edge in enumerate(np.cumsum(section.fractions)[:3])
    )
    with view.connect() as connection:
        query = _ISLANDS.format(partition=partition, cuts=cuts, did=DID, together=together)
        found = connection.execute(query).to_arrow_table()
    cut_U3 = np.stack([found[f"cut_{i}"].to_numpy() for i in range(3)], axis=1).astype(np.int64)
    return found["part"].to_numpy().astype(np.int64), cut_U3


# Islands: groups of one (user, ts), merged while their stretches of available_at touch; a cut falls between islands.
_ISLANDS = """
WITH grouped AS (
    SELECT {partition} AS part, "user", ts, min(available_at) AS first, max(available_at) AS last, count(*) AS n
    FROM log WHERE {did} GROUP BY ALL
), groups AS (
    SELECT * FROM grouped WHERE last - first <= {together}
    UNION ALL
    SELECT {partition} AS part, "user", ts, available_at, available_at, count(*) FROM log
    WHERE {did} AND ("user", ts) IN (SELECT "user", ts FROM grouped WHERE last - first > {together}) GROUP BY ALL
), marked AS (
    SELECT *, coalesce(first > max(last) OVER (
        PARTITION BY part ORDER BY first, last ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true) AS is_new
    FROM groups
), numbered AS (
    SELECT *, sum(is_new::INT) OVER (PARTITION BY part ORDER BY first, last ROWS UNBOUNDED PRECEDING) AS island
    FROM marked
), islands AS (
    SELECT part, island, min(first) AS start, sum(n) AS n FROM numbered GROUP BY part, island
), placed AS (
    SELECT part, start, sum(n) OVER (PARTITION BY part) AS total,
        sum(n) OVER (PARTITION BY part ORDER BY start ROWS UNBOUNDED PRECEDING) - n AS before
    FROM islands
)
SELECT part, {cuts} FROM placed GROUP BY part ORDER BY part
"""


def _stretch(view: LogView) -> int:
    """µs from the first to the last thing that a user did."""
    with view.connect() as connection:
        row = connection.execute(f"SELECT max(available_at) - min(available_at) FROM log WHERE {DID}").fetchone()
    return int(row[0] or 0) if row else 0


def _share(edge: float) -> str:
    return repr(round(float(edge), 12))


def _count(view: LogView, made: Spans) -> NDArray[np.int64]:
    with view.connect() as connection:
        events = connection.execute(f'SELECT "user", available_at FROM log WHERE {DID}').to_arrow_table()
    span_N = made.span(events["user"].to_numpy(), events["available_at"].to_numpy())
    return np.bincount(span_N, minlength=4).astype(np.int64)

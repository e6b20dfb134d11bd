"""Funnel: where candidates go between being retrieved and being shown, and with them what users wanted; by source.

N candidates, S sources, R requests
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from feedwell.core.candidates import NOT_SELECTED
from feedwell.core.request import Keys
from feedwell.metrics import Interval, Ratios
from feedwell.pipeline.ask import Answer
from feedwell.training.report import FunnelRow, SourceRow

RETRIEVED, SCORED, SHOWN, ALL_SOURCES = "retrieved", "scored", "shown", "all sources together"


@dataclass
class Funnel:
    """Sums over requests, `add`ed one by one; what is wanted are the relevant items of a request."""

    user_R: list[int] = field(default_factory=list)
    n_wanted_R: list[int] = field(default_factory=list)
    found_R: list[dict[str, tuple[int, int]]] = field(default_factory=list)
    """source → how many of the wanted it brought, and how many no other source did"""
    went: Counter[str] = field(default_factory=Counter)
    """retrieved, shown, or why not → candidates"""
    wanted_went: Counter[str] = field(default_factory=Counter)
    brought: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    shown_alone: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Answer, relevant: Keys) -> None:
        all_ = answer.candidates
        bits_NS = (all_.sources_N[:, None] >> np.arange(len(all_.source_names), dtype=np.uint64)) & np.uint64(1) > 0
        alone_NS = bits_NS & (bits_NS.sum(axis=1, keepdims=True) == 1)
        wanted_N, shown_N = np.isin(all_.keys_N, relevant), all_.alive_N
        self.user_R.append(answer.request.user)
        self.n_wanted_R.append(len(relevant))
        for counts, inside_N in ((self.went, np.ones(len(all_), np.bool_)), (self.wanted_went, wanted_N)):
            by_status = np.bincount(all_.status_N[inside_N], minlength=len(all_.reasons)).tolist()
            counts[RETRIEVED] += int(inside_N.sum())
            for reason, n in zip(all_.reasons, by_status, strict=True):
                counts[reason or SHOWN] += n
        found = {ALL_SOURCES: (int(wanted_N.sum()), 0)}
        for s, name in enumerate(all_.source_names):
            self.brought[name] += int(bits_NS[:, s].sum())
            self.shown[name] += int((bits_NS[:, s] & shown_N).sum())
            self.shown_alone[name] += int((alone_NS[:, s] & shown_N).sum())
            found[name] = int((bits_NS[:, s] & wanted_N).sum()), int((alone_NS[:, s] & wanted_N).sum())
        self.found_R.append(found)

    def rows(self) -> tuple[FunnelRow, ...]:
        """Retrieved, what each step took away in the order of the flow, scored (what reached the slate), what the slate
        left, shown; none without requests."""
        n, wanted = len(self.user_R), max(1, sum(self.n_wanted_R))
        between = [reason for reason in self.went if reason not in (RETRIEVED, SHOWN, NOT_SELECTED)]
        last = [NOT_SELECTED] if NOT_SELECTED in self.went else []
        went, wanted_went = (
            {**counts, SCORED: counts[NOT_SELECTED] + counts[SHOWN]} for counts in (self.went, self.wanted_went)
        )
        return tuple(
            FunnelRow(step=step, candidates=went.get(step, 0) / n, wanted=wanted_went.get(step, 0) / wanted)
            for step in ([RETRIEVED, *between, SCORED, *last, SHOWN] if n else [])
        )

    def sources(self, bootstrap: int) -> tuple[SourceRow, ...]:
        """One row per source in declared order, and one for all together."""
        n, n_shown = max(1, len(self.user_R)), max(1, self.went[SHOWN])
        return tuple(
            SourceRow(
                name=name,
                candidates=(self.went[RETRIEVED] if name == ALL_SOURCES else self.brought[name]) / n,
                shown=1.0 if name == ALL_SOURCES else self.shown[name] / n_shown,
                shown_alone=1.0 if name == ALL_SOURCES else self.shown_alone[name] / n_shown,
                recall=self._share(name, 0, bootstrap),
                recall_alone=self._share(name, 1, bootstrap),
            )
            for name in ([ALL_SOURCES, *self.brought] if self.user_R else [])
        )

    def _share(self, name: str, which: int, bootstrap: int) -> Interval:
        """Mean over the requests that wanted something of the share that the source brought."""
        found_R = np.array([found.get(name, (0, 0))[which] for found in self.found_R], np.float64)
        wanted_R = np.array(self.n_wanted_R, np.float64)
        value_R1 = np.where(wanted_R > 0, found_R / np.maximum(wanted_R, 1), np.nan)[:, None]
        ratios = Ratios.of(("recall",), np.array(self.user_R, np.int64), value_R1, bootstrap=bootstrap)
        return ratios.interval("recall")


def lorenz_points(count_I: Sequence[int] | Keys) -> tuple[tuple[float, float], ...]:
    """(share of items, their share of what all have), items with the least first: even where most have nothing, the
    few that have much are drawn finely. Empty where nothing was shown."""
    count = np.sort(np.asarray(count_I, np.float64))
    if not len(count) or not count.sum():
        return ()
    shares = np.concatenate([np.linspace(0, 0.9, 19), np.linspace(0.91, 0.99, 9), [0.995, 0.999, 1.0]])
    had = np.concatenate([[0.0], np.cumsum(count) / count.sum()])
    had_at = np.interp(shares * len(count), np.arange(len(count) + 1), had)
    return tuple(zip(shares.tolist(), had_at.tolist(), strict=True))

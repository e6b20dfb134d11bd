"""What accuracy does not see: share of the catalog that is ever shown, how evenly, and how varied one list is.

R requests, K slots, I catalog items
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.errors import UsageError
from feedwell.core.protocols import PartConfig, serve
from feedwell.core.registry import metric
from feedwell.core.request import Keys
from feedwell.metrics._lists import Lists
from feedwell.metrics._ratios import Ratios

NAMES = ("diversity",)


@metric("beyond_accuracy")
class BeyondAccuracy:
    """Lists → Ratios named diversity (share of pairs in a list that differ in group), and Shown: coverage and Gini."""

    class Config(PartConfig):
        k: int = serve(10, ge=1)

    names = NAMES

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, lists: Lists, group_I: Keys, *, bootstrap: int = 1000, seed: int = 0) -> Ratios:
        value_R1 = diversity_values(lists.ranked_RK[:, : self.config.k], group_I)[:, None]
        return Ratios.of(NAMES, lists.unit_R, value_R1, bootstrap=bootstrap, seed=seed)

    def shown(self, lists: Lists, catalog: Keys) -> Shown:
        return Shown.of(lists.ranked_RK[:, : self.config.k], catalog)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How often each catalog item stood in a list; parts over one catalog add up."""

    catalog_I: Keys
    count_I: NDArray[np.int64]

    @staticmethod
    def of(ranked_RK: Keys, catalog: Keys) -> Shown:
        """Counts over the distinct catalog keys; keys outside the catalog are not counted."""
        catalog_I = np.unique(catalog)
        keys = ranked_RK[np.isin(ranked_RK, catalog_I)]
        count_I = np.bincount(np.searchsorted(catalog_I, keys), minlength=len(catalog_I))
        return Shown(catalog_I=catalog_I, count_I=count_I.astype(np.int64))

    def merge(self, other: Shown) -> Shown:
        if not np.array_equal(self.catalog_I, other.catalog_I):
            raise UsageError("counts of shown items merge only over the same catalog")
        return Shown(catalog_I=self.catalog_I, count_I=self.count_I + other.count_I)

    @property
    def coverage(self) -> float:
        """Share of the catalog that was in at least one list; NaN for an empty catalog."""
        return float(np.mean(self.count_I > 0)) if len(self.count_I) else float("nan")

    @property
    def gini(self) -> float:
        """0: every item equally often; towards 1: one item only. Items never shown count; NaN if nothing was."""
        return gini(self.count_I.astype(np.float64))


def gini(amount_I: Float) -> float:
    """0: all have as much; towards 1: one has everything. NaN where there is nothing to have."""
    amount, n, total = np.sort(amount_I), len(amount_I), float(amount_I.sum())
    return float((2 * np.arange(1, n + 1) - n - 1) @ amount / (n * total)) if total else float("nan")


def diversity_values(ranked_RK: Keys, group_I: Keys) -> Float:
    """Per request, the share of pairs whose groups differ; no group (-1) differs from all; NaN under 2 items.

    `group_I[key]` is the item's group; empty: nothing tells items apart, all NaN.
    """
    if not len(group_I):
        return np.full(len(ranked_RK), np.nan)
    present_RK = ranked_RK >= 0
    inside_RK = present_RK & (ranked_RK < len(group_I))
    group_RK = np.where(inside_RK, group_I[np.where(inside_RK, ranked_RK, 0)], -1)
    n_R = present_RK.sum(axis=1)
    equal_RKK = (group_RK[:, :, None] == group_RK[:, None, :]) & (group_RK >= 0)[:, :, None]
    same_pairs_R = (equal_RKK.sum(axis=(1, 2)) - (group_RK >= 0).sum(axis=1)) / 2
    pairs_R = n_R * (n_R - 1) / 2
    return np.where(n_R >= 2, 1 - same_pairs_R / np.maximum(pairs_R, 1), np.nan)

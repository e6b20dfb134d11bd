"""Who gets the attention: each group's share of position-discounted exposure, against its share of what was relevant.

R requests, K slots, G groups
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feedwell.core.candidates import Float
from feedwell.core.errors import UsageError
from feedwell.core.protocols import PartConfig, serve
from feedwell.core.registry import metric
from feedwell.core.request import Keys
from feedwell.metrics._lists import Lists
from feedwell.metrics.beyond_accuracy import gini


@metric("exposure")
class Exposure:
    """(Lists, group of each item) → Attention, which adds up over parts."""

    class Config(PartConfig):
        k: int = serve(10, ge=1)

    names = ("exposure",)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, lists: Lists, group_I: Keys, n_groups: int) -> Attention:
        ranked_RK = lists.ranked_RK[:, : self.config.k]
        weight_RK = np.broadcast_to(1 / np.log2(np.arange(2, ranked_RK.shape[1] + 2)), ranked_RK.shape)
        return Attention(
            shown_G=_by_group(ranked_RK.ravel(), weight_RK.ravel(), group_I, n_groups),
            relevant_G=_by_group(lists.relevant_keys, np.ones(len(lists.relevant_keys)), group_I, n_groups),
        )


@dataclass(frozen=True, kw_only=True)
class Attention:
    """`shown_G`: Σ 1 / log2(1 + slot) of the group's items; `relevant_G`: how often they were relevant."""

    shown_G: Float
    relevant_G: Float

    def merge(self, other: Attention) -> Attention:
        if len(self.shown_G) != len(other.shown_G):
            raise UsageError("exposure merges only over the same groups")
        return Attention(shown_G=self.shown_G + other.shown_G, relevant_G=self.relevant_G + other.relevant_G)

    @property
    def share_G(self) -> Float:
        """Each group's share of exposure; zeros when nothing was shown."""
        return self.shown_G / max(float(self.shown_G.sum()), 1e-300)

    @property
    def gini(self) -> float:
        """How unevenly exposure falls on groups, those never shown included."""
        return gini(self.shown_G)

    @property
    def merit_G(self) -> Float:
        """Each group's share of what was relevant; zeros when nothing was."""
        return self.relevant_G / max(float(self.relevant_G.sum()), 1e-300)

    @property
    def distance(self) -> float:
        """Total variation between exposure and relevance over groups, 0 to 1: 0 gives each what it earned. NaN where
        nothing was shown or nothing was relevant."""
        if not self.shown_G.sum() or not self.relevant_G.sum():
            return float("nan")
        return float(np.abs(self.share_G - self.merit_G).sum() / 2)


def _by_group(keys: Keys, weight: Float, group_I: Keys, n_groups: int) -> Float:
    inside = (keys >= 0) & (keys < len(group_I))
    group = group_I[keys[inside]]
    grouped = (group >= 0) & (group < n_groups)
    return np.bincount(group[grouped], weights=weight[inside][grouped], minlength=n_groups).astype(np.float64)

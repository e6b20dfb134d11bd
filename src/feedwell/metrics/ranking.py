"""Recall, NDCG, MRR and hit rate of the first k slots, over the full catalog.

A request without a relevant key is not counted. Gains are 0 or 1.
"""

from __future__ import annotations

import numpy as np

from feedwell.core.candidates import Float
from feedwell.core.protocols import PartConfig, serve
from feedwell.core.registry import metric
from feedwell.metrics._lists import Lists
from feedwell.metrics._ratios import Ratios

NAMES = ("recall", "ndcg", "mrr", "hit_rate")


@metric("ranking")
class Ranking:
    """Lists → Ratios named recall, ndcg, mrr, hit_rate; means over requests, intervals by user."""

    class Config(PartConfig):
        k: int = serve(10, ge=1)

    names = NAMES

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, lists: Lists, *, bootstrap: int = 1000, seed: int = 0) -> Ratios:
        return Ratios.of(NAMES, lists.unit_R, ranking_values(lists, self.config.k), bootstrap=bootstrap, seed=seed)


def ranking_values(lists: Lists, k: int) -> Float:
    """value_RM in the order of NAMES; NaN rows where nothing was relevant.

    recall = hits / relevant; ndcg = Σ hit / log2(1 + slot) over the best that min(relevant, k) hits could give;
    mrr = 1 / slot of the first hit, 0 without one.
    """
    hits_RK = lists.hits_RK(k)
    n_R = lists.n_relevant_R
    discount_K = 1 / np.log2(np.arange(2, k + 2))
    ideal_R = np.concatenate([[0.0], np.cumsum(discount_K)])[np.minimum(n_R, k)]
    hit_R = hits_RK.any(axis=1)
    first_R = np.argmax(hits_RK, axis=1) + 1 if hits_RK.shape[1] else np.ones(len(lists))
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = [
            hits_RK.sum(axis=1) / n_R,
            hits_RK @ discount_K[: hits_RK.shape[1]] / ideal_R,
            np.where(hit_R, 1 / first_R, 0.0),
            hit_R.astype(np.float64),
        ]
    value_RM = np.stack(columns, axis=1)
    value_RM[n_R == 0] = np.nan
    return value_RM

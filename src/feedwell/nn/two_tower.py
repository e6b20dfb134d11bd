"""The two towers as a torch network, for training; serving has the same formulas in numpy (`sources/_towers.py`).

B rows, M items of a step, I items, V items with an id of their own (table row 0: all others), L history, D embedding,
S static numbers of an item, C categories
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PLACES, AGES = 10, 24
"""How many distances from the newest, and how many ages, weigh a history item differently: powers of two of each."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """`item_categories` and `user_categories`: entries of each category's table, the unknown one included."""

    n_ids: int
    embedding_dim: int
    hidden_dim: int
    item_static: int
    item_categories: tuple[int, ...]
    user_numbers: int
    user_categories: tuple[int, ...]
    category_dim: int = 16


class Towers(nn.Module):
    """`user` and `item` give vectors of length 1 over √temperature: their inner product is the logit."""

    def __init__(self, sizes: Sizes, temperature: float, dropout: float) -> None:
        super().__init__()
        self.sizes, self.temperature, self.dropout = sizes, temperature, dropout
        dim, n = sizes.embedding_dim, sizes.n_ids + 1
        self.id = nn.Embedding(n, dim, sparse=True)
        self.history = nn.Embedding(n, dim, sparse=True)
        self.importance = nn.Embedding(n, 1, sparse=True)
        self.place = nn.Parameter(torch.zeros(PLACES))
        self.age = nn.Parameter(torch.zeros(AGES))
        self.history_static = _linear(sizes.item_static, dim, bias=False)
        self.item_category, self.user_category = (
            nn.ModuleList(nn.Embedding(c, sizes.category_dim, sparse=True) for c in of)
            for of in (sizes.item_categories, sizes.user_categories)
        )
        width = sizes.category_dim
        self.item_in = _linear(sizes.item_static + width * len(sizes.item_categories), sizes.hidden_dim)
        self.item_out = nn.Linear(sizes.hidden_dim, dim, bias=False)
        self.user_in = _linear(sizes.user_numbers + width * len(sizes.user_categories), sizes.hidden_dim)
        self.user_out = nn.Linear(sizes.hidden_dim, dim)
        self._begin()

    def _begin(self) -> None:
        for table in (self.id, self.history):
            nn.init.normal_(table.weight, std=0.1)
            nn.init.zeros_(table.weight[0])
        nn.init.zeros_(self.importance.weight)
        for layer in (self.history_static, self.item_out, self.user_out):
            nn.init.normal_(layer.weight, std=0.02)
        for table in (*self.item_category, *self.user_category):
            nn.init.normal_(table.weight, std=0.1)

    def weights_BL(self, id_BL: Tensor, place_BL: Tensor, age_BL: Tensor, there_BL: Tensor) -> Tensor:
        """How much each history item counts: softmax over L of its importance, its place and its age."""
        logit_BL = _looked_up(self.importance, id_BL).squeeze(-1) + self.place[place_BL] + self.age[age_BL]
        logit_BL = logit_BL.masked_fill(~there_BL, -torch.inf)
        weight_BL = torch.softmax(logit_BL.float(), 1).nan_to_num(0.0)
        if self.training and self.dropout:
            weight_BL = F.dropout(weight_BL, self.dropout)
        return weight_BL

    def pooled(self, id_BL: Tensor, static_IS: Tensor, row_BL: Tensor, weight_BL: Tensor) -> Tensor:
        """The weighted histories: embeddings by `id_BL`, static numbers by `row_BL` of all items'."""
        few_U, of_BL = torch.unique(id_BL, return_inverse=True)
        pooled_BD = F.embedding_bag(of_BL, self.history(few_U), per_sample_weights=weight_BL, mode="sum")
        pooled_BS = F.embedding_bag(row_BL, static_IS, per_sample_weights=weight_BL, mode="sum")
        both_BD: Tensor = pooled_BD + self.history_static(pooled_BS)
        return both_BD

    def user(self, pooled_BD: Tensor, numbers_BF: Tensor, category_BC: Tensor) -> Tensor:
        """user_BD from the pooled history and the user's own columns."""
        own = [numbers_BF, *(table(category_BC[:, c]) for c, table in enumerate(self.user_category))]
        hidden_BH = torch.relu(self.user_in(torch.cat(own, 1)))
        return self._unit(pooled_BD + self.user_out(hidden_BH))

    def item(self, id_M: Tensor, static_MS: Tensor, category_MC: Tensor) -> Tensor:
        """item_MD from the id's row (0: none of its own) and the item's columns."""
        own = [static_MS, *(table(category_MC[:, c]) for c, table in enumerate(self.item_category))]
        hidden_MH = torch.relu(self.item_in(torch.cat(own, 1)))
        return self._unit(self.id(id_M) + self.item_out(hidden_MH))

    def _unit(self, x: Tensor) -> Tensor:
        unit: Tensor = F.normalize(x.float(), dim=1, eps=1e-6) / math.sqrt(self.temperature)
        return unit


def _looked_up(table: nn.Embedding, id_BL: Tensor) -> Tensor:
    """The ids' rows. Each is read once, so that the sparse gradient has a row per id and not per place."""
    few_U, of_BL = torch.unique(id_BL, return_inverse=True)
    found: Tensor = table(few_U)[of_BL]
    return found


def _linear(n: int, to: int, bias: bool = True) -> nn.Linear:
    """A linear layer, of no inputs too: torch warns of drawing nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nn.Linear(n, to, bias=bias)

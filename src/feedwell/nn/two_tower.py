"""The two towers as a torch network, for training; serving has the same formulas in numpy (`sources/_towers.py`).

B rows, M items of a step, U items of its histories, I items, V items with an id of their own (table row 0: all others),
L history, D embedding, S static numbers of an item, C categories
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
    history_table: bool = False
    category_dim: int = 16


@dataclass(frozen=True, kw_only=True)
class Bags:
    """The histories of a step by the items that they hold, each once: `of_BL` is which of the U.

    `nameless_BL`: where an item must do without its own embedding; None: nowhere.
    """

    id_U: Tensor
    static_US: Tensor
    category_UC: Tensor
    of_BL: Tensor
    nameless_BL: Tensor | None

    def nobody(self) -> Tensor:
        """The table row of an item without an embedding of its own."""
        return torch.zeros(1, dtype=torch.long, device=self.id_U.device)


class Towers(nn.Module):
    """`user` and `item` give vectors of length 1 over √temperature: their inner product is the logit.

    An item adds to a history what the item tower says of it, since what is turned to together is alike, a linear part
    of its columns, and, if there is a `history` table, its row there.
    """

    def __init__(self, sizes: Sizes, temperature: float, dropout: float) -> None:
        super().__init__()
        self.sizes, self.temperature, self.dropout = sizes, temperature, dropout
        dim, n = sizes.embedding_dim, sizes.n_ids + 1
        self.id = nn.Embedding(n, dim, sparse=True)
        self.history = nn.Embedding(n, dim, sparse=True) if sizes.history_table else None
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
        nn.init.normal_(self.id.weight, std=0.1)
        nn.init.zeros_(self.id.weight[0])
        if self.history is not None:
            nn.init.normal_(self.history.weight, std=0.01)
        nn.init.zeros_(self.importance.weight)
        for layer in (self.history_static, self.item_out, self.user_out):
            nn.init.normal_(layer.weight, std=0.02)
        for table in (*self.item_category, *self.user_category):
            nn.init.normal_(table.weight, std=0.1)

    def weights_BL(self, history: Bags, place_BL: Tensor, age_BL: Tensor, there_BL: Tensor) -> Tensor:
        """How much each history item counts: softmax over L of its importance, its place and its age."""
        importance_BL = self.importance(history.id_U)[history.of_BL].squeeze(-1)
        if history.nameless_BL is not None:
            importance_BL = torch.where(history.nameless_BL, self.importance(history.nobody()), importance_BL)
        logit_BL = importance_BL + self.place[place_BL] + self.age[age_BL]
        logit_BL = logit_BL.masked_fill(~there_BL, -torch.inf)
        weight_BL: Tensor = torch.softmax(logit_BL.float(), 1).nan_to_num(0.0)
        if self.training and self.dropout:
            weight_BL = F.dropout(weight_BL, self.dropout)
        return weight_BL

    def pooled(self, history: Bags, weight_BL: Tensor) -> Tensor:
        """The weighted histories."""
        columns_UD = self._columns(history.static_US, history.category_UC) + self.history_static(history.static_US)
        id_UD, columns_UD = self._in_history(history.id_U), columns_UD.float()
        if history.nameless_BL is None:
            return _bagged(columns_UD + id_UD, history.of_BL, weight_BL)
        named_BL = weight_BL.masked_fill(history.nameless_BL, 0.0)
        nameless_B1 = (weight_BL - named_BL).sum(1, keepdim=True)
        own_BD = _bagged(id_UD, history.of_BL, named_BL) + nameless_B1 * self._in_history(history.nobody())
        return _bagged(columns_UD, history.of_BL, weight_BL) + own_BD

    def user(self, pooled_BD: Tensor, numbers_BF: Tensor, category_BC: Tensor) -> Tensor:
        """user_BD from the pooled history and the user's own columns."""
        own = [numbers_BF, *(table(category_BC[:, c]) for c, table in enumerate(self.user_category))]
        hidden_BH = torch.relu(self.user_in(torch.cat(own, 1)))
        return self._unit(pooled_BD + self.user_out(hidden_BH))

    def item(self, id_M: Tensor, static_MS: Tensor, category_MC: Tensor) -> Tensor:
        """item_MD from the id's row (0: none of its own) and the item's columns."""
        return self._unit(self.id(id_M) + self._columns(static_MS, category_MC))

    def _columns(self, static_MS: Tensor, category_MC: Tensor) -> Tensor:
        own = [static_MS, *(table(category_MC[:, c]) for c, table in enumerate(self.item_category))]
        own_MX = torch.cat(own, 1)
        if not own_MX.shape[1]:
            own_MX = own_MX[:1]  # without columns all items are alike: once for all of them
        columns_MD: Tensor = self.item_out(torch.relu(self.item_in(own_MX)))
        return columns_MD.expand(len(static_MS), -1)

    def _in_history(self, id_U: Tensor) -> Tensor:
        own_UD: Tensor = self.id(id_U)
        return own_UD if self.history is None else own_UD + self.history(id_U)

    def _unit(self, x: Tensor) -> Tensor:
        unit: Tensor = F.normalize(x.float(), dim=1, eps=1e-6) / math.sqrt(self.temperature)
        return unit


def _bagged(value_UD: Tensor, of_BL: Tensor, weight_BL: Tensor) -> Tensor:
    bagged_BD: Tensor = F.embedding_bag(of_BL, value_UD, per_sample_weights=weight_BL, mode="sum")
    return bagged_BD


def _linear(n: int, to: int, bias: bool = True) -> nn.Linear:
    """A linear layer, of no inputs too: torch warns of drawing nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nn.Linear(n, to, bias=bias)

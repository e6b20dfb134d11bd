"""The network behind the ranker `mmoe`: user once, candidates many.

B rows, N candidates of one user, L history positions, M = L + 1, D embedding, U user vector, T objectives, C columns
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from feedwell.nn.attention import TargetAttention
from feedwell.nn.cross import CrossLayers
from feedwell.nn.embedding import ColumnTables, RowTable
from feedwell.nn.experts import Experts
from feedwell.scorers._inputs import N_AGES, Array, Sizes

USER_INPUTS = ("user_numbers", "user_rows", "history", "types", "ages")
ITEM_INPUTS = ("item_numbers", "item_rows", "item")
"""And "content", where the network reads what items say."""
STATE = ("user", "keys", "values", "bias")
State = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    embedding_dim: int
    category_dim: int
    user_dim: int
    cross_layers: int
    experts: int
    expert_layers: tuple[int, ...]
    dropout: float
    unknown_share: float


class Network(nn.Module):
    """A user tower, target attention over the history, cross layers, and experts with a gate per objective.

    Padding of a history has type -1; an unknown item or category has row -1 and a vector of its own. What a candidate
    says is added to its vector, so that an item of which nothing else is known has one.
    """

    def __init__(self, sizes: Sizes, made: Architecture) -> None:
        super().__init__()
        dim = made.embedding_dim
        self.items = RowTable(sizes.n_items, dim, made.unknown_share)
        self.types = nn.Embedding(sizes.n_types, dim)
        self.ages = nn.Embedding(N_AGES, dim)
        self.age_bias = nn.Embedding(N_AGES, 1)
        nn.init.normal_(self.types.weight, std=0.1)
        nn.init.normal_(self.ages.weight, std=0.1)
        nn.init.zeros_(self.age_bias.weight)
        self.content = nn.Linear(sizes.content, dim, bias=False) if sizes.content else None
        self.item_inputs = (*ITEM_INPUTS, "content") if sizes.content else ITEM_INPUTS
        self.attention = TargetAttention(dim)
        self.user_tables = ColumnTables(sizes.user_vocabularies, made.category_dim, made.unknown_share)
        self.item_tables = ColumnTables(sizes.item_vocabularies, made.category_dim, made.unknown_share)
        width = sizes.user_numbers + self.user_tables.width + dim + 1
        self.user_tower = nn.Sequential(
            nn.Linear(width, 2 * made.user_dim), nn.ReLU(), nn.Linear(2 * made.user_dim, made.user_dim)
        )
        width = made.user_dim + sizes.item_numbers + self.item_tables.width + 3 * dim
        self.cross = CrossLayers(width, made.cross_layers)
        self.experts = Experts(width, made.expert_layers, made.experts, sizes.n_objectives, made.dropout)

    def encode_user(
        self, user_numbers: Tensor, user_rows: Tensor, history: Tensor, types: Tensor, ages: Tensor
    ) -> State:
        """(user_BU, keys_BMD, values_BMD, bias_BM) of B users; `history`, `types`, `ages` are [B, L]."""
        inside_BL = types >= 0
        place_BL = ages.clamp(min=0)
        history_BLD = self.items(history) + self.types(types.clamp(min=0)) + self.ages(place_BL)
        weight_BL1 = inside_BL.float()[..., None]
        count_B1 = weight_BL1.sum(dim=1)
        mean_BD = (history_BLD * weight_BL1).sum(dim=1) / count_B1.clamp(min=1.0)
        about = torch.cat([user_numbers, self.user_tables(user_rows), mean_BD, torch.log1p(count_B1)], dim=1)
        return (self.user_tower(about), *self.attention.encode(history_BLD, self.age_bias(place_BL)[..., 0], inside_BL))

    def score(
        self, state: State, item_numbers: Tensor, item_rows: Tensor, item: Tensor, content: Tensor | None = None
    ) -> Tensor:
        """z_BT: row b's candidate for row b's user."""
        user_BU, keys_BMD, values_BMD, bias_BM = state
        item_BD = self._item(item, content)
        pooled_BD = self.attention(item_BD, keys_BMD, values_BMD, bias_BM)
        return self._judge(user_BU, item_BD, pooled_BD, torch.cat([item_numbers, self.item_tables(item_rows)], dim=1))

    def score_of_one(
        self, state: State, item_numbers: Tensor, item_rows: Tensor, item: Tensor, content: Tensor | None = None
    ) -> Tensor:
        """z_NT: N candidates for one user (B = 1)."""
        user_1U, keys_1MD, values_1MD, bias_1M = state
        item_ND = self._item(item, content)
        pooled_ND = self.attention.of_one(item_ND, keys_1MD[0], values_1MD[0], bias_1M[0])
        user_NU = user_1U.expand(item_numbers.shape[0], -1)
        return self._judge(user_NU, item_ND, pooled_ND, torch.cat([item_numbers, self.item_tables(item_rows)], dim=1))

    def _item(self, item: Tensor, content: Tensor | None) -> Tensor:
        vectors: Tensor = self.items(item)
        return vectors if self.content is None or content is None else vectors + self.content(content)

    def _judge(self, user: Tensor, item: Tensor, pooled: Tensor, about: Tensor) -> Tensor:
        judged: Tensor = self.experts(self.cross(torch.cat([user, item, pooled, item * pooled, about], dim=1)))
        return judged

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """z_BT of training rows."""
        state = self.encode_user(*(batch[name] for name in USER_INPUTS))
        return self.score(state, *(batch[name] for name in self.item_inputs))


class EncodeUser(nn.Module):
    """`Network.encode_user` alone, for export."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, user_numbers: Tensor, user_rows: Tensor, history: Tensor, types: Tensor, ages: Tensor) -> State:
        return self.network.encode_user(user_numbers, user_rows, history, types, ages)


class Score(nn.Module):
    """`Network.score_of_one` alone, for export."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        user: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor,
        item_numbers: Tensor,
        item_rows: Tensor,
        item: Tensor,
        content: Tensor | None = None,
    ) -> Tensor:
        return self.network.score_of_one((user, keys, values, bias), item_numbers, item_rows, item, content)


class TorchEngine:
    """The network as fitted, before it is written: arrays in, arrays out."""

    def __init__(self, network: Network) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def encode_user(self, **inputs: Array) -> list[Array]:
        return [value.numpy() for value in self.network.encode_user(**_tensors(inputs))]

    @torch.no_grad()
    def score(self, **inputs: Array) -> Array:
        given = _tensors(inputs)
        state: State = tuple(given.pop(name) for name in STATE)  # type: ignore[assignment]
        z_NT: Array = self.network.score_of_one(state, **given).numpy()
        return z_NT


def _tensors(inputs: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in inputs.items()}

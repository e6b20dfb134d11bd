"""What of a user's history speaks for one candidate: attention from the candidate to the history.

B rows, N candidates of one user, L history positions, D embedding
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TargetAttention(nn.Module):
    """Pools a history for each candidate: softmax over L of ⟨q(candidate), k_l⟩ / √D + b(age_l), then Σ a_l v_l.

    In the manner of Zhou et al. (2018, DIN), with products for its small network and a softmax over positions. One more
    position, learned, takes the weight where nothing in the history speaks for the candidate or there is no history.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.nothing = nn.Parameter(torch.zeros(2, dim))
        self._scale = 1.0 / math.sqrt(dim)

    def encode(self, history_BLD: Tensor, bias_BL: Tensor, inside_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(keys, values [B, L + 1, D], bias [B, L + 1]), computed once for all candidates; the first position is the
        learned one, `bias` is -inf where there is no event."""
        b = history_BLD.shape[0]
        keys = torch.cat([self.nothing[0].expand(b, 1, -1), self.key(history_BLD)], dim=1)
        values = torch.cat([self.nothing[1].expand(b, 1, -1), self.value(history_BLD)], dim=1)
        outside = torch.where(inside_BL, bias_BL, float("-inf"))
        return keys, values, torch.cat([torch.zeros_like(outside[:, :1]), outside], dim=1)

    def forward(self, candidate_BD: Tensor, keys_BMD: Tensor, values_BMD: Tensor, bias_BM: Tensor) -> Tensor:
        """[B, D]: row b's candidate against row b's history."""
        q_B1D = (self.query(candidate_BD) * self._scale)[:, None, :]
        weight_BM = torch.softmax((q_B1D * keys_BMD).sum(dim=2) + bias_BM, dim=1)
        return (weight_BM[..., None] * values_BMD).sum(dim=1)

    def of_one(self, candidate_ND: Tensor, keys_MD: Tensor, values_MD: Tensor, bias_M: Tensor) -> Tensor:
        """[N, D]: all candidates against one history, as two products."""
        scores_NM = (self.query(candidate_ND) * self._scale) @ keys_MD.T
        return torch.softmax(scores_NM + bias_M, dim=1) @ values_MD

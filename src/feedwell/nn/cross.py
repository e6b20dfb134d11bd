"""Cross layers: products of features up to a bounded degree.

B rows, D features
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CrossLayers(nn.Module):
    """[B, D] → [B, D]: x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l; n layers reach products of degree n + 1.

    DCN-V2 (Wang et al. 2021, eq. 1), full-rank W. 0 layers pass x on.
    """

    def __init__(self, width: int, n_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(n_layers))

    def forward(self, x_BD: Tensor) -> Tensor:
        crossed_BD = x_BD
        for layer in self.layers:
            crossed_BD = torch.addcmul(crossed_BD, x_BD, layer(crossed_BD))
        return crossed_BD

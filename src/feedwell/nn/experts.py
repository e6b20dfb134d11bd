"""Experts shared by all objectives, and gates by which each objective weighs them.

B rows, D features, H hidden, E experts, T objectives
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Experts(nn.Module):
    """[B, D] → z_BT: per objective a gated sum of experts, z_t = Σ_e g_te ⟨w_t, f_e(x)⟩ + b_t g_t = softmax(G_t x).

    MMoE (Ma et al. 2018, eq. 6 and 7). With linear towers, as here, the gates may weigh the experts' T outputs in place
    of their H hidden values, which is the same number for 1/H of the work. One expert is a shared bottom.
    """

    def __init__(self, width: int, hidden: tuple[int, ...], n_experts: int, n_objectives: int, dropout: float) -> None:
        super().__init__()
        self.n_experts, self.n_objectives = n_experts, n_objectives
        self.experts = nn.ModuleList(_layers(width, hidden, dropout) for _ in range(n_experts))
        self.towers = nn.Linear(hidden[-1], n_objectives, bias=False)
        self.bias = nn.Parameter(torch.zeros(n_objectives))
        self.gates = nn.Linear(width, n_experts * n_objectives) if n_experts > 1 else None

    def forward(self, x_BD: Tensor) -> Tensor:
        outputs = [self.towers(expert(x_BD)) for expert in self.experts]
        if self.gates is None:
            only_BT: Tensor = outputs[0] + self.bias
            return only_BT
        # Experts last: softmax and sum over neighbours in memory are several times as fast in ONNX Runtime.
        gate_BTE = torch.softmax(self.gates(x_BD).view(-1, self.n_experts, self.n_objectives).transpose(1, 2), dim=2)
        z_BT: Tensor = (gate_BTE * torch.stack(outputs, dim=2)).sum(dim=2) + self.bias
        return z_BT


def _layers(width: int, hidden: tuple[int, ...], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*layers)

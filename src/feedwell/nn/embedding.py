"""Embedding tables of rows, with an unknown row.

B rows, C columns
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RowTable(nn.Embedding):
    """Vectors of a vocabulary's rows; row -1, unknown, has its own, which training takes with probability `drop`.

    Its gradient is sparse: the loop steps such tables by row-wise Adagrad.
    """

    def __init__(self, n_rows: int, dim: int, drop: float = 0.0) -> None:
        super().__init__(n_rows + 1, dim, sparse=True)
        self.drop = drop
        with torch.no_grad():
            self.weight.normal_(0.0, 0.1)
            self.weight[0] = 0.0

    def forward(self, rows_B: Tensor) -> Tensor:
        shifted_B = rows_B + 1
        if self.training and self.drop:
            shifted_B = torch.where(torch.rand(shifted_B.shape, device=shifted_B.device) < self.drop, 0, shifted_B)
        return super().forward(shifted_B)


class ColumnTables(nn.Module):
    """rows_BC of C categorical columns → their vectors side by side [B, C × dim]."""

    def __init__(self, sizes: tuple[int, ...], dim: int, drop: float = 0.0) -> None:
        super().__init__()
        self.tables = nn.ModuleList(RowTable(size, dim, drop) for size in sizes)
        self.width = dim * len(sizes)

    def forward(self, rows_BC: Tensor) -> Tensor:
        if not len(self.tables):
            return torch.zeros((rows_BC.shape[0], 0), device=rows_BC.device)
        return torch.cat([table(rows_BC[:, c]) for c, table in enumerate(self.tables)], dim=1)

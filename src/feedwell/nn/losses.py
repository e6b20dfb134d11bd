"""Losses that a whole catalog would be too large for.

B rows, M columns (sampled items), D embedding
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 512


def sampled_softmax(user_BD: Tensor, item_MD: Tensor, log_q_M: Tensor, id_M: Tensor, chunk: int = CHUNK) -> Tensor:
    """Σ_b -log softmax over M of ⟨u_b, v_m⟩ - log q_m, where column b is row b's positive: in-batch negatives first.

    Yi et al. (2019), equation 3: `log_q_M` is the log of how often a column's item is expected among the columns, and
    0 throughout leaves the correction off. Another column with the positive's item (`id_M`) is not its negative. Logits
    exist `chunk` rows at a time, and their gradients are taken on the way: memory is chunk × M, not B × M.
    """
    total: Tensor = _SampledSoftmax.apply(user_BD, item_MD, log_q_M, id_M, chunk)  # type: ignore[no-untyped-call]
    return total


class _SampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, user_BD: Tensor, item_MD: Tensor, log_q_M: Tensor, id_M: Tensor, chunk: int) -> Tensor:
        grad_user_BD = torch.empty_like(user_BD)
        grad_item_MD = torch.zeros_like(item_MD)
        id_M = id_M.int()
        total = torch.zeros((), dtype=torch.float32, device=user_BD.device)
        for at in range(0, len(user_BD), chunk):
            user_CD = user_BD[at : at + chunk]
            place_C = torch.arange(len(user_CD), device=user_BD.device)
            positive_C = at + place_C
            logit_CM = torch.addmm(-log_q_M, user_CD, item_MD.T).float()
            same_CM = id_M[positive_C][:, None] == id_M
            same_CM[place_C, positive_C] = False
            logit_CM.masked_fill_(same_CM, -torch.inf)
            own_C = logit_CM[place_C, positive_C]
            most_C1 = logit_CM.amax(1, keepdim=True)
            # In place: the logits become the softmax, and no second block of this size is written.
            slope_CM = logit_CM.sub_(most_C1).exp_()
            sum_C1 = slope_CM.sum(1, keepdim=True)
            total += (sum_C1.log() + most_C1).sum() - own_C.sum()
            slope_CM /= sum_C1
            slope_CM[place_C, positive_C] -= 1
            slope_CM = slope_CM.to(item_MD.dtype)
            grad_user_BD[at : at + chunk] = slope_CM @ item_MD
            grad_item_MD.addmm_(slope_CM.T, user_CD.to(item_MD.dtype))
        ctx.save_for_backward(grad_user_BD, grad_item_MD)
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        grad_user_BD, grad_item_MD = ctx.saved_tensors
        return grad_user_BD * slope, grad_item_MD * slope, None, None, None

"""Losses of objectives by their kind, over rows whose label is known.

B rows, T objectives
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

BINARY, POISSON, SQUARED = "binary", "poisson", "squared"
LARGEST_EXPONENT = 50.0
"""exp of more is no rate of anything; it keeps a wild logit from becoming an infinity."""


def objective_losses(z_BT: Tensor, y_BT: Tensor, kinds: Sequence[str]) -> Tensor:
    """[B, T]: the negative log likelihood of each label given its link's input z; 0 where the label is NaN (unknown).

    "binary": Bernoulli of sigmoid(z); "poisson": exp(z) - y z, whose minimiser keeps the mean of anything that is not
    negative; "squared": half the squared error.
    """
    known_BT = ~torch.isnan(y_BT)
    y_BT = torch.where(known_BT, y_BT, 0.0)
    z_BT = z_BT.float()
    columns = [_LOSSES[kind](z_BT[:, t], y_BT[:, t]) for t, kind in enumerate(kinds)]
    return torch.where(known_BT, torch.stack(columns, dim=1), 0.0)


def _binary(z_B: Tensor, y_B: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(z_B, y_B, reduction="none")


def _poisson(z_B: Tensor, y_B: Tensor) -> Tensor:
    z_B = z_B.clamp(max=LARGEST_EXPONENT)
    return z_B.exp() - y_B * z_B


def _squared(z_B: Tensor, y_B: Tensor) -> Tensor:
    return 0.5 * (z_B - y_B) ** 2


_LOSSES = {BINARY: _binary, POISSON: _poisson, SQUARED: _squared}

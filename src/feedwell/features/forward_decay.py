"""Forward decay: a weight that grows with the event's time, so that a stored score never has to decay.

Time runs in steps of half_life / 512, and 4096 steps (8 half-lives) make a block. A score is an integer in units of its
block: weights lie in [2^24, 2^32), and a block's end shifts the sum by 8 bits. Integers make it independent of how the
log was cut into batches; the steps make a weight off by at most 0.14 %. (Cormode et al. 2009, "Forward decay".)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_STEPS = 512
_BLOCK_BITS = 12
SHIFT = 8
_UNIT_BITS = 24
WEIGHTS: Ints = np.floor(np.exp2(_UNIT_BITS + np.arange(1 << _BLOCK_BITS) / _STEPS)).astype(np.int64)


def step_us(half_life_us: int) -> int:
    return max(1, half_life_us // _STEPS)


def block_and_weight(at: Ints, half_life_us: int) -> tuple[Ints, Ints]:
    """Each event's block and its weight in that block's units."""
    step = at // step_us(half_life_us)
    return step >> _BLOCK_BITS, WEIGHTS[step & ((1 << _BLOCK_BITS) - 1)]


def order_of(block: Ints, score: Ints) -> NDArray[np.float64]:
    """One number that orders (block, score) pairs: log2 of the score in units of block 0."""
    order: NDArray[np.float64] = np.add(SHIFT * block, np.log2(score.astype(np.float64)), dtype=np.float64)
    return order


def decayed_at(order: NDArray[np.float64], t: int, half_life_us: int) -> NDArray[np.float64]:
    """The decayed counts at t that `order_of` stands for."""
    return np.exp2(order - _UNIT_BITS - t / (_STEPS * step_us(half_life_us)))

"""Noise by address: a number is a function of its seed and keys, never of how many were drawn before it.

Two arms of a paired comparison ask about different items in different order and still meet the same luck for the same
(user, item, time): common random numbers. A generator per address would cost 20 µs each; a mixed counter costs
nanoseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.rng import derive_seed

Float = NDArray[np.float64]
Int = NDArray[np.int64]
_Words = NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = (np.uint64(n) for n in (30, 27, 31, 11))


def channel(seed: int, *names: str) -> int:
    """The root of one kind of noise, e.g. `channel(seed, "click")`."""
    return derive_seed(seed, "world", *names)


def uniform(root: int | _Words, *keys: int | Int) -> Float:
    """Uniforms in (0, 1) at each address, in the shape that root and keys broadcast to (1-d at least)."""
    state: _Words = np.atleast_1d(np.asarray(root, np.uint64))
    for key in keys:
        state = _mix(state ^ _mix(np.atleast_1d(np.asarray(key)).astype(np.uint64)))
    return ((state >> _S11).astype(np.float64) + 0.5) * 2.0**-53


def uniform_at(root: int, *keys: int) -> float:
    """One uniform, in plain integers: a quarter of the array's cost for a single address."""
    state = root
    for key in keys:
        state = _mix_one(state ^ _mix_one(key & _MASK))
    return ((state >> 11) + 0.5) * 2.0**-53


def normal(root: int, *keys: int | Int) -> Float:
    """Standard normals at each address (Box-Muller on two uniforms)."""
    u = uniform(_mix_one(root ^ 1), *keys)
    v = uniform(_mix_one(root ^ 2), *keys)
    result: Float = np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * v)
    return result


def normal_at(root: int, *keys: int) -> float:
    """One standard normal; equal to `normal` at the same address."""
    u = uniform_at(_mix_one(root ^ 1), *keys)
    v = uniform_at(_mix_one(root ^ 2), *keys)
    return float(np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * v))


def _mix(words: Any) -> _Words:
    """splitmix64's finaliser (Steele, Lea, Flood 2014): every bit of the input moves half of the output's bits."""
    z = words + np.uint64(_GOLDEN)
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    mixed: _Words = z ^ (z >> _S31)
    return mixed


def _mix_one(word: int) -> int:
    z = (word + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * int(_M1)) & _MASK
    z = ((z ^ (z >> 27)) * int(_M2)) & _MASK
    return z ^ (z >> 31)

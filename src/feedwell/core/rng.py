"""Randomness is passed in, never taken: every stream derives from a seed and names."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *names: str) -> int:
    """A 64-bit seed for the stream called `names` under `seed`; equal on every machine."""
    text = "\x1f".join((str(seed), *names)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def stream(seed: int, *names: str) -> np.random.Generator:
    """The generator of that stream: `stream(project.seed, request_id)` replays any request."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))

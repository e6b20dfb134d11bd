"""Which arm of an experiment a unit is in: a hash, so that every process and every replay agrees."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

CONTROL = "control"


def bucket(unit: str, salt: str) -> float:
    """A number in [0, 1) that depends on the unit and the salt alone."""
    digest = hashlib.blake2b(f"{salt}\x1f{unit}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def assign(unit: str, experiment: str, shares: Mapping[str, float]) -> str:
    """The unit's arm; `shares` sum to at most 1 and what is left over is control."""
    at, edge = bucket(unit, experiment), 0.0
    for arm, share in shares.items():
        edge += share
        if at < edge:
            return arm
    return CONTROL

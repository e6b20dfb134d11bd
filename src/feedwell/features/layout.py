"""Where each fact stands in the packed rows of the state: the format that fold and hydrate write and latest reads.

A `Facts` row is int64 words, little-endian: per hop the number of tiles; totals; moments; last values; then per hop
its tiles, oldest first, each (tile index, cumulative sums of that hop's tallies at the end of the tile). The tile
before the reach of the longest window is kept as the base that differences start from.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from feedwell.core.event import NO_KEY
from feedwell.features.measures import EMPTY
from feedwell.features.views import Catalog, Facts

Words = NDArray[np.int64]
WORD = 8
NO_OBJECTS = b""
TYPE_BITS = 6
"""A sequence entry is two words: the object's key, and `available_at << 6 | index of its type`."""
MAX_SEQUENCE_TYPES = 1 << TYPE_BITS
LEADERBOARD_TOP = b"\xff" * 8
"""Sorts after every key (keys are not negative)."""


@dataclass(frozen=True)
class FactsLayout:
    """Word positions in a row of one `Facts` view."""

    view: Facts

    @cached_property
    def totals(self) -> int:
        return len(self.view.tiles)

    @cached_property
    def moments(self) -> int:
        return self.totals + len(self.view.tallies)

    @cached_property
    def last_values(self) -> int:
        return self.moments + len(self.view.moments)

    @cached_property
    def fixed(self) -> int:
        """Words before the first tile."""
        return self.last_values + len(self.view.last_values)

    @cached_property
    def strides(self) -> Words:
        """Words per tile, by hop."""
        return np.array([1 + len(tiles.tallies) for tiles in self.view.tiles], np.int64)

    @cached_property
    def empty(self) -> bytes:
        """The row of a key that nothing is known about."""
        row = np.zeros(self.fixed, np.int64)
        row[self.moments :] = EMPTY
        return row.astype("<i8").tobytes()


@dataclass(frozen=True)
class CatalogLayout:
    """A row of a `Catalog` view: keys of derived entities as int64, then columns as float64."""

    view: Catalog

    @cached_property
    def empty(self) -> bytes:
        return pack_catalog(
            np.full((1, len(self.view.derived)), NO_KEY, np.int64), np.full((1, len(self.view.columns)), np.nan)
        )[0]


@lru_cache(maxsize=256)
def facts_layout(view: Facts) -> FactsLayout:
    return FactsLayout(view)


@lru_cache(maxsize=256)
def catalog_layout(view: Catalog) -> CatalogLayout:
    return CatalogLayout(view)


def row_keys(prefix: bytes, keys: Many[NDArray[np.int64]]) -> list[bytes]:
    """The state's keys of N rows: prefix and each entity key in 8 big-endian bytes, so that they sort as numbers."""
    n, width = len(keys[0]), len(prefix) + WORD * len(keys)
    table = np.empty((n, width), np.uint8)
    table[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    for i, column in enumerate(keys):
        at = len(prefix) + WORD * i
        table[:, at : at + WORD] = column.astype(">i8").view(np.uint8).reshape(n, WORD)
    raw = table.tobytes()
    return [raw[i : i + width] for i in range(0, n * width, width)]


def row_key(prefix: bytes, *keys: int) -> bytes:
    return prefix + b"".join(key.to_bytes(WORD, "big") for key in keys)


def pack_catalog(derived_ND: Words, columns_NC: NDArray[np.float64]) -> list[bytes]:
    """One row per catalog entry."""
    words = np.concatenate([derived_ND, columns_NC.view(np.int64).reshape(columns_NC.shape)], axis=1)
    return split_words(np.ascontiguousarray(words), np.full(len(words), words.shape[1], np.int64))


def split_words(words: Words, lengths: Words) -> list[bytes]:
    """Consecutive runs of `lengths` words, each as bytes."""
    raw = words.astype("<i8", copy=False).tobytes()
    edges = (np.concatenate([[0], np.cumsum(lengths)]) * WORD).tolist()
    return [raw[a:b] for a, b in itertools.pairwise(edges)]


def join_words(rows: Many[bytes]) -> tuple[Words, Words]:
    """All rows' words in one array, and where each row starts (N + 1 edges)."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows)) // WORD
    edges = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=edges[1:])
    return np.frombuffer(b"".join(rows), "<i8").astype(np.int64, copy=False), edges


def spans(starts: Words, lengths: Words) -> Words:
    """The indices start, start + 1, ... of every run, one after the other.

    >>> spans(np.array([5, 9]), np.array([2, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(total)

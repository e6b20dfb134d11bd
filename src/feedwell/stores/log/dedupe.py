"""Which event ids the sealed log holds: exact, for ever, in files of sorted 128-bit ids with a Bloom filter each.

A run is one file: a header, the first halves sorted, the second halves, the filter. Runs are memory-mapped, so that all
processes share one copy, and merged in tiers, so that there are about log2(events / seal size) of them.

Q queries, N ids of a run
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feedwell.core.errors import CorruptArtifact
from feedwell.stores.durable import sync_file

Words = NDArray[np.uint64]
_MAGIC = 0x3130_4E55_5244_4957
_HEADER = 4
_MAX_MERGED = 16_000_000
_SHIFTS = ((0, 0), (0, 32), (1, 0), (1, 32))


class Run:
    """One file of sorted ids, memory-mapped."""

    def __init__(self, path: Path) -> None:
        words = np.memmap(path, "<u8", "r")
        if len(words) < _HEADER or words[0] != _MAGIC:
            raise CorruptArtifact(f"{path} is not a file of event ids: restore it from a copy of the log")
        self.rows, bits = int(words[1]), int(words[2])
        ends = _HEADER + self.rows, _HEADER + 2 * self.rows
        self.first_N, self.second_N = words[_HEADER : ends[0]], words[ends[0] : ends[1]]
        self._filter = np.asarray(words[ends[1] :]).view(np.uint8)
        self._mask = np.uint64((1 << bits) - 1)

    def contains(self, words_Q2: Words) -> NDArray[np.bool_]:
        """Whether each id is in the file; about 20 µs for a hundred that are not."""
        found_Q = self._maybe(words_Q2)
        for row in np.flatnonzero(found_Q) if found_Q.sum() < 64 else ():
            found_Q[row] = bool(self._exact(words_Q2[row : row + 1])[0])
        return self._exact_where(words_Q2, found_Q) if found_Q.sum() >= 64 else found_Q

    def _maybe(self, words_Q2: Words) -> NDArray[np.bool_]:
        hit_Q = np.ones(len(words_Q2), np.bool_)
        for half, shift in _SHIFTS:
            place_Q = (words_Q2[:, half] >> np.uint64(shift)) & self._mask
            byte_Q = self._filter[(place_Q >> np.uint64(3)).astype(np.int64)]
            hit_Q &= (byte_Q >> (place_Q & np.uint64(7)).astype(np.uint8)) & 1 != 0
        return hit_Q

    def _exact_where(self, words_Q2: Words, maybe_Q: NDArray[np.bool_]) -> NDArray[np.bool_]:
        rows = np.flatnonzero(maybe_Q)
        rows = rows[np.argsort(words_Q2[rows, 0], kind="stable")]
        found_Q = np.zeros(len(words_Q2), np.bool_)
        found_Q[rows] = self._exact(words_Q2[rows])
        return found_Q

    def _exact(self, words_Q2: Words) -> NDArray[np.bool_]:
        at_Q = np.searchsorted(self.first_N, words_Q2[:, 0])
        found_Q = np.zeros(len(words_Q2), np.bool_)
        # Equal first halves of different ids are next to each other; with 64 bits there is hardly ever a second step.
        open_Q = np.flatnonzero(at_Q < self.rows)
        while len(open_Q):
            same = self.first_N[at_Q[open_Q]] == words_Q2[open_Q, 0]
            open_Q = open_Q[same]
            found_Q[open_Q] |= self.second_N[at_Q[open_Q]] == words_Q2[open_Q, 1]
            open_Q = open_Q[~found_Q[open_Q]]
            at_Q[open_Q] += 1
            open_Q = open_Q[at_Q[open_Q] < self.rows]
        return found_Q

    def words(self) -> Words:
        """`words_N2`, all ids."""
        return np.stack([self.first_N, self.second_N], axis=1)


def write_run(path: Path, words_N2: Words) -> None:
    """A durable file of these distinct ids."""
    words_N2 = words_N2[np.argsort(words_N2[:, 0])]  # equal first halves in any order: a lookup walks over them
    bits = max(9, int(len(words_N2) * 10 - 1).bit_length()) if len(words_N2) else 9
    mask = np.uint64((1 << bits) - 1)
    taken = np.zeros(1 << bits, np.bool_)
    for half, shift in _SHIFTS:
        taken[((words_N2[:, half] >> np.uint64(shift)) & mask).astype(np.int64)] = True
    with open(path, "wb") as file:
        np.array([_MAGIC, len(words_N2), bits, 0], "<u8").tofile(file)
        np.ascontiguousarray(words_N2[:, 0], "<u8").tofile(file)
        np.ascontiguousarray(words_N2[:, 1], "<u8").tofile(file)
        np.packbits(taken, bitorder="little").tofile(file)
    sync_file(path)


class SealedIds:
    """All runs that a manifest lists; opens a file once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Run] = {}

    def contains(self, names: Sequence[str], words_Q2: Words) -> NDArray[np.bool_]:
        """Whether each id is in any of those runs. FileNotFoundError when a merge has replaced one meanwhile."""
        found_Q = np.zeros(len(words_Q2), np.bool_)
        for name in names:
            found_Q |= self._run(name).contains(words_Q2)
        return found_Q

    def merge(self, names: Sequence[str], words_N2: Words, new_name: str) -> tuple[list[str], list[str]]:
        """(the runs to list from now on, those that they replace), with the new ids in a new file."""
        kept, replaced, parts = list(names), list[str](), [words_N2]
        total = len(words_N2)
        while kept and self._run(kept[-1]).rows <= 2 * total and self._run(kept[-1]).rows + total <= _MAX_MERGED:
            replaced.append(kept.pop())
            parts.append(self._run(replaced[-1]).words())
            total += len(parts[-1])
        write_run(self._folder / new_name, np.concatenate(parts))
        return [*kept, new_name], replaced

    def drop(self, names: Sequence[str]) -> None:
        """Those files are gone from the disk; a process that still maps one keeps it."""
        for name in names:
            self._open.pop(name, None)
            (self._folder / name).unlink(missing_ok=True)

    def _run(self, name: str) -> Run:
        if name not in self._open:
            self._open[name] = Run(self._folder / name)
        return self._open[name]


def fresh_digests(n: int) -> list[bytes]:
    """Ids for events that came without one."""
    random = os.urandom(16 * n)
    return [random[i : i + 16] for i in range(0, 16 * n, 16)]

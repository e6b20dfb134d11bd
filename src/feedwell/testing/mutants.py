"""Six rules of features, each broken in one reading: what a parity check must catch to be worth its name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from feedwell.core import columns
from feedwell.core.clock import MINUTE
from feedwell.features import asof, probe, scan
from feedwell.features.batch import Batch
from feedwell.features.measures import Selection

# `feedwell.features.asof` is the function; the module behind it is what a mutant changes.
_ASOF = sys.modules[asof.__module__]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`breaks()` holds while the context is open; only `reading` may then differ."""

    rule: str
    reading: str
    breaks: Callable[[], AbstractContextManager[Any]]


def _hop() -> AbstractContextManager[Any]:
    """Edges move by the minute, whatever the window."""
    return patch.object(probe, "hop_of", lambda window: MINUTE)


def _boundary() -> AbstractContextManager[Any]:
    """An event at t itself is seen: `<=` for `<`."""

    def before(edges: probe.Edges, name: object, time_R: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.searchsorted(edges._at_E, time_R, side="right")
        return found

    return patch.object(probe.Edges, "_before", before)


def _axis() -> AbstractContextManager[Any]:
    """Events count by when they happened, not by when they could be known."""
    names = {name: value for name, value in vars(columns).items() if name.isupper()}

    def read_log(*args: Any, **options: Any) -> scan.BatchLog:
        with patch.object(scan, "c", SimpleNamespace(**{**names, "AVAILABLE_AT": "ts"})):
            return scan.read_log(*args, **options)

    return patch.object(_ASOF, "read_log", read_log)


def _ties() -> AbstractContextManager[Any]:
    """Events of one instant stand in the opposite of log order."""

    def read_log(*args: Any, **options: Any) -> scan.BatchLog:
        log = scan.read_log(*args, **options)
        order = np.lexsort((-np.arange(len(log)), log.at_E))
        return replace(
            log,
            type_E=log.type_E[order],
            keys={name: column[order] for name, column in log.keys.items()},
            value_E=None if log.value_E is None else log.value_E[order],
            valued_E=None if log.valued_E is None else log.valued_E[order],
            where={text: mask[order] for text, mask in log.where.items()},
        )

    return patch.object(_ASOF, "read_log", read_log)


def _undo() -> AbstractContextManager[Any]:
    """Who unfollowed still follows."""
    mask = Batch.mask

    def deaf(batch: Batch, selection: Selection) -> np.ndarray:
        found = mask(batch, selection)
        return np.zeros_like(found) if selection.events in (("unlike",), ("unfollow",)) else found

    return patch.object(Batch, "mask", deaf)


def _null_key() -> AbstractContextManager[Any]:
    """Events that name nobody are put down to key 0."""
    key = Batch.key
    return patch.object(Batch, "key", lambda batch, entity: np.maximum(key(batch, entity), 0))


MUTANTS = (
    Mutant(rule="hop", reading="asof", breaks=_hop),
    Mutant(rule="boundary", reading="asof", breaks=_boundary),
    Mutant(rule="axis", reading="asof", breaks=_axis),
    Mutant(rule="tie order", reading="asof", breaks=_ties),
    Mutant(rule="undo", reading="fold", breaks=_undo),
    Mutant(rule="null key", reading="fold", breaks=_null_key),
)

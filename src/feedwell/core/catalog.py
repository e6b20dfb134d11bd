"""CatalogTable: the catalog as a part sees it, in columns; Deltas: what parts have made of rows newer than they are.

M objects of one entity
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from feedwell.core.request import NO_KEYS, Keys


@dataclass(frozen=True, kw_only=True)
class CatalogTable:
    """The newest row of each object as of one moment.

    `keys_M` ascending, distinct; `at_M` when each row became available; `numbers` column → value_M (NaN unknown; of a
    column that an entity derives from, the entity's key); `text_M` the columns that are content, joined.
    """

    keys_M: Keys = field(default_factory=lambda: NO_KEYS)
    at_M: Keys = field(default_factory=lambda: NO_KEYS)
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    text_M: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys_M)

    def take(self, keep_M: NDArray[np.bool_]) -> CatalogTable:
        """Those rows only."""
        return CatalogTable(
            keys_M=self.keys_M[keep_M],
            at_M=self.at_M[keep_M],
            numbers={name: value_M[keep_M] for name, value_M in self.numbers.items()},
            text_M=tuple(self.text_M[m] for m in np.flatnonzero(keep_M)),
        )


@dataclass(frozen=True, kw_only=True)
class CatalogAsOf:
    """The rows that were available before `until` (µs). `offset`: up to where the log's are in it; -1: not known."""

    table: CatalogTable = field(default_factory=CatalogTable)
    until: int = 0
    offset: int = -1


@dataclass(frozen=True, kw_only=True)
class Deltas:
    """What parts that follow the catalog know beyond their artifacts, as of an offset of the log. Never changed."""

    offset: int = -1
    by_part: Mapping[str, Any] = field(default_factory=dict)


NO_DELTAS = Deltas()


@runtime_checkable
class FollowsCatalog(Protocol):
    """A part that knows items whose catalog rows came after its artifact, without being trained again.

    The part never changes: `grown` makes a new, immutable delta of the previous one (None: none yet) and the rows that
    are new or changed, off the request path; a request brings the newest in `Request.deltas[name]`.
    """

    @property
    def catalog_offset(self) -> int:
        """Up to where the log's catalog rows are in the artifact; -1: not known, then it is given all of them."""
        ...

    def grown(self, rows: CatalogTable, delta: Any | None) -> Any: ...


def follows(part: Any) -> bool:
    """Whether the part is told of catalog rows; where its configuration decides, an attribute `follows` says so."""
    return isinstance(part, FollowsCatalog) and bool(getattr(part, "follows", True))

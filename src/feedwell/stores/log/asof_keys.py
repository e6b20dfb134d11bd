"""Derived keys as of a time: the versions of catalog rows, searched by (owner key, available_at).

V versions, E events
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedwell.core import columns as c
from feedwell.core.event import NO_KEY, catalog_type
from feedwell.stores.log.catalog import derived_names
from feedwell.stores.log.manifest import Manifest
from feedwell.stores.log.schema import rows_to_table
from feedwell.stores.log.segments import iterate

if TYPE_CHECKING:
    from feedwell.stores.log.log import EventLog
    from feedwell.stores.log.stage import Stage

_Keys = NDArray[np.int64]


@dataclass(frozen=True)
class Versions:
    """Catalog versions of one owner entity in log order: its key, since when, and the derived keys by name."""

    owner_V: _Keys
    at_V: _Keys
    derived: dict[str, _Keys]

    def __add__(self, later: Versions) -> Versions:
        """Both, the right one's after the left one's where their times are equal."""
        owner, at = np.concatenate([self.owner_V, later.owner_V]), np.concatenate([self.at_V, later.at_V])
        order = np.lexsort((np.arange(len(at)), at, owner))
        derived = {name: np.concatenate([self.derived[name], later.derived[name]])[order] for name in self.derived}
        return Versions(owner[order], at[order], derived)

    def at(self, name: str, owner_E: _Keys, at_E: _Keys) -> _Keys:
        """The derived key that each event's owner had then; -1 without one. Versions must be sorted (`__add__`)."""
        if not len(self.owner_V):
            return np.full(len(owner_E), NO_KEY, np.int64)
        first_E = np.searchsorted(self.owner_V, owner_E, "left")
        low_E, high_E = first_E.copy(), np.searchsorted(self.owner_V, owner_E, "right")
        # A binary search in each owner's stretch: the first version that is later than the event.
        while (open_E := low_E < high_E).any():
            middle_E = (low_E + high_E) // 2
            past_E = open_E & (self.at_V[np.minimum(middle_E, len(self.at_V) - 1)] > at_E)
            high_E = np.where(past_E, middle_E, high_E)
            low_E = np.where(open_E & ~past_E, middle_E + 1, low_E)
        found_E = low_E > first_E
        return np.where(found_E, self.derived[name][np.maximum(low_E - 1, 0)], NO_KEY)


def existing_versions(log: EventLog, manifest: Manifest, owner: str) -> Versions:
    """The versions that the log holds, sealed and hot."""
    kind, names = catalog_type(owner), derived_names(log.project, owner)
    parts = [log.schema.empty_table()]
    for segment in manifest.segments:
        if owner in segment.catalogs:
            tables = iterate(log.segments_folder / segment.file, log.schema)
            parts += [table.filter(pc.equal(table[c.TYPE], kind)) for table in tables]
    columns = ", ".join(f'"{name}"' for name in log.schema.names)
    query = f"SELECT {columns} FROM event WHERE type = ? AND offset > ? ORDER BY offset"
    hot = log.hot.connection().execute(query, (kind, manifest.sealed_upto)).fetchall()
    return _versions(pa.concat_tables([*parts, rows_to_table(hot, log.schema)]), owner, names)


def staged_versions(log: EventLog, stage: Stage, owner: str) -> Versions:
    """The versions of a load in preparation."""
    if owner not in stage.catalogs:
        return _versions(log.schema.empty_table(), owner, derived_names(log.project, owner))
    return _versions(stage.catalog_rows(owner), owner, derived_names(log.project, owner))


def _versions(table: pa.Table, owner: str, names: tuple[str, ...]) -> Versions:
    found = Versions(table[owner].to_numpy(), table[c.AVAILABLE_AT].to_numpy(), {n: table[n].to_numpy() for n in names})
    nothing = np.empty(0, np.int64)
    return found + Versions(nothing, nothing, dict.fromkeys(names, nothing))

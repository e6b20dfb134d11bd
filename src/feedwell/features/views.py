"""Views: what the online state keeps, each in a keyspace that its own digest names.

Two releases that declare the same view share its rows; a changed view is a new keyspace, so that a rollback finds the
old one.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property

from feedwell.core.artifact import digest_json
from feedwell.features.hops import decay_tiles, hop_of, tiles_of
from feedwell.features.measures import ActiveTally, LastValue, Moment, Selection, Tally

CATALOG_MARK = b"\x01"


class _Keyspace:
    @cached_property
    def digest(self) -> str:
        return digest_json({"view": type(self).__name__, **asdict(self)})  # type: ignore[call-overload]

    @cached_property
    def prefix(self) -> bytes:
        """8 bytes that begin every key of the view; the first is at least 2 (0 and 1 are the state's own)."""
        raw = hashlib.sha256(self.digest.encode()).digest()[:8]
        return bytes([raw[0] | 2]) + raw[1:]


@dataclass(frozen=True)
class Relation(_Keyspace):
    """Which objects each user stands in relation to by one event type: a sorted list of keys per user.

    `owner` keeps a private copy for the view whose tallies move with it, so that the two never part.
    """

    event: str
    undone_by: str | None
    object: str
    owner: str = ""


@dataclass(frozen=True)
class Tiles(_Keyspace):
    """One hop's tiles of a row view: cumulative sums of `tallies` at each tile's end, kept `reach` tiles back."""

    hop: int
    reach: int
    tallies: tuple[int, ...]


@dataclass(frozen=True)
class Facts(_Keyspace):
    """One packed row per key tuple: totals of all tallies, moments, last values, then the tiles of each hop."""

    entities: tuple[str, ...]
    tallies: tuple[Tally | ActiveTally, ...]
    moments: tuple[Moment, ...]
    last_values: tuple[LastValue, ...]
    tiles: tuple[Tiles, ...]
    relations: tuple[Relation, ...]

    @property
    def cells(self) -> tuple[Moment | LastValue, ...]:
        """What stands in one word each, in the row's order."""
        return (*self.moments, *self.last_values)


@dataclass(frozen=True)
class Sequence(_Keyspace):
    """Each user's last `n` (object, available_at, type) of some events."""

    selection: Selection
    object: str
    n: int


@dataclass(frozen=True)
class Leaderboard(_Keyspace):
    """A top list kept exact at each fold: `decayed` by forward decay, `newest` by the object's first appearance."""

    by: str
    events: tuple[str, ...]
    half_life: int
    k: int
    object: str
    created_at: str | None = None


@dataclass(frozen=True)
class Catalog(_Keyspace):
    """The numbers of an entity's newest catalog row: keys of derived entities, then float columns."""

    entity: str
    derived: tuple[tuple[str, str], ...]
    """(derived entity, the column it comes from)"""
    columns: tuple[str, ...]


@dataclass(frozen=True)
class CatalogRows(_Keyspace):
    """The newest catalog row of an entity as it came: JSON, for display."""

    entity: str


View = Facts | Relation | Sequence | Leaderboard | Catalog | CatalogRows


class FactsDraft:
    """Collects the measures that features ask of one key tuple, then is a `Facts` view."""

    def __init__(self, entities: tuple[str, ...]) -> None:
        self.entities = entities
        self.tallies: dict[Tally | ActiveTally, None] = {}
        self.moments: dict[Moment, None] = {}
        self.last_values: dict[LastValue, None] = {}
        self.reach: dict[int, int] = {}
        self.tiled: dict[int, dict[Tally | ActiveTally, None]] = {}

    def add_window(self, tally: Tally | ActiveTally, window: int | None) -> None:
        self.tallies[tally] = None
        if window is not None:
            self._tile(tally, hop_of(window), tiles_of(window))

    def add_decay(self, tally: Tally, half_life: int) -> None:
        self.tallies[tally] = None
        self._tile(tally, hop_of(8 * half_life), decay_tiles(half_life))

    def _tile(self, tally: Tally | ActiveTally, hop: int, reach: int) -> None:
        self.tiled.setdefault(hop, {})[tally] = None
        self.reach[hop] = max(self.reach.get(hop, 0), reach)

    def view(self, relation_of: dict[str, tuple[str | None, str]]) -> Facts:
        """The view in canonical order; `relation_of` maps an event type to (undone_by, object)."""
        tallies = tuple(sorted(self.tallies, key=repr))
        at = {tally: i for i, tally in enumerate(tallies)}
        tiles = tuple(
            Tiles(hop, self.reach[hop], tuple(sorted(at[tally] for tally in chosen)))
            for hop, chosen in sorted(self.tiled.items())
        )
        parts = {"entities": self.entities, "tallies": [repr(t) for t in tallies], "tiles": [t.digest for t in tiles]}
        owner = digest_json(parts)
        active = sorted({t.event for t in tallies if isinstance(t, ActiveTally)})
        return Facts(
            entities=self.entities,
            tallies=tallies,
            moments=tuple(sorted(self.moments, key=repr)),
            last_values=tuple(sorted(self.last_values, key=repr)),
            tiles=tiles,
            relations=tuple(Relation(event, *relation_of[event], owner) for event in active),
        )

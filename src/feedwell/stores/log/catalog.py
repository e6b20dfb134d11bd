"""Current catalog rows as the write path needs them: has the row changed, and which derived keys does it give?

`category` with `from = "item.category"` is derived: an event that names an item carries the category's key as of then.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from feedwell.core.event import NO_KEY, id_text
from feedwell.core.project import Project

Current = tuple[bytes, tuple[int, ...], int]
"""(digest of the row, its derived keys in the order of `derived_names`, available_at)"""
_MAX_CACHED = 200_000
_MAX_REFRESHED = 10_000


def derived_order(project: Project) -> list[tuple[str, str, str]]:
    """(derived entity, owner, catalog column), an owner that is itself derived before what is taken from it."""
    left = dict(project.derived_entities)
    order: list[tuple[str, str, str]] = []
    while left:
        ready = [name for name, (owner, _) in left.items() if owner not in left]
        # A circle has no beginning; `check` names it, here its members just stay underived.
        if not ready:
            break
        order += [(name, *left.pop(name)) for name in sorted(ready)]
    return order


def derived_names(project: Project, owner: str) -> tuple[str, ...]:
    """The entities taken from columns of this one."""
    return tuple(name for name, of, _ in derived_order(project) if of == owner)


def derived_ids(project: Project, owner: str, payload: Mapping[str, Any]) -> dict[str, str]:
    """derived entity → outside id, from a catalog row; absent where the cell is empty."""
    columns = [(name, column) for name, (of, column) in project.derived_entities.items() if of == owner]
    found = {name: id_text(payload.get(column)) for name, column in columns}
    return {name: text for name, text in found.items() if text is not None}


def payload_text(payload: Mapping[str, Any]) -> str:
    """Canonical JSON: equal rows are equal texts."""
    return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()


def row_digest(text: str, derived: Sequence[str]) -> bytes:
    """16 bytes that change with the row, and with the entities that are derived from it."""
    return hashlib.md5("\0".join((text, *derived)).encode(), usedforsecurity=False).digest()


class CatalogCache:
    """Current rows by (entity, key), read from the table on a miss; other processes' changes come by a version."""

    def __init__(self, project: Project, codes: Mapping[str, int]) -> None:
        self._codes = {name: codes[name] for name in project.entities}
        self._entities = {code: name for name, code in self._codes.items()}
        self._place = {name: i for i, name in enumerate(project.entities)}
        self.order = derived_order(project)
        self._names = {owner: derived_names(project, owner) for owner in project.entities}
        self._rows: dict[tuple[str, int], Current | None] = {}
        self._version = -1

    def refresh(self, cursor: sqlite3.Cursor, version: int) -> None:
        """Take in what others wrote since; inside a transaction."""
        if version == self._version:
            return
        query = "SELECT entity, key FROM catalog WHERE version > ? LIMIT ?"
        changed = cursor.execute(query, (self._version, _MAX_REFRESHED)).fetchall() if self._rows else []
        if len(changed) == _MAX_REFRESHED:
            self._rows.clear()
        for code, key in changed:
            self._rows.pop((self._entities.get(code, ""), key), None)
        self._version = version

    def get(self, cursor: sqlite3.Cursor, entity: str, key: int) -> Current | None:
        """The current row's digest and derived keys; None when the entity has no catalog row yet."""
        place = entity, key
        if place not in self._rows:
            query = "SELECT digest, derived, available_at FROM catalog WHERE entity = ? AND key = ?"
            row = cursor.execute(query, (self._codes[entity], key)).fetchone()
            self._keep(place, None if row is None else (row[0], self._decode(entity, row[1]), row[2]))
        return self._rows[place]

    def fill(
        self,
        cursor: sqlite3.Cursor,
        keys: list[int],
        own: str | None,
        planned: Mapping[tuple[str, int], Current],
    ) -> None:
        """Set the derived keys that the event did not name; `own`: the entity of a catalog event."""
        for name, owner, _ in self.order:
            place, owner_key = self._place[name], keys[self._place[owner]]
            if keys[place] != NO_KEY or owner_key == NO_KEY or owner == own:
                continue
            current = planned.get((owner, owner_key)) or self.get(cursor, owner, owner_key)
            if current is not None:
                keys[place] = current[1][self._names[owner].index(name)]

    def digest(self, entity: str, payload: str) -> bytes:
        """What tells a changed row of this entity."""
        return row_digest(payload, self._names[entity])

    def derived_of(self, owner: str, keys: Sequence[int]) -> tuple[int, ...]:
        """The derived keys of a catalog event's own row."""
        return tuple(keys[self._place[name]] for name in self._names[owner])

    def write(self, cursor: sqlite3.Cursor, changes: Mapping[tuple[str, int], Current], version: int) -> None:
        """Make these rows the current ones."""
        rows = [
            (self._codes[entity], key, at, digest, self._encode(entity, derived), version)
            for (entity, key), (digest, derived, at) in changes.items()
        ]
        cursor.executemany(
            "INSERT INTO catalog (entity, key, available_at, digest, derived, version) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET available_at = excluded.available_at, digest = excluded.digest,"
            " derived = excluded.derived, version = excluded.version",
            rows,
        )
        cursor.execute("UPDATE head SET catalog_version = ?", (version,))

    def apply(self, changes: Mapping[tuple[str, int], Current], version: int) -> None:
        """Take in our own change, after its commit."""
        for place, current in changes.items():
            self._keep(place, current)
        self._version = version

    def _keep(self, place: tuple[str, int], current: Current | None) -> None:
        if len(self._rows) >= _MAX_CACHED:
            self._rows.clear()
        self._rows[place] = current

    def _encode(self, entity: str, derived: Sequence[int]) -> str:
        return orjson.dumps(dict(zip(self._names[entity], derived, strict=True))).decode()

    def _decode(self, entity: str, text: str) -> tuple[int, ...]:
        found = orjson.loads(text)
        return tuple(found.get(name, NO_KEY) for name in self._names[entity])

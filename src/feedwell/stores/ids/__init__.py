"""The dictionary: outside ids are strings, inside every entity has never-reused integer keys."""

from feedwell.stores.ids.store import IdStore

__all__ = ["IdStore"]

"""The state's own rows: how far it is, of which epoch, and up to which offset each view was folded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from feedwell.features.views import View
from feedwell.stores.state import ReadTxn

_HEAD_KEY = b"\x00head"
_VIEW_KEY = b"\x00view"
_HEAD = struct.Struct("<qqq")
_OFFSET = struct.Struct("<q")


@dataclass(frozen=True, kw_only=True)
class Head:
    """`offset` of the newest folded event (-1: none), its `available_at`, and the log's epoch."""

    epoch: int = 0
    offset: int = -1
    newest_at: int = 0

    @property
    def item(self) -> tuple[bytes, bytes]:
        return _HEAD_KEY, _HEAD.pack(self.epoch, self.offset, self.newest_at)


def read_head(txn: ReadTxn) -> Head | None:
    """None where nothing was ever folded."""
    raw = txn.get(_HEAD_KEY)
    if raw is None:
        return None
    epoch, offset, newest_at = _HEAD.unpack(raw)
    return Head(epoch=epoch, offset=offset, newest_at=newest_at)


def view_item(view: View, offset: int) -> tuple[bytes, bytes]:
    return _VIEW_KEY + view.prefix, _OFFSET.pack(offset)


def view_offset(txn: ReadTxn, view: View) -> int | None:
    """The newest offset folded into the view; None where it is not kept."""
    raw = txn.get(_VIEW_KEY + view.prefix)
    return None if raw is None else int(_OFFSET.unpack(raw)[0])


def kept_prefixes(txn: ReadTxn) -> list[bytes]:
    """The keyspaces that the state holds."""
    return [key[len(_VIEW_KEY) :] for key, _ in txn.scan(_VIEW_KEY)]


def view_key(prefix: bytes) -> bytes:
    return _VIEW_KEY + prefix

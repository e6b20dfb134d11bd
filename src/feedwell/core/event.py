"""Event: a fact, appended once and never changed.

Outside, an event is a JSON object or a row; inside the log it carries integer keys, one column per declared entity
(`user`, `item`, `creator`, `category` ...; -1 where it names none), and an integer `value_scaled`, so that sums are
exact. Catalog changes are events too: type `$item` for entity `item`, with the row as `payload`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Origin = Literal["live", "history", "simulated"]
ORIGINS: tuple[Origin, ...] = ("live", "history", "simulated")
SCHEMA_VERSION = 1
NO_KEY = -1
MAX_ID_BYTES = 512
EXACT_BELOW = 2.0**53
"""A whole number that came as a float of this size or more may have been another one."""
MAX_PAYLOAD_BYTES = 64 * 1024
CATALOG_PREFIX = "$"
SERVED = "served"
"""What the server appends for every slot of an answer: an impression, and never something that the user did."""


def catalog_type(entity: str) -> str:
    """The event type that carries a new version of an entity's catalog row."""
    return CATALOG_PREFIX + entity


def catalog_entity(event_type: str) -> str | None:
    """The entity whose catalog row an event type carries; None for other events."""
    return event_type[1:] if event_type.startswith(CATALOG_PREFIX) else None


@dataclass(frozen=True, slots=True)
class RawEvent:
    """One event as it comes from outside, already shaped, not yet keyed.

    `ids` maps entity to outside id (`{"user": "u1", "item": "i9"}`); `ts` is µs UTC; `available_at` only in history.
    """

    type: str
    ts: int
    ids: Mapping[str, str]
    event_id: str | None = None
    available_at: int | None = None
    value: float | None = None
    unit: str | None = None
    session: str | None = None
    device: str | None = None
    request_id: str | None = None
    slot: int | None = None
    surface: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")


def id_text(cell: Any) -> str | None:
    """A cell as an outside id; None for what cannot be one. A whole number is one id however it is written.

    >>> id_text(12.0), id_text("12.0"), id_text("a b"), id_text(2**63), id_text(2.0**63), id_text("")
    ('12', '12', 'a b', '9223372036854775808', None, None)
    """
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        if not abs(cell) < EXACT_BELOW:
            return None
        cell = int(cell) if cell.is_integer() else repr(cell)
    text = plain_id(cell) if isinstance(cell, str) else str(cell) if isinstance(cell, int) else ""
    return text if text and len(text.encode("utf-8", "replace")) <= MAX_ID_BYTES else None


def plain_id(text: str) -> str:
    """The one spelling of an id: `12.0`, as floats are written, is `12`; every other text is itself.

    >>> plain_id("12.0"), plain_id("-0.0"), plain_id("1.5"), plain_id("v1.0"), plain_id("007.0")
    ('12', '0', '1.5', 'v1.0', '007.0')
    """
    if not text.endswith("0") or (found := _WHOLE.fullmatch(text)) is None:
        return text
    return "0" if found[1] == "-0" else found[1]


def hash_event_id(event_id: str) -> bytes:
    """128 bits that stand for a client's event id in the de-duplication sets (MD5: what the batch engine has too)."""
    return hashlib.md5(event_id.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()


def scale_value(value: float | None, scale: int) -> int | None:
    """`value` as an integer count of 1/scale, halves up: the one place where a float becomes a fact.

    >>> scale_value(1.255, 100), scale_value(None, 100)
    (125, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return math.floor(value * scale + 0.5)

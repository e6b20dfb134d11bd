"""What goes in and out of a world: requests, events, schemas of tables. Ids are strings outside, row numbers inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow as pa

from feedwell.core.errors import UsageError
from feedwell.data.world.noise import Int

USER, ITEM, CREATOR, CATEGORY = "u", "i", "c", "k"


@dataclass(frozen=True, kw_only=True)
class SessionRequest:
    """One slate asked for: `n` slots for `user_id` at `ts` (µs); `page` counts from 0 within the session.

    A serving system may put its own `request_id` in (`dataclasses.replace`): no luck depends on it. Keep the rest.
    """

    request_id: str
    session: str
    user_id: str
    ts: int
    surface: str
    n: int
    page: int = 0


class WorldEvent(TypedDict):
    """One event as a client would send it. `slot` counts from 1; `creator` only where the object is a creator.

    `ts` may lie hours after the request (a delayed buy, an undo): whoever feeds a live log holds it back until then.
    Such events carry no request, session or slot: they happen in another visit, as in real logs.
    """

    event_id: str
    ts: int
    type: str
    user: str
    item: str | None
    creator: str | None
    session: str | None
    request_id: str | None
    slot: int | None
    value: float | None
    surface: str


EVENTS = pa.schema(
    [
        ("event_id", pa.string()),
        ("ts", pa.int64()),
        ("type", pa.string()),
        ("user", pa.string()),
        ("item", pa.string()),
        ("creator", pa.string()),
        ("session", pa.string()),
        ("request_id", pa.string()),
        ("slot", pa.int32()),
        ("value", pa.float64()),
        ("surface", pa.string()),
    ]
)
ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("creator_id", pa.string()),
        ("price", pa.float64()),
        ("created_at", pa.int64()),
    ]
)
USERS = pa.schema(
    [("user_id", pa.string()), ("age_group", pa.string()), ("country", pa.string()), ("signup_at", pa.int64())]
)
SLATES = pa.schema(
    [
        ("request_id", pa.string()),
        ("user", pa.string()),
        ("ts", pa.int64()),
        ("slot", pa.int32()),
        ("item", pa.string()),
        ("propensity", pa.float64()),
    ]
)


def row_of(prefix: str, outside: str, n_known: int) -> int:
    """The row number of "u12" → 12."""
    digits = outside[len(prefix) :]
    if not (outside.startswith(prefix) and digits.isdecimal() and int(digits) < n_known):
        raise UsageError(f"asking the simulated world about '{outside}': it knows {prefix}0 ... {prefix}{n_known - 1}")
    return int(digits)


def rows_of(prefix: str, outside: Sequence[str], n_known: int) -> Int:
    """Row numbers of many ids, in their order."""
    return np.fromiter((row_of(prefix, one, n_known) for one in outside), np.int64, len(outside))


def ids_of(prefix: str, rows: Int) -> list[str]:
    """Ids of row numbers: [12] → ["u12"]."""
    return [f"{prefix}{row}" for row in rows.tolist()]

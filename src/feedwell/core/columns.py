"""Column names, each written once."""

from __future__ import annotations

OFFSET = "offset"
EVENT_ID = "event_id"
TS = "ts"
AVAILABLE_AT = "available_at"
TYPE = "type"
USER = "user"
ITEM = "item"
SESSION = "session"
DEVICE = "device"
REQUEST_ID = "request_id"
SLOT = "slot"
VALUE = "value"
VALUE_SCALED = "value_scaled"
UNIT = "unit"
SURFACE = "surface"
PAYLOAD = "payload"
ORIGIN = "origin"
SCHEMA_VERSION = "schema_version"

T = "t"
PROPENSITY = "propensity"


def label(objective: str) -> str:
    """The column of an objective's label."""
    return f"y_{objective}"

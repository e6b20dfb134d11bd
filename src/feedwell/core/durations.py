"""Durations: a string with a unit outside ("36h"), whole microseconds inside."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

from feedwell.core.clock import DAY, HOUR, MINUTE, SECOND

_UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_TEXT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|m|h|d|w)\s*$")


def parse_duration(text: object) -> int:
    """Microseconds of "90s", "36h", "7d" ...; an int passes as µs already parsed.

    >>> parse_duration("1.5h")
    5400000000
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    found = _TEXT.match(text) if isinstance(text, str) else None
    if not found:
        raise ValueError(f'cannot read the duration {text!r}: write a number and one of us ms s m h d w, as in "36h"')
    return round(float(found[1]) * _UNITS[found[2]])


def format_duration(us: int) -> str:
    """The shortest exact text: 604800000000 → "7d".

    >>> format_duration(5400000000)
    '90m'
    """
    for unit in ("d", "h", "m", "s", "ms"):
        if us and us % _UNITS[unit] == 0:
            return f"{us // _UNITS[unit]}{unit}"
    return f"{us}us" if us else "0s"


def _from_file_or_code(text: object, info: ValidationInfo) -> int:
    """In a project file (context "file") a bare number has no unit and is refused; 0 needs none."""
    if text and isinstance(text, int) and (info.context or {}).get("file"):
        raise ValueError(f'{text} has no unit: write one of us ms s m h d w, as in "36h"')
    return parse_duration(text)


Duration = Annotated[int, BeforeValidator(_from_file_or_code), PlainSerializer(format_duration, when_used="json")]

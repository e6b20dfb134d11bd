"""Numbers and names as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from feedwell.metrics import Interval

MISSING = "–"
_HARD = "\N{NO-BREAK SPACE}"
_METRICS = {"ndcg": "NDCG", "mrr": "MRR", "hit_rate": "hit rate"}
_MICRO = 1_000_000


def metric_name(name: str) -> str:
    """`ndcg@10` → `NDCG@10`."""
    head, at, k = name.partition("@")
    return _METRICS.get(head, head.replace("_", " ")) + at + k


def sentence(text: str) -> str:
    """The text as a sentence: a capital first, but in names as they are written (`item_views`, `NDCG@10`)."""
    first, space, rest = text.partition(" ")
    if "@" in first:
        return metric_name(first) + space + rest
    return text if re.search(r"[_.\d]", first.rstrip(".:,")) else text[:1].upper() + text[1:]


def system_name(name: str) -> str:
    """`source.als` → `als`: on the page the group says what it is."""
    return name.removeprefix("source.")


def figure(value: float, digits: int = 4) -> str:
    return MISSING if not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 4) -> str:
    return MISSING if not math.isfinite(value) else f"{value:+.{digits}f}".replace("-", "−")


def share(value: float) -> str:
    """A share as a percentage with as many digits as it needs: 43 %, 4.3 %, 0.43 %."""
    if not math.isfinite(value):
        return MISSING
    percent = 100 * value
    digits = 0 if abs(percent) >= 9.95 or percent == 0 else 1 if abs(percent) >= 0.95 else 2
    return f"{percent:.{digits}f}{_HARD}%"


def count(value: float) -> str:
    """A number of things: 1,234; below 10 with one decimal where it is a mean."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"


def seconds(value: float) -> str:
    if not math.isfinite(value):
        return MISSING
    if value < 60:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"


def between(found: Interval, *, sign: bool = False) -> str:
    """`0.0380 to 0.0450`; empty where there is no interval."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return ""
    show = signed if sign else figure
    return f"{show(found.low)}{_HARD}to{_HARD}{show(found.high)}"


def bracket(found: Interval) -> str:
    """`[0.0380 to 0.0450]`, for a table's cell."""
    said = between(found)
    return f"[{said}]" if said else ""


def day(t: int | None) -> str:
    """A time in µs as `18 July 2015`."""
    if t is None or not 0 < t < 4_102_444_800 * _MICRO:
        return MISSING
    at = datetime.fromtimestamp(t / _MICRO, tz=UTC)
    return f"{at.day} {at:%B %Y}"


def small(value: float) -> str:
    """A probability or rate for an axis: .001, .05, 1."""
    return f"{value:.4g}".replace("0.", ".", 1) if 0 < abs(value) < 1 else f"{value:.4g}"


def listed(names: Sequence[str], most: int = 4) -> str:
    """`a, b and c`; beyond `most`: `a, b, c and 5 more`."""
    names = list(names)
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)

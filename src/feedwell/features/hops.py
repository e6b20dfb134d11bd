"""How finely a window's lower edge moves: the same hop for every reading, so that tiles and windows agree."""

from __future__ import annotations

from feedwell.core.clock import DAY, HOUR, MINUTE
from feedwell.core.durations import format_duration

_HOPS = ((2 * HOUR, MINUTE), (2 * DAY, 15 * MINUTE), (14 * DAY, HOUR))
_LONGEST_HOP = 6 * HOUR
DECAY_HALF_LIVES = 8


def hop_of(window_us: int) -> int:
    """The default hop of a window, µs: up to 2 h one minute, up to 2 d a quarter, up to 14 d an hour, then 6 h."""
    return next((hop for longest, hop in _HOPS if window_us <= longest), _LONGEST_HOP)


def tiles_of(window_us: int) -> int:
    """How many whole tiles the window has; ValueError where it is not a whole number of its hops."""
    hop = hop_of(window_us)
    if window_us <= 0 or window_us % hop:
        raise ValueError(
            f"the window {format_duration(window_us)} is not a whole number of hops of {format_duration(hop)}"
        )
    return window_us // hop


def decay_tiles(half_life_us: int) -> int:
    """How many tiles before the current one a decayed count reaches back: 8 half-lives, rounded up."""
    reach = DECAY_HALF_LIVES * half_life_us
    return -(-reach // hop_of(reach))

"""Standstill: the online state that does not move while events wait, told from one look at readiness to the next."""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE_S = 10.0
"""How long events may wait at one offset: a batch takes milliseconds, a new feature over a large log some seconds."""


@dataclass
class Standstill:
    """Looked at by whoever asks whether the worker is ready: the projector is another process."""

    _offset: int = -1
    _since_s: float | None = None

    def look(self, offset: int, lag: int, now_s: float) -> bool:
        """Whether the state has stood at `offset` for longer than is well, `lag` events behind (-1: not known)."""
        if lag <= 0:
            self._since_s = None
        elif self._since_s is None or offset != self._offset:
            self._offset, self._since_s = offset, now_s
        return self._since_s is not None and now_s - self._since_s > PATIENCE_S

"""Training that is killed in the middle, and how many steps the rest took."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from feedwell.nn import loop


class Killed(BaseException):
    """As Ctrl-C: nothing that runs catches it."""


def kill(monkeypatch: pytest.MonkeyPatch, at: int, fit: Callable[[], object]) -> None:
    """`fit` is killed before its training step `at`."""
    with monkeypatch.context() as patched:
        counted(patched, killed_at=at)
        with pytest.raises(Killed):
            fit()


def counted(monkeypatch: pytest.MonkeyPatch, killed_at: int | None = None) -> list[int]:
    """The number of training steps taken from now on, in a list of one; killed before step `killed_at`."""
    plain, steps = loop._Loop._step, [0]

    def step(self, rows_B):
        if steps[0] == killed_at:
            raise Killed
        steps[0] += 1
        plain(self, rows_B)

    monkeypatch.setattr(loop._Loop, "_step", step)
    return steps

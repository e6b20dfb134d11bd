"""The one broad catch: any exception is told and passed over, what ends a process is not."""

from __future__ import annotations

import pytest

from feedwell.pipeline.contained import Contained


def test_what_an_exception_was_is_told_and_work_goes_on() -> None:
    told: list[Exception] = []
    error = RuntimeError("no")
    with Contained(told.append):
        raise error
    assert told == [error]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_process_passes(kind: type[BaseException]) -> None:
    told: list[Exception] = []
    with pytest.raises(kind), Contained(told.append):
        raise kind
    assert told == []

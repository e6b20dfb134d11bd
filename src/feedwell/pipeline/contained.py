"""Contained: the one place that lets no exception through, whatever it is.

Four kinds of work need it: a part of a request (a part may be anybody's code, no list of exceptions is long enough for
it, and the request must be answered); what a background thread repeats (a worker that stopped following releases or the
catalog would serve the past for ever); an old recipe run again at the end of a long training run; a release that is
loaded to see whether it can be. Whoever contains a failure says what becomes of it: it is counted and named where
somebody looks, in the record's `degraded`, in `/metrics`, in the log, in a gate, or in an error of its own. All other
code catches what it expects.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any


class Contained:
    """`with Contained(failed): ...` goes on behind the block when it raises, after `failed` was told the error.

    KeyboardInterrupt and SystemExit pass: they are about the process, not about the work.
    """

    def __init__(self, failed: Callable[[Exception], Any]) -> None:
        self._failed = failed

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._failed(error)
        return True

"""Kill -9 at uniformly random points: does what was acknowledged survive, once each? A harness for any scenario.

A scenario is an object in a module ("kills_log:APPEND") with `name`, `work(folder, seed, ack)`, which runs until it is
killed and acknowledges with short lines, `beside(folder, stop, ack)`, which this process does meanwhile, and
`check(folder, acked)`, which tells what is wrong with what is left. The lines are kept by the parent process: nothing
that dies can forget what it promised. Children are forked from a zygote that has imported everything, so that a kill
costs a fraction of a second.
"""

from __future__ import annotations

import importlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

Ack = Callable[[str], None]
_UNDER_LOAD = 0.7
_READY, _ACK, _PID = b"ready", b"ack ", b"pid "


class Scenario(Protocol):
    name: str

    def work(self, folder: Path, seed: int, ack: Ack) -> None:
        """Load until killed; `ack(line)` only once the thing is durable."""
        ...

    def beside(self, folder: Path, stop: threading.Event, ack: Ack) -> None:
        """What another process does to the same folder until `stop` is set; it may return at once."""
        ...

    def check(self, folder: Path, acked: Sequence[str]) -> list[str]:
        """Everything that is wrong with what is left (empty: nothing)."""
        ...


class Killer:
    """Runs one scenario again and again over the same folder, killing it each time; a context manager."""

    def __init__(self, place: str, folder: Path, *, seed: int = 0, longest_s: float = 0.25) -> None:
        self._place, self._folder, self._longest_s = place, folder, longest_s
        self._rng = random.Random(seed)
        self._scenario = _find(place)
        self.acked: list[str] = []
        self.kills = 0

    def __enter__(self) -> Killer:
        command = [sys.executable, str(Path(__file__)), self._place, str(self._folder)]
        self._zygote = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zygote.kill()
        self._zygote.communicate()

    def kill_once(self) -> None:
        """Start a child, kill it at a random moment, keep its lines. The moment counts mostly from the first line on,
        at times from the start, when the child still mends what the last kill left."""
        with self._beside():
            self._kill_a_child()
        self.kills += 1

    def _kill_a_child(self) -> None:
        stdin, stdout = self._zygote.stdin, self._zygote.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{self._rng.getrandbits(40)}\n".encode())
        stdin.flush()
        pid = int(self._line(stdout)[len(_PID) :])
        while (line := self._line(stdout)) != _READY:
            raise RuntimeError(f"the child said {line!r} before it was ready")
        if self._rng.random() < _UNDER_LOAD:
            self.acked.append(self._line(stdout)[len(_ACK) :].decode())
        deadline = time.monotonic() + self._rng.uniform(0, self._longest_s)
        self._take(stdout, deadline)
        os.kill(pid, signal.SIGKILL)
        self._take(stdout, None)

    def check(self) -> list[str]:
        """What is wrong with all that was acknowledged so far."""
        return self._scenario.check(self._folder, self.acked)

    @contextmanager
    def _beside(self) -> Iterator[None]:
        stop, errors = threading.Event(), list[Exception]()

        def run() -> None:
            try:
                self._scenario.beside(self._folder, stop, self.acked.append)
            except Exception as error:  # noqa: BLE001 - raised again below, in the thread that asked
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        for error in errors:
            raise error

    def _take(self, stdout: Any, deadline: float | None) -> None:
        """Keep lines until the deadline, or until the zygote has buried the child."""
        while True:
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0 or not (stdout.peek(0) or select.select([stdout], [], [], left)[0]):
                    return
            line = self._line(stdout)
            if line == b"buried":
                if deadline is not None:
                    raise RuntimeError("the child ended by itself: see its traceback above")
                return
            if line.startswith(_ACK):
                self.acked.append(line[len(_ACK) :].decode())

    def _line(self, stdout: Any) -> bytes:
        line: bytes = stdout.readline()
        if not line:
            raise RuntimeError("the zygote ended: see its traceback above")
        return line.rstrip(b"\n")


def _find(place: str) -> Scenario:
    module, _, name = place.partition(":")
    found: Scenario = getattr(importlib.import_module(module), name or "SCENARIO")
    return found


def _zygote(place: str, folder: Path) -> None:
    """For each line on stdin: fork a child that works until it is killed, then say so."""
    scenario = _find(place)
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            _child(scenario, folder, int(line))
        os.waitpid(pid, 0)
        _say(b"buried")


def _child(scenario: Scenario, folder: Path, seed: int) -> None:
    _say(_PID + str(os.getpid()).encode())
    _say(_READY)
    try:
        scenario.work(folder, seed, lambda text: _say(_ACK + text.encode()))
    finally:
        os._exit(1)


def _say(text: bytes) -> None:
    # One write below PIPE_BUF is atomic: a line is there whole or not at all, whenever the kill comes.
    os.write(1, text + b"\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    _zygote(sys.argv[1], Path(sys.argv[2]))

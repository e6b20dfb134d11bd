"""The supervisor: one listening socket, N workers that share it, one projector; what dies is started again.

supervisor ─┬─ worker 0 .. N-1   uvicorn with the app, each its own pipeline thread
            └─ projector         folds the log into the state

Each process says once, through a pipe, that it has opened the project, or the error that it ends with instead. Until a
worker has opened it, one that ends is the end of all: what cannot be opened now, such as a damaged release, cannot be
opened by trying again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic

from feedwell.core.clock import SystemClock
from feedwell.core.errors import FeedwellError, Unavailable
from feedwell.pipeline.project_folder import STATE_FOLDER, load_project

_SPAWN = multiprocessing.get_context("spawn")
_POLL_S, _GRACE_S, _STEADY_S, _SLOWEST_S = 0.1, 15.0, 10.0, 10.0
_PROJECTOR = "projector"
_log = logging.getLogger("feedwell.supervisor")


@dataclass
class _Child:
    name: str
    start: Callable[[Connection], BaseProcess]
    process: BaseProcess | None = None
    word: Connection | None = None
    """What it says comes here, until it came."""
    opened: bool = False
    error: FeedwellError | None = None
    started: float = 0.0
    ended: float | None = None
    wait_s: float = 0.1
    restarts: int = field(default=-1)

    def hear(self) -> None:
        """Takes what the process has said, if it has."""
        if self.word is None or not self.word.poll():
            return
        try:
            self.error = self.word.recv()
            self.opened = self.error is None
        except EOFError:  # it ended without a word
            pass
        self.word.close()
        self.word = None


class Supervisor:
    """`start` returns the bound address; `run` watches until `stop` is called or the process gets SIGINT or SIGTERM."""

    def __init__(
        self,
        folder: Path,
        *,
        environment: str | None = None,
        host: str | None = None,
        port: int | None = None,
        workers: int | None = None,
    ) -> None:
        serving = load_project(folder, environment=environment).serving
        self.folder = folder
        self.environment = environment
        self.host = serving.host if host is None else host
        self.port = serving.port if port is None else port
        self.n_workers = workers or serving.workers
        self._socket: socket.socket | None = None
        self._children: list[_Child] = []
        self._stop = threading.Event()
        self.opened = False
        """Whether a worker has opened the project, and so takes requests."""

    def start(self) -> tuple[str, int]:
        """Binds and starts every process; Unavailable if the address is taken."""
        # One thread per request, one process per core: a second BLAS or OpenMP thread on a busy core made p99 six times
        # longer. The children read these before they load numpy.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, "1")
        self._socket = _listen(self.host, self.port)
        self.port = self._socket.getsockname()[1]
        self._children = [_Child(_PROJECTOR, self._projector)]
        self._children += [_Child(f"worker-{i}", self._worker_starter(i)) for i in range(self.n_workers)]
        for child in self._children:
            self._begin(child)
        return self.host, self.port

    def run(self, when_open: Callable[[], None] = lambda: None) -> None:
        """Calls `when_open` once the first worker takes requests; restarts what dies until the stop, then ends all.

        Errors as of `tend`.
        """
        self._take_signals()
        told = False
        try:
            while not self._stop.wait(_POLL_S):
                self.tend()
                if self.opened and not told:
                    when_open()
                    told = True
        finally:
            self.close()

    def tend(self) -> list[str]:
        """One look: the names of the children that were dead and have been started again.

        While no worker has opened the project yet, the error of the first that cannot; Unavailable if it ended without
        saying one.
        """
        again = []
        for child in self._children:
            alive = child.process is not None and child.process.is_alive()
            child.hear()  # after the look: what a dead process had to say is in the pipe
            if child.name != _PROJECTOR:
                self._require_opened(child, alive)
            if alive:
                if child.opened and monotonic() - child.started > _STEADY_S:
                    child.wait_s = 0.1
            elif self._is_due(child):
                child.wait_s = min(2 * child.wait_s, _SLOWEST_S)
                self._begin(child)
                again.append(child.name)
        return again

    def _require_opened(self, child: _Child, alive: bool) -> None:
        self.opened = self.opened or child.opened
        if self.opened or self._stop.is_set():
            return
        if child.error is not None:
            raise child.error
        if not alive:
            code = None if child.process is None else child.process.exitcode
            raise Unavailable(
                f"serving: {child.name} ended with {code} before it had opened the project; what it wrote says why"
            )

    def _is_due(self, child: _Child) -> bool:
        """Whether a dead child has paused for long enough; its end is logged when it is first seen."""
        if child.ended is None:
            child.ended = monotonic()
            code = None if child.process is None else child.process.exitcode
            why = "" if child.error is None else f" ({child.error})"
            _log.warning("%s ended with %s%s: starting it again in %.1f s", child.name, code, why, child.wait_s)
        return monotonic() - child.ended >= child.wait_s

    def stop(self) -> None:
        self._stop.set()

    def pids(self) -> dict[str, int]:
        """name → process id of what is running."""
        return {c.name: c.process.pid for c in self._children if c.process and c.process.pid and c.process.is_alive()}

    def close(self) -> None:
        """Ends the workers first, so that what they acknowledged is folded; then the projector; then the socket."""
        self._stop.set()
        for child in reversed(self._children):
            if child.process is not None and child.process.is_alive():
                child.process.terminate()
        end = monotonic() + _GRACE_S
        for child in self._children:
            if child.process is not None:
                child.process.join(max(0.1, end - monotonic()))
                if child.process.is_alive():
                    child.process.kill()
                    child.process.join()
            if child.word is not None:
                child.word.close()
        self._children = []
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _begin(self, child: _Child) -> None:
        if child.word is not None:
            child.word.close()
        child.word, says = _SPAWN.Pipe(duplex=False)
        child.process, child.started, child.ended = child.start(says), monotonic(), None
        child.opened, child.error = False, None
        child.restarts += 1
        child.process.start()
        says.close()  # the child has its own: when that is gone, nothing more will be said

    def _projector(self, says: Connection) -> BaseProcess:
        arguments = (self.folder, self.environment, os.getpid(), says)
        return _SPAWN.Process(target=run_projector, args=arguments, name="feedwell-projector")

    def _worker_starter(self, number: int) -> Callable[[Connection], BaseProcess]:
        def start(says: Connection) -> BaseProcess:
            arguments = (self.folder, self.environment, number, self._socket, os.getpid(), says)
            return _SPAWN.Process(target=run_worker, args=arguments, name=f"feedwell-worker-{number}")

        return start

    def _take_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: self._stop.set())


def run_worker(
    folder: Path, environment: str | None, number: int, sock: socket.socket, parent: int, says: Connection
) -> None:
    """One worker process: its own stores, its own pipeline thread, the shared socket."""
    import uvicorn

    from feedwell.serving.app import create_app
    from feedwell.serving.metrics import MetricsBoard
    from feedwell.serving.runtime import Runtime

    board = MetricsBoard(folder / STATE_FOLDER, f"worker-{number}")
    with _opening(says):
        app = create_app(Runtime.open(folder, environment=environment), board)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)

    def orphaned() -> None:
        server.should_exit = True

    _when_orphaned(parent, orphaned)
    server.run(sockets=[sock])


def run_projector(folder: Path, environment: str | None, parent: int, says: Connection) -> None:
    """The projector process; it ends with SIGTERM or with its parent."""
    from feedwell.pipeline.projector import Projector
    from feedwell.serving.metrics import MetricsBoard
    from feedwell.serving.reload import FeatureSets
    from feedwell.stores.log import EventLog
    from feedwell.stores.releases import ReleaseStore

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides the order
    _when_orphaned(parent, stop.set)
    inside = folder / STATE_FOLDER
    with _opening(says):
        log = EventLog.open(inside, load_project(folder, environment=environment), SystemClock())
        projector = Projector(inside, log, FeatureSets(ReleaseStore(inside), folder, environment=environment))
    board = MetricsBoard(inside, "projector")

    def publish() -> None:
        while not stop.wait(1.0):
            board.publish(projector.telemetry)

    threading.Thread(target=publish, name="feedwell-metrics", daemon=True).start()
    projector.run_forever(stop)
    board.withdraw()


@contextmanager
def _opening(says: Connection) -> Iterator[None]:
    """Tells the supervisor that what is opened here is open; an expected error is told instead and ends the process."""
    try:
        yield
    except FeedwellError as error:
        says.send(error)
        sys.exit(error.exit_code)
    says.send(None)


def _when_orphaned(parent: int, act: Callable[[], None]) -> None:
    """Calls `act` when the supervisor is gone, however it went."""

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(1.0)
        act()

    threading.Thread(target=watch, name="feedwell-parent", daemon=True).start()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from None
    sock.listen(2048)
    sock.set_inheritable(True)
    return sock

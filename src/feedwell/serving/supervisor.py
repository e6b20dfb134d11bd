"""The supervisor: one listening socket, N workers that share it, one projector; what dies is started again.

supervisor ─┬─ worker 0 .. N-1   uvicorn with the app, each its own pipeline thread
            └─ projector         folds the log into the state
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic

from feedwell.core.clock import SystemClock
from feedwell.core.errors import Unavailable
from feedwell.pipeline.project_folder import STATE_FOLDER, load_project

_SPAWN = multiprocessing.get_context("spawn")
_POLL_S, _GRACE_S, _STEADY_S, _SLOWEST_S = 0.1, 15.0, 10.0, 10.0
_log = logging.getLogger("feedwell.supervisor")


@dataclass
class _Child:
    name: str
    start: Callable[[], BaseProcess]
    process: BaseProcess | None = None
    started: float = 0.0
    wait_s: float = 0.1
    restarts: int = field(default=-1)


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

    def start(self) -> tuple[str, int]:
        """Binds and starts every process; Unavailable if the address is taken."""
        # One thread per request, one process per core: a second BLAS or OpenMP thread on a busy core made p99 six times
        # longer. The children read these before they load numpy.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, "1")
        self._socket = _listen(self.host, self.port)
        self.port = self._socket.getsockname()[1]
        self._children = [_Child("projector", self._projector)]
        self._children += [_Child(f"worker-{i}", self._worker_starter(i)) for i in range(self.n_workers)]
        for child in self._children:
            self._begin(child)
        return self.host, self.port

    def run(self) -> None:
        """Restarts what dies until the stop, then ends everything."""
        self._take_signals()
        try:
            while not self._stop.wait(_POLL_S):
                self.tend()
        finally:
            self.close()

    def tend(self) -> list[str]:
        """One look: the names of the children that were dead and have been started again."""
        again = []
        for child in self._children:
            alive = child.process is not None and child.process.is_alive()
            if alive and monotonic() - child.started > _STEADY_S:
                child.wait_s = 0.1
            elif not alive and monotonic() - child.started >= child.wait_s:
                code = None if child.process is None else child.process.exitcode
                _log.warning("%s ended with %s: starting it again", child.name, code)
                child.wait_s = min(2 * child.wait_s, _SLOWEST_S)
                self._begin(child)
                again.append(child.name)
        return again

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
        self._children = []
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _begin(self, child: _Child) -> None:
        child.process, child.started = child.start(), monotonic()
        child.restarts += 1
        child.process.start()

    def _projector(self) -> BaseProcess:
        arguments = (self.folder, self.environment, os.getpid())
        return _SPAWN.Process(target=run_projector, args=arguments, name="feedwell-projector")

    def _worker_starter(self, number: int) -> Callable[[], BaseProcess]:
        def start() -> BaseProcess:
            arguments = (self.folder, self.environment, number, self._socket, os.getpid())
            return _SPAWN.Process(target=run_worker, args=arguments, name=f"feedwell-worker-{number}")

        return start

    def _take_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: self._stop.set())


def run_worker(folder: Path, environment: str | None, number: int, sock: socket.socket, parent: int) -> None:
    """One worker process: its own stores, its own pipeline thread, the shared socket."""
    import uvicorn

    from feedwell.serving.app import create_app
    from feedwell.serving.metrics import MetricsBoard
    from feedwell.serving.runtime import Runtime

    board = MetricsBoard(folder / STATE_FOLDER, f"worker-{number}")
    app = create_app(Runtime.open(folder, environment=environment), board)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)

    def orphaned() -> None:
        server.should_exit = True

    _when_orphaned(parent, orphaned)
    server.run(sockets=[sock])


def run_projector(folder: Path, environment: str | None, parent: int) -> None:
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
    log = EventLog.open(inside, load_project(folder, environment=environment), SystemClock())
    projector = Projector(inside, log, FeatureSets(ReleaseStore(inside), folder, environment=environment))
    board = MetricsBoard(inside, "projector")

    def publish() -> None:
        while not stop.wait(1.0):
            board.publish(projector.telemetry)

    threading.Thread(target=publish, name="feedwell-metrics", daemon=True).start()
    projector.run_forever(stop)
    board.withdraw()


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

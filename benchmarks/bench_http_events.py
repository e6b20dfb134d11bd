"""Events over HTTP in batches of 100: acknowledged per second, and folded into 12 aggregates over 3 entities.

    python benchmarks/bench_http_events.py [--seconds 20] [--workers 1]

A real server (worker and projector as processes) on the loopback; the client is this process and its CPU is reported
apart. The floor is the same batches appended and folded in one process without HTTP.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from _report import cpu_s, header

from feedwell.core.clock import SystemClock
from feedwell.data.contracts import EventContract
from feedwell.features import Fold
from feedwell.pipeline.compile import compile_features
from feedwell.pipeline.project_file import parse_project
from feedwell.serving.supervisor import Supervisor
from feedwell.stores.log import EventLog
from feedwell.stores.state import LmdbState

N_USERS, N_ITEMS, BATCH = 20_000, 5_000, 100


def project_text() -> str:
    features = []
    for entity in ("user", "item", "category"):
        for name, aggregate, events, windows in (
            ("views", "count", '["view"]', '["1h", "1d"]'),
            ("buys", "count", '["buy"]', '["1d", "7d"]'),
            ("spent", "sum", '["buy"]', '["7d"]'),
            ("last", "time_since_last", '["view"]', ""),
        ):
            windows_line = f"windows = {windows}\n" if windows else ""
            features.append(
                f'[feature.{entity}_{name}]\nentity = "{entity}"\naggregate = "{aggregate}"\nevents = {events}\n'
                f"{windows_line}"
            )
    return (
        '[project]\nname = "bench"\n[data]\nexposure = ["view"]\n[event.view]\n[event.buy]\nvalue_scale = 100\n'
        '[entity.item]\ncolumns = { category = "string" }\n[entity.category]\nfrom = "item.category"\n'
        '[source.popular]\nevents = ["view"]\n[filter.seen]\nevents = ["buy"]\n' + "\n".join(features)
    )


def batches(n: int, seed: int = 1) -> Iterator[list[dict[str, object]]]:
    rng = random.Random(seed)
    for b in range(n):
        yield [
            {
                "event_id": f"{seed}-{b}-{i}",
                "type": "buy" if rng.random() < 0.1 else "view",
                "user": f"u{int(N_USERS * rng.random() ** 2)}",
                "item": f"i{int(N_ITEMS * rng.random() ** 3)}",
                "value": 9.5,
                "session": f"s{b % 997}",
                "surface": "home",
            }
            for i in range(BATCH)
        ]


def items() -> list[dict[str, object]]:
    return [{"item_id": f"i{i}", "category": f"c{i % 50}"} for i in range(N_ITEMS)]


def floor(n: int) -> tuple[float, float]:
    """Events per second of append alone and of append and fold, in one process, without HTTP."""
    project = parse_project(project_text())
    features, check, clock = compile_features(project), EventContract(project), SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        log = EventLog.open(Path(folder), project, clock)
        state = LmdbState.open(Path(folder) / "state.mdb")
        fold, work = Fold([features], state), list(batches(n, 2))
        begin = time.perf_counter()
        for batch in work:
            log.append([e for e in (check(row, clock.now()) for row in batch) if not isinstance(e, str)])
        appended = time.perf_counter()
        after = -1
        while (table := log.read(after, 10_000)).num_rows:
            fold.fold(table)
            after = table["offset"][-1].as_py()
        folded = time.perf_counter()
        state.close()
        log.close()
    return n * BATCH / (appended - begin), n * BATCH / (folded - begin)


def send(connection: http.client.HTTPConnection, method: str, url: str, body: bytes | None = None) -> dict[str, object]:
    connection.request(method, url, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    found: dict[str, object] = json.loads(response.read())
    assert response.status in (200, 503), found
    return found


def sent(host: str, port: int, bodies: list[bytes], seconds: float) -> tuple[int, float, float, object, float]:
    """(events, s until the last was acknowledged, s until all were folded, lag between, the client's CPU-s)."""
    time.sleep(1.0)
    connection = http.client.HTTPConnection(host, port)
    while not send(connection, "GET", "/ready")["ready"]:
        time.sleep(0.2)
    send(connection, "PUT", "/v1/items", json.dumps(items()).encode())
    cpu, begin, n = cpu_s(), time.perf_counter(), 0
    for body in bodies:
        assert send(connection, "POST", "/v1/events", body)["accepted"] == BATCH
        n += BATCH
        if time.perf_counter() - begin > seconds:
            break
    acknowledged = time.perf_counter() - begin
    lag = send(connection, "GET", "/ready")["lag_events"]
    while send(connection, "GET", "/ready")["lag_events"]:
        time.sleep(0.005)
    folded = time.perf_counter() - begin
    connection.close()
    return n, acknowledged, folded, lag, cpu_s() - cpu


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=20.0)
    arguments.add_argument("--workers", type=int, default=1)
    options = arguments.parse_args()
    print(header("HTTP events, batches of 100, 12 features (18 columns) over user, item and category"))
    bodies = [json.dumps(batch).encode() for batch in batches(int(options.seconds * 300))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "feedwell.toml").write_text(project_text())
        supervisor = Supervisor(folder, port=0, workers=options.workers)
        try:
            host, port = supervisor.start()
            n, acknowledged, folded, lag, client = sent(host, port, bodies, options.seconds)
        finally:
            supervisor.close()
    append_floor, fold_floor = floor(300)
    print(f"{n} events in {acknowledged:.1f} s, one connection, {options.workers} worker(s), one projector")
    print(
        f"acknowledged      {n / acknowledged:8.0f} events/s   ({n / acknowledged / append_floor:.2f} x append alone)"
    )
    print(
        f"and folded        {n / folded:8.0f} events/s   ({n / folded / fold_floor:.2f} x append + fold in one process)"
    )
    print(f"lag at the end    {lag:8} events")
    print(f"client CPU apart  {client:8.1f} s of {acknowledged:.1f} s wall")
    print(f"floor: append {append_floor:.0f}, append + fold {fold_floor:.0f} events/s in one process without HTTP")


if __name__ == "__main__":
    main()

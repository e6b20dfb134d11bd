"""A server in this process: the app on its own event loop, reached through httpx, and the projector by hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from feedwell.core.artifact import CHAMPION, Release
from feedwell.pipeline.project_file import parse_project
from feedwell.pipeline.projector import Projector
from feedwell.serving.app import create_app
from feedwell.serving.reload import FeatureSets
from feedwell.serving.runtime import Runtime
from feedwell.stores.releases import ReleaseStore

from ..pipeline import parts as misbehaving
from ..pipeline.conftest import PROJECT

SHOP_TEXT = PROJECT


def _fill(inside: Path) -> None:
    (inside / "of").write_text("of another version")


def unreadable_champion(folder: Path) -> str:
    """A champion of which every checksum holds, and whose source cannot read its artifact."""
    releases, text = ReleaseStore(folder / ".feedwell"), SHOP_TEXT + "[source.item_knn]\n"
    made = releases.write_artifact("source", "item_knn", _fill)
    release = Release(
        release_id=releases.new_release_id({}, text),
        created_at=1,
        artifacts={"source.item_knn": made},
        project_text=text,
        project_digest=parse_project(text).digest,
        features_version="f",
    )
    releases.write_release(release)
    releases.set_channel(CHAMPION, release.release_id)
    return release.release_id


class Server:
    """A running app; `get`, `post` and `put` return httpx responses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = Runtime.open(folder)
        self.projector = Projector(folder / ".feedwell", self.runtime.log, FeatureSets(self.runtime.releases, folder))
        self.projector.catch_up()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        app = create_app(self.runtime)
        self._life = app.router.lifespan_context(app)
        self.await_(self._life.__aenter__())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")
        self.wait_ready()

    def await_(self, coroutine: Any, timeout: float = 60.0) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def call(self, method: str, url: str, **more: Any) -> httpx.Response:
        response: httpx.Response = self.await_(self.client.request(method, url, **more))
        return response

    def get(self, url: str, **more: Any) -> httpx.Response:
        return self.call("GET", url, **more)

    def post(self, url: str, **more: Any) -> httpx.Response:
        return self.call("POST", url, **more)

    def put(self, url: str, **more: Any) -> httpx.Response:
        return self.call("PUT", url, **more)

    def feed(self, user: str = "u1", **query: Any) -> dict[str, Any]:
        response = self.post("/v1/recommend", json={"user_id": user, **query})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def fold(self) -> None:
        self.runtime.served.flush()
        self.projector.catch_up()

    def stock(self) -> None:
        items = [{"item_id": f"i{i}", "price": float(i), "creator": f"c{i % 4}"} for i in range(30)]
        assert self.put("/v1/items", json=items).json()["accepted"] == 30
        events = [{"type": "view", "user": f"u{i % 5}", "item": f"i{i % 23}"} for i in range(60)]
        assert self.post("/v1/events", json={"events": events}).json()["accepted"] == 60
        self.fold()

    def wait_ready(self) -> None:
        for _ in range(3000):
            if self.get("/ready").status_code == 200:
                return
            time.sleep(0.01)
        raise AssertionError(self.get("/ready").text)

    def close(self) -> None:
        self.await_(self.client.aclose())
        self.await_(self._life.__aexit__(None, None, None))
        self.projector.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture(scope="session")
def parts() -> ModuleType:
    return misbehaving


@pytest.fixture
def servers(tmp_path: Path, parts: ModuleType) -> Iterator[Callable[..., Server]]:
    """Starts servers that are closed at the end: `servers(project_text)`."""
    started: list[Server] = []

    def start(text: str = SHOP_TEXT, *, stocked: bool = True) -> Server:
        folder = tmp_path / f"shop{len(started)}"
        folder.mkdir()
        (folder / "feedwell.toml").write_text(text)
        server = Server(folder)
        started.append(server)
        if stocked:
            server.stock()
        return server

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One stocked server for tests that leave it as good as they found it."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "feedwell.toml").write_text(SHOP_TEXT)
    opened = Server(folder)
    opened.stock()
    yield opened
    opened.close()

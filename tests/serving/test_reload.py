"""Publishing and rolling back while requests run: each answer is of one release, never of two."""

from __future__ import annotations

from collections.abc import Callable

from feedwell.core.artifact import CHAMPION, Release
from feedwell.core.project_file import parse_project
from feedwell.pipeline.compile import compile_features

from .conftest import SHOP_TEXT, Server

LONGER = SHOP_TEXT.replace("k = 6", "k = 9")
OTHER_FEATURES = LONGER.replace('windows = ["1h", "1d"]', 'windows = ["7d"]')


def publish(server: Server, text: str) -> str:
    releases, project = server.runtime.releases, parse_project(text)
    release = Release(
        release_id=releases.new_release_id({}, text),
        created_at=1,
        artifacts={},
        project_text=text,
        project_digest=project.digest,
        features_version=compile_features(project).version,
    )
    releases.write_release(release)
    releases.set_channel(CHAMPION, release.release_id)
    return release.release_id


def test_publish_and_rollback_swap_whole_releases(servers: Callable[..., Server]) -> None:
    server = servers()
    server.runtime._stop.set()  # only this test looks at the channel
    server.runtime._watch.join(10)  # type: ignore[union-attr]
    first, second = publish(server, SHOP_TEXT), publish(server, LONGER)
    expected = {first: 6, second: 9}
    for i in range(20):
        if i % 2:
            server.runtime.releases.rollback(CHAMPION)
        else:
            server.runtime.releases.set_channel(CHAMPION, second)
        server.put("/v1/items", json={"item_id": f"new{i}"})
        assert server.runtime.look() or i == 0
        feed = server.feed()
        record = server.runtime.records.get(feed["request_id"])
        assert record is not None
        assert record.release_id == feed["release"] == (first if i % 2 else second)
        assert len(feed["items"]) == record.n == expected[record.release_id]
        assert all(item["item_id"] for item in feed["items"])


def test_a_release_waits_until_its_features_are_kept(servers: Callable[..., Server]) -> None:
    server = servers()
    server.runtime._stop.set()
    server.runtime._watch.join(10)  # type: ignore[union-attr]
    release_id = publish(server, OTHER_FEATURES)
    assert server.runtime.look() is False
    assert server.feed()["release"] == "untrained"
    server.fold()
    assert server.runtime.look() is True
    assert server.feed()["release"] == release_id

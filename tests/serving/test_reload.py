"""Publishing and rolling back while requests run: each answer is of one release, never of two."""

from __future__ import annotations

from collections.abc import Callable

from feedwell.core.artifact import CHAMPION, Release
from feedwell.pipeline.compile import compile_features
from feedwell.pipeline.project_file import parse_project

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
    server.runtime.unwatch()  # only this test looks at the channel
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
    server.runtime.unwatch()
    release_id = publish(server, OTHER_FEATURES)
    assert server.runtime.look() is False
    assert server.feed()["release"] == "untrained"
    server.fold()
    assert server.runtime.look() is True
    assert server.feed()["release"] == release_id


def test_a_release_with_other_events_or_entities_or_times_waits_for_a_restart(servers: Callable[..., Server]) -> None:
    server = servers()
    server.runtime.unwatch()
    runtime = server.runtime
    first = publish(server, LONGER)
    assert runtime.look() is True
    others = [
        LONGER + more for more in ("[event.share]\n", "[entity.maker]\n", '[entity.price]\nfrom = "item.price"\n')
    ]
    others.append(LONGER.replace("seed = 7", 'timezone = "Europe/Berlin"'))
    others.append(LONGER.replace("[data]", '[data]\nts_unit = "ms"'))
    assert LONGER not in others
    for text in others:
        other = publish(server, text)
        assert runtime.look() is False
        assert runtime.look() is False  # and says so once only
        ready = server.get("/ready").json()
        assert ready["ready"] is ready["restart_needed"] is True
        assert other in ready["note"]
        assert "restart" in ready["note"]
        assert runtime.telemetry.value("restart_needed") == 1
        assert server.feed()["release"] == first
        runtime.releases.set_channel(CHAMPION, first)
        assert runtime.look() is False
        assert server.get("/ready").json()["restart_needed"] is False
        assert runtime.telemetry.value("restart_needed") == 0


def test_served_events_follow_the_answer_and_are_flushed_at_the_end(servers: Callable[..., Server]) -> None:
    server = servers()
    before = server.runtime.log.high_water()[0]
    feeds = [server.feed("u1"), server.feed("somebody new")]
    log = server.runtime.log
    server.runtime.served.close()
    rows = [row for row in log.read(before, 100).to_pylist() if row["type"] == "served"]
    assert [row["request_id"] for row in rows] == [feed["request_id"] for feed in feeds for _ in feed["items"]]
    assert [row["slot"] for row in rows] == [item["slot"] for feed in feeds for item in feed["items"]]

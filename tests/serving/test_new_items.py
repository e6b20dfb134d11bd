"""An item that is put can be retrieved soon after, by sources that follow the catalog, with no training between."""

from __future__ import annotations

import time
from collections.abc import Callable

from .conftest import SHOP_TEXT, Server

FOLLOWING = SHOP_TEXT + "\n[source.test_newcomers]\nk = 40\n"
POLLS = 200


def appears(server: Server, item: str) -> int:
    """After how many polls the source's items have it; POLLS: never."""
    for poll in range(POLLS):
        server.fold()
        names = server.runtime.log.ids.names("item", sorted(known(server)))
        if item in names:
            return poll
        time.sleep(0.01)
    return POLLS


def known(server: Server) -> dict[int, int]:
    return server.runtime.path.live.now.by_part.get("source.test_newcomers", {})


def test_a_put_item_reaches_the_followers_and_the_feed(servers: Callable[..., Server]) -> None:
    server = servers(FOLLOWING)
    assert appears(server, "i29") < POLLS
    assert "novel" not in server.runtime.log.ids.names("item", sorted(known(server)))
    assert server.put("/v1/items", json={"item_id": "novel", "creator": "c9"}).json()["accepted"] == 1
    assert appears(server, "novel") < POLLS
    shown = [row["item_id"] for row in server.feed("u1", n=60)["items"]]
    assert "novel" in shown

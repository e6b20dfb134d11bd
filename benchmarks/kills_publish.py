"""Kill scenario of releases: artifacts, a release, both channels moved, rolled back, pruned.

A reader in another process opens whatever the channel names meanwhile, every checksum verified.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kills import Ack

from feedwell.core.artifact import CANDIDATE, CHAMPION, Release
from feedwell.core.clock import SystemClock
from feedwell.core.errors import FeedwellError
from feedwell.stores.releases import ReleaseStore
from feedwell.training.promote import publish, rollback

KEEP = 3
PARTS = ("source.als", "ranker")


class PublishScenario:
    def __init__(self, *, channel_first: bool = False) -> None:
        self.name, self._channel_first = "publish", channel_first

    def work(self, folder: Path, seed: int, ack: Ack) -> None:
        if self._channel_first:
            ReleaseStore.write_release = _write_channel_first  # type: ignore[method-assign]
        store, rng = ReleaseStore(folder, SystemClock()), random.Random(seed)
        for n in itertools.count():
            release = _release(store, rng)
            store.write_release(release)
            store.set_channel(CANDIDATE, release.release_id)
            publish(store)
            _told(store, ack)
            if rng.random() < 0.3 and len(store.history(CHAMPION)) > 1:
                rollback(store)
                _told(store, ack)
            if n % 4 == 3:
                store.prune(KEEP)

    def beside(self, folder: Path, stop: threading.Event, ack: Ack) -> None:
        """Follows the channel as a worker does."""
        store = ReleaseStore(folder)
        while not stop.is_set():
            for problem in _channel_problems(store):
                ack(f"wrong: {problem}")
            time.sleep(0.002)

    def check(self, folder: Path, acked: Sequence[str]) -> list[str]:
        """Every release is whole; every move that was told stands, and each begins where the one before it ended."""
        store = ReleaseStore(folder)
        found = [line for line in acked if line.startswith("wrong")]
        for release_id in store.release_ids():
            found += _release_problems(store, release_id)
        return found + list(_channel_problems(store)) + list(_move_problems(store, acked))


def _release(store: ReleaseStore, rng: random.Random) -> Release:
    # Few contents, so that some artifacts are there already.
    artifacts = {part: _artifact(store, part, rng.randrange(40)) for part in PARTS}
    text = f"{rng.getrandbits(64)}"
    return Release(
        release_id=store.new_release_id(artifacts, text),
        created_at=time.time_ns() // 1000,
        artifacts=artifacts,
        project_text=text,
        project_digest="d",
        features_version="f",
        gates=({"name": "none", "passed": True, "why": "nothing to judge"},),
    )


def _artifact(store: ReleaseStore, part: str, content: int) -> str:
    def fill(folder: Path) -> None:
        for i in range(3):
            (folder / f"{i}.bin").write_bytes(b"%d-%d" % (content, i) * 3_000)

    kind, _, name = part.partition(".")
    return store.write_artifact(kind, name or "default", fill)


def _told(store: ReleaseStore, ack: Ack) -> None:
    """Acknowledges the newest move of the champion channel: the child is the only one who moves it."""
    ack(_line(store.moves(CHAMPION)[-1]))


def _line(move: Any) -> str:
    return f"{move['at']} {move['why']} {move['from']} {move['to']}"


def _channel_problems(store: ReleaseStore) -> Iterator[str]:
    for name in (CHAMPION, CANDIDATE):
        release_id = store.channel(name)
        try:
            if release_id is not None:
                store.verify(release_id)
        except FeedwellError as error:
            # It may have moved on, and the release it named been pruned: a worker looks again.
            if store.channel(name) == release_id:
                yield f"channel {name}: {error}"


def _release_problems(store: ReleaseStore, release_id: str) -> Iterator[str]:
    try:
        store.verify(release_id)
    except FeedwellError as error:
        yield f"release {release_id}: {error}"


def _move_problems(store: ReleaseStore, acked: Sequence[str]) -> Iterator[str]:
    moves = store.moves(CHAMPION)
    if not moves:
        if acked:
            yield "the channel forgot all its moves"
        return
    for before, after in itertools.pairwise(moves):
        if after["from"] != before["to"]:
            yield f"'{_line(after)}' does not begin where '{_line(before)}' ended"
    if moves[-1]["to"] != store.channel(CHAMPION):
        yield f"the channel is at {store.channel(CHAMPION)}, its last move was '{_line(moves[-1])}'"
    kept = [_line(move) for move in moves]
    told = [line for line in acked if not line.startswith("wrong") and int(line.split()[0]) >= moves[0]["at"]]
    for line in told:
        if kept.count(line) != 1:
            yield f"the move '{line}' was told, and is there {kept.count(line)} times"


def _write_channel_first(self: ReleaseStore, release: Release) -> None:
    """As it must not be: the channel names a release that is not there yet."""
    pointer = self._pointer(CHAMPION)
    self._move(CHAMPION, pointer, [*pointer["stack"], release.release_id], "publish")
    _write_release(self, release)


_write_release = ReleaseStore.write_release
PUBLISH = PublishScenario()
CHANNEL_FIRST = PublishScenario(channel_first=True)

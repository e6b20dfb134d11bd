"""Kill -9 while releases are published, rolled back and pruned."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedwell.core.artifact import CHAMPION
from feedwell.stores.releases import ReleaseStore

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
KILLS, TRIES = 5, 20


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_a_channel_names_a_whole_release_and_no_told_move_is_lost(tmp_path: Path):
    from kills import Killer

    with Killer("kills_publish:PUBLISH", tmp_path, seed=3, longest_s=0.1) as killer:
        for _ in range(KILLS):
            killer.kill_once()
            assert killer.check() == []
    assert killer.acked
    store = ReleaseStore(tmp_path)
    store.prune(keep=2)
    assert not list(tmp_path.rglob(".writing-*")), "what the killed ones left is cleared away"
    assert store.verify(store.channel(CHAMPION) or "")


def test_a_channel_moved_before_its_release_is_written_is_caught(tmp_path: Path):
    from kills import Killer

    with Killer("kills_publish:CHANNEL_FIRST", tmp_path, longest_s=0.05) as killer:
        for _ in range(TRIES):
            killer.kill_once()
            if any("channel champion: no release is called" in problem for problem in killer.check()):
                return
    pytest.fail(f"{TRIES} kills, and the channel never named a release that was not there")

"""Kill -9 of the projector under load: the state that is left, caught up, is one fold of the whole log."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TRIES = 20


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize(("scenario", "kills"), [("FOLD", 3), ("REBUILD", 3)])
def test_the_state_equals_a_fresh_fold(tmp_path: Path, scenario: str, kills: int):
    from kills import Killer

    with Killer(f"kills_fold:{scenario}", tmp_path / "feedwell", seed=kills, longest_s=0.2) as killer:
        for _ in range(kills):
            killer.kill_once()
        assert killer.check() == []
    assert killer.acked


def test_an_offset_committed_apart_from_its_rows_is_caught(tmp_path: Path):
    from kills import Killer

    with Killer("kills_fold:SPLIT_COMMIT", tmp_path / "feedwell", longest_s=0.1) as killer:
        for _ in range(TRIES):
            killer.kill_once()
            if any("of the state" in problem for problem in killer.check()):
                return
    pytest.fail(f"{TRIES} kills between two transactions, and the state was never wrong")

"""Kill -9 under load, against the acknowledgements that this process keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize(("scenario", "kills"), [("APPEND", 3), ("SEAL", 3), ("HISTORY", 3)])
def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path, scenario: str, kills: int):
    from kills import Killer

    with Killer(f"kills_log:{scenario}", tmp_path / "feedwell", seed=kills, longest_s=0.2) as killer:
        for _ in range(kills):
            killer.kill_once()
        assert killer.check() == []
        assert len(killer.acked) >= kills / 2
        killer.acked.append("never 1 20")
        assert "20 acknowledged events of 'never 1 20' are lost" in killer.check(), "the check itself can fail"

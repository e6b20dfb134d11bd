"""Killed at random points of publishing, a channel points to a whole release, and never backwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

from feedwell.stores.releases import ReleaseStore

PROGRAM = """
import sys
from pathlib import Path
from feedwell.core.artifact import Release
from feedwell.core.clock import SystemClock
from feedwell.stores.releases import ReleaseStore

store, start = ReleaseStore(Path(sys.argv[1]), SystemClock()), int(sys.argv[2])
for i in range(start, start + 100_000):
    def fill(folder):
        for part in range(3):
            (folder / f"{part}.bin").write_bytes(b"%d-%d" % (i, part) * 2_000)
    reference = store.write_artifact("source", "als", fill)
    release_id = f"r{i:07d}"
    store.write_release(Release(release_id=release_id, created_at=i, artifacts={"source.als": reference},
                                project_text=str(i), project_digest="d", features_version="f"))
    store.set_channel("champion", release_id)
    print(i, flush=True)
"""
KILLS = 20


def test_the_channel_always_points_to_a_whole_release(tmp_path):
    rng, acknowledged = random.Random(7), -1
    for kill in range(KILLS):
        start = (kill + 1) * 200_000
        worker = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        acknowledged = int(worker.stdout.readline())
        time.sleep(rng.random() * 0.03)
        os.kill(worker.pid, signal.SIGKILL)
        for line in worker.stdout.read().splitlines():
            acknowledged = int(line) if line.strip() else acknowledged
        worker.stdout.close()
        worker.wait()
        store = ReleaseStore(tmp_path)
        current = store.channel("champion")
        assert current is not None
        assert int(current[1:]) >= acknowledged
        release = store.verify(current)
        assert release.project_text == str(int(current[1:]))
        assert all(store.read(i).release_id == i for i in store.release_ids()[:3])
    store.prune(keep=2)
    assert not list(tmp_path.glob("artifacts/source/als/.writing-*"))
    store.rollback("champion")

"""A `train` for the test that kills it: `python killed_train.py FOLDER [--slow]`; prints release and steps taken."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from feedwell import workspace
from feedwell.core.clock import DAY, HOUR, ManualClock
from feedwell.nn import loop
from tests.training.conftest import START


def main(folder: Path, *, slow: bool) -> None:
    plain, steps = loop._Loop._step, [0]

    def step(self, rows_B):
        if slow:
            time.sleep(0.1)
        steps[0] += 1
        plain(self, rows_B)

    loop._Loop._step = step
    with workspace.open(folder, clock=ManualClock(START + 30 * DAY + HOUR)) as shop:
        release_id = shop.train(max_requests=20).release_id
        release = shop.releases.read(release_id)
        artifacts = {n: str(shop.releases.open_artifact(release.artifacts[n])) for n in ("source.two_tower", "ranker")}
    print(json.dumps({"steps": steps[0], "artifacts": artifacts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), slow="--slow" in sys.argv)

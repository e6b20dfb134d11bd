"""Kill -9 at uniformly random points under load, in append, seal, fold and publish: lost, doubled, state unlike a fold.

    python benchmarks/bench_kills.py [--kills 300] [--scenarios kills_log:APPEND,kills_fold:FOLD,...]

`kill -9` keeps the page cache: it says nothing about power loss.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from _report import Stopwatch, header
from kills import Killer

SCENARIOS = (
    "kills_log:APPEND",
    "kills_log:SEAL",
    "kills_log:HISTORY",
    "kills_fold:FOLD",
    "kills_fold:PROJECTOR",
    "kills_fold:REBUILD",
    "kills_publish:PUBLISH",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="in all, shared among the scenarios")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--check-every", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(header("kill -9 at uniformly random points"))
    places = args.scenarios.split(",")
    wrong = 0
    for i, place in enumerate(places):
        kills = len(range(i, args.kills, len(places)))
        with tempfile.TemporaryDirectory(prefix="feedwell-kills-") as folder, Stopwatch() as watch:
            problems: list[str] = []
            with Killer(place, Path(folder) / ".feedwell", seed=args.seed) as killer:
                for n in range(1, kills + 1):
                    killer.kill_once()
                    if n % args.check_every == 0:
                        problems += killer.check()
                problems += killer.check()
        wrong += len(problems)
        kept = f"{killer.kills} kills, {len(killer.acked):,} acknowledgements"
        print(f"{place:24s} {kept}, {len(problems)} problems, {watch}", flush=True)
        for problem in problems[:10]:
            print(f"    {problem}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

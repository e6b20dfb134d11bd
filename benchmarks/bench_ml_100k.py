"""MovieLens 100K: sources, pipeline and popularity on the last 20 % of each user's time line.

    FEEDWELL_DATA=... python benchmarks/bench_ml_100k.py [--requests N]

One request per distinct (user, ts) in the test; relevant: that user's ratings >= 4 from that ts on; seen: rated before.
Every request, unless `--requests` takes a part of them by hash. Learned from other users' later events: not causal.
"""

from __future__ import annotations

import argparse

from _project import print_table, show, workspace_of
from _report import Stopwatch, header


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=None)
    arguments = parser.parse_args()
    print(header("ml-100k, [split] by = user, last 20 %"))
    with workspace_of("ml-100k") as workspace, Stopwatch() as watch:
        report = workspace.evaluate(max_requests=arguments.requests, progress=show)
    print(f"# fitted and evaluated in {watch}")
    print_table(report)
    print()
    for head in report.heads:
        print(
            f"{head.objective} over {head.over}: {head.name}: {head.positives:,} of {head.n:,}; AUC {head.auc}, "
            f"within users {head.grouped_auc}, log loss {head.log_loss}, ECE {head.ece:.3f}"
        )


if __name__ == "__main__":
    main()

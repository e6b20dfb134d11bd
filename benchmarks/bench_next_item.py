"""Sources on the next item of toys-and-games, beside popularity and the published anchor of the transition counter.

FEEDWELL_DATA=... python benchmarks/bench_next_item.py
"""

from __future__ import annotations

import os
from pathlib import Path

from _report import ROOT, header

from feedwell.training.next_item import evaluate_next_item, read_sequences

ANCHOR = {"recall@10": 0.091, "ndcg@10": 0.060}
FILE = Path(os.environ.get("FEEDWELL_DATA", ROOT / "../shared/data")) / "toys-and-games" / "Toys_and_Games.txt"


def main() -> None:
    print(header("next item: toys-and-games"))
    if not FILE.exists():
        print(f"skipped: no file {FILE}; set FEEDWELL_DATA")
        return
    protocol, results = evaluate_next_item(read_sequences(FILE), ["popular", "transitions", "als"], 10)
    print(protocol)
    rows = [one.to_dict() for one in results]
    print("  ".join(f"{name:>13}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{v:>13.4f}" if isinstance(v, float) else f"{v:>13}" for v in row.values()))
    floor, counter = rows[0], rows[1]
    for name, anchor in ANCHOR.items():
        ratio = counter[name] / floor[name]
        print(f"transitions {name} {counter[name]:.4f}: published {anchor:.3f}, {ratio:.1f} x popularity")


if __name__ == "__main__":
    main()

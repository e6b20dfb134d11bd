"""The closed loop over seeds: does retraining pay, and how much of the oracle's lead is closed?

    python benchmarks/bench_closed_loop.py --presets social,shop,news --seeds 0:20 --out results/

Each seed is one JSON file in `--out`, written whole when it is done; a seed that has one is not lived again, so that a
run may be stopped and resumed, or divided by `--presets` and `--seeds`. Tune on seeds from 1000 on, judge on 0 to 19.
The peers are in the same worlds with the same luck: no retraining, popularity, random and the oracle.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from _project import show
from _report import header

from feedwell import workspace
from feedwell.jobs.drawing import svg
from feedwell.jobs.plan import Plan
from feedwell.jobs.simulate import ARMS, FROZEN, RETRAINED, Simulation
from feedwell.jobs.verdict import Verdict, verdict


def main() -> None:
    options = arguments()
    print(header("closed loop"))
    with TemporaryDirectory() as elsewhere:
        out = options.out or Path(elsewhere)
        for name in options.presets.split(","):
            plan = replace(Plan(), preset=name)
            found = [s for seed in options.seeds if (s := lived(plan, seed, out, only_read=options.only_read))]
            if found:
                judged = verdict(found)
                print_verdict(judged)
                (out / f"{name}.svg").write_text(svg(judged), encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="social,shop,news")
    parser.add_argument("--seeds", type=span, default=span("0:1"), help="FIRST:BEYOND")
    parser.add_argument("--out", type=Path, help="where results are kept; default: nowhere")
    parser.add_argument("--only-read", action="store_true", help="judge the results that are there, live nothing")
    return parser.parse_args()


def span(text: str) -> range:
    first, _, beyond = text.partition(":")
    return range(int(first), int(beyond or int(first) + 1))


def lived(plan: Plan, seed: int, out: Path, *, only_read: bool) -> Simulation | None:
    """The seed's simulation, from its file where there is one of the same plan."""
    path = out / f"{plan.preset}-{seed:03d}.json"
    if path.is_file():
        found = Simulation.from_dict(json.loads(path.read_text(encoding="utf-8"))["simulation"])
        if found.plan != plan:
            sys.exit(f"{path} is of another plan ({found.plan}); choose another --out")
        return found
    if only_read:
        return None
    begin = time.perf_counter()
    simulation = workspace.simulate(plan, seed, progress=show)
    wall_s = time.perf_counter() - begin
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    row = {"header": header("closed loop"), "wall_s": wall_s, "simulation": simulation.to_dict()}
    draft.write_text(json.dumps(row), encoding="utf-8")
    os.replace(draft, path)
    arms = {arm: sum(r.reward for r in simulation.of(arm)[1:]) / (plan.rounds - 1) for arm in ARMS}
    cpu = sum(simulation.cpu_s(arm) for arm in (RETRAINED, FROZEN)) + simulation.prepare_cpu_s
    told = ", ".join(f"{arm} {value:.3f}" for arm, value in arms.items())
    print(f"# {plan.preset} seed {seed}: {told}; both arms {cpu:.0f} CPU-s, {wall_s:.0f} s wall", flush=True)
    return simulation


def print_verdict(judged: Verdict) -> None:
    plan, n = judged.plan, len(judged.seeds)
    print(f"\n## {plan.preset}: {n} seeds, {plan}")
    print("| arm | " + " | ".join(f"round {r + 1}" for r in range(plan.rounds)) + " | from round 2 | a page | CPU-s |")
    print("|---" * (plan.rounds + 4) + "|")
    for arm in ARMS:
        cells = [f"{e.value:.3f}" for e in judged.rounds[arm]]
        cells += [str(judged.means[arm]), str(judged.per_request[arm]), f"{judged.cpu_s[arm]:.1f}"]
        print(f"| {arm} | {' | '.join(cells)} |")
    print(f"\nhistory and first release, shared: {judged.cpu_s['prepare']:.1f} CPU-s")
    print(f"retrained - frozen: {judged.gain}; last round {judged.last_gain}; a page {judged.gain_per_request}")
    for name, share in judged.shares.items():
        print(f"share of the oracle's lead closed, {name}: {share}")
    print(f"{judged.retrainings} retrainings, {judged.refused} refused; first releases forced: {judged.first_refused}")
    print(judged.statement())


if __name__ == "__main__":
    main()

"""Live in a simulated world, round after round: the system retrained, not retrained, and beside them who knows all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from feedwell import workspace
from feedwell.cli._shared import JsonOption, after_result, progress, show, table
from feedwell.jobs.drawing import svg
from feedwell.jobs.plan import Plan
from feedwell.jobs.simulate import ARMS, FROZEN, RETRAINED
from feedwell.jobs.verdict import Verdict, verdict
from feedwell.stores.durable import output_file, write_atomic

_DEFAULT = Plan()


def command(
    preset: Annotated[str, typer.Option(help="The world: news, shop or social.")] = _DEFAULT.preset,
    rounds: Annotated[int, typer.Option(min=2, max=1000, help="Rounds that every arm lives.")] = _DEFAULT.rounds,
    seed: Annotated[int, typer.Option(min=0, help="The first world's seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="So many worlds, seeds counted up.")] = 1,
    days: Annotated[int, typer.Option(min=1, help="Simulated days in a round.")] = _DEFAULT.days_per_round,
    history: Annotated[int, typer.Option(min=2, help="Days of history before round 1.")] = _DEFAULT.history_days,
    factor: Annotated[float, typer.Option(help="The world's size; 1 is the demo's.")] = _DEFAULT.factor,
    plot: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the picture to this SVG file.")] = None,
    json: JsonOption = False,
) -> None:
    picture = None if plot is None else output_file(plot, "--plot")
    plan = Plan(preset=preset, rounds=rounds, days_per_round=days, history_days=history, factor=factor)
    found = []
    for number in range(seed, seed + seeds):
        with progress(quiet=json) as advance:
            found.append(workspace.simulate(plan, number, progress=advance))
    judged = verdict(found)
    result = judged.to_dict() | {"simulations": [s.to_dict() for s in found]}
    show(result, lambda out: print_verdict(out, judged), as_json=json)
    if picture is not None:
        with after_result("--plot", picture):
            write_atomic(picture, svg(judged).encode())


def print_verdict(out: Console, judged: Verdict) -> None:
    """The reward of each arm by round, what retraining gained, and how much of the oracle's lead is closed."""
    plan = judged.plan
    out.print(
        f"a SIMULATED world: {plan.preset}, {plan.world.n_users} users, {plan.history_days} days of history, "
        f"{plan.rounds} rounds of {plan.days_per_round} day(s), {len(judged.seeds)} seed(s)",
        markup=False,
    )
    columns = ["arm", *(f"round {r + 1}" for r in range(plan.rounds)), "a page"]
    rows = [
        [arm, *(f"{e.value:.3f}" for e in judged.rounds[arm]), f"{judged.per_request[arm].value:.3f}"] for arm in ARMS
    ]
    out.print(table("True expected reward per user and day; a page: per request, from round 2 on", columns, rows))
    shares = [[name, str(share)] for name, share in judged.shares.items()]
    out.print(table("Share of the oracle's lead that is closed, from round 2 on", ["", "share"], shares))
    out.print(f"{RETRAINED} minus {FROZEN}: {judged.gain}; in the last round {judged.last_gain}", markup=False)
    out.print(
        f"{judged.retrainings} retrainings, {judged.refused} releases refused; first releases that "
        f"would have been: {judged.first_refused}",
        markup=False,
    )
    out.print(judged.statement(), markup=False)

"""Training and evaluation reports as tables for people; `plain` gives the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from feedwell.cli._shared import table
from feedwell.metrics import Interval
from feedwell.training.report import EvaluateReport, TrainReport


def print_evaluation(out: Console, found: EvaluateReport) -> None:
    """The table beside baselines, the heads, and in words what does not beat what."""
    names = list(found.rows[0].metrics) if found.rows else []
    rows = [
        [row.name, *(_interval(row.metrics[name]) for name in names), row.coverage, row.diversity.value, row.gini]
        for row in found.rows
    ]
    title = (
        f"{found.n_counted:,} of {found.n_requests:,} requests of {found.n_users:,} users have something relevant"
        f" ({found.relevant}); 95 % intervals by user"
    )
    out.print(table(title, ["", *names, "coverage", "diversity", "gini"], rows))
    if found.heads:
        heads = [
            [h.objective, h.over, h.name, h.n, h.positives, *map(_interval, (h.auc, h.grouped_auc, h.log_loss))]
            for h in found.heads
        ]
        out.print()
        columns = ["objective", "over", "model", "rows", "positive", "AUC", "AUC by user", "log loss"]
        out.print(table("How well outcomes are predicted in the test span", columns, heads))
    if found.groups:
        pipeline = next(row for row in found.rows if row.kind == "pipeline")
        title = (
            f"Exposure by group beside relevance: Gini over groups {pipeline.group_gini:.3f}, distance "
            f"{pipeline.group_distance:.3f}"
        )
        groups = [[g.group, f"{g.exposure:.3f}", f"{g.relevant:.3f}"] for g in found.groups[:8]]
        out.print()
        out.print(table(title, ["group", "share of exposure", "share of relevant"], groups))
    if found.quantities:
        quantities = [
            [
                *(q.objective, q.over, q.name, q.n, q.mean),
                *map(_interval, (q.poisson_deviance, q.rmse, q.mae, q.rank_correlation)),
            ]
            for q in found.quantities
        ]
        out.print()
        columns = ["objective", "over", "model", "rows", "mean", "deviance", "RMSE", "MAE", "rank corr. by user"]
        out.print(table("How well amounts are predicted in the test span", columns, quantities))
    out.print()
    _bullets(out, [note for note in (found.note, *_differences(found), *found.statements) if note])
    _bullets(out, [f"degraded in {n} requests: {why}" for why, n in found.degraded.items()])


def print_training(out: Console, found: TrainReport, page: Path | None = None) -> None:
    """The evaluation, the gates, the warnings and the cost; `page`: where people find all of it."""
    print_evaluation(out, found.evaluation)
    out.print()
    _bullets(out, [f"warning: {warning}" for warning in found.warnings])
    thin = [row.feature for row in found.coverage if row.declared and row.gap > 0]
    gaps = f"; values differ between batch and online for {', '.join(thin)}" if thin else ""
    out.print(f"{found.n_rows:,} training rows, {len(found.coverage)} feature columns{gaps}", markup=False)
    if found.served.get("slots"):
        counts = found.served
        out.print(f"{counts['slots']:,} slots served, {counts['seen']:,} seen; {counts['held']:,} events are theirs")
    for gate in found.gates:
        out.print(f"gate {gate.name}: {'passed' if gate.passed else 'NO'}, {gate.why}", markup=False)
    seconds = ", ".join(f"{name} {cost['wall_s']:.1f} s" for name, cost in found.cost.items())
    out.print(f"cost: {seconds}", markup=False)
    out.print(f"release {found.release_id} is the candidate", markup=False)
    if page is not None:
        out.print(f"the report as a page: {page}", markup=False, soft_wrap=True)


def lines_for(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[list[object]]:
    return [[row[name] for name in columns] for row in rows]


def _differences(found: EvaluateReport) -> Iterator[str]:
    for row in found.differences:
        if row.metric.startswith("ndcg"):
            seen = f"; differences from {row.detectable:.4f} on would have shown" if row.detectable > 0 else ""
            yield f"{row.name} − {row.than}, {row.metric}: {row.difference.signed()}{seen}"


def _interval(value: Interval) -> str:
    """For a table's cell: too narrow to say why there is no interval."""
    if value.value != value.value:
        return "–"
    return str(value) if value.low == value.low else f"{value.value:.4f} [–]"


def _bullets(out: Console, lines: Sequence[str]) -> None:
    for line in lines:
        out.print(f"- {line}", markup=False, soft_wrap=True)

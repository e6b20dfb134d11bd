"""The figure of counts, durations and amounts: how far predictions are off, beside the simplest models."""

from __future__ import annotations

from collections.abc import Sequence

from feedwell.metrics import Interval
from feedwell.training.heads import CONSTANT
from feedwell.training.page.charts import Scale, axis, interval_mark
from feedwell.training.page.content import Content, ends
from feedwell.training.page.figure import Figure, Row, Table
from feedwell.training.page.models import of_one_scope
from feedwell.training.page.words import MISSING, count, figure, listed, small
from feedwell.training.report import QuantityRow


def quantities(content: Content) -> Figure | None:
    """Each model's error as a share of what the overall mean makes: only so do seconds and sums share one scale."""
    rows = of_one_scope(content.evaluation.quantities)
    if not rows:
        return None
    marks = {id(row): _relative(row, rows) for row in rows}
    scale = Scale.over([1.0, *(v for found in marks.values() for v in ends(found))], zero=False)
    ranker = rows[0].name
    return Figure(
        id="quantities",
        title=_sentence(rows),
        caption=f"Error over the {rows[0].over} of the test span as a share of the error of '{CONSTANT}', the overall "
        "mean in training; below 1 is better, the bar is the interval of the model's own error. Counts by their "
        f"Poisson deviance, all else by RMSE. {ranker} is the ranker.",
        heads=("outcome and model", "error / that of the mean"),
        rows=tuple(
            Row(
                group=row.objective,
                label=row.name,
                mark=interval_mark(scale, marks[id(row)], "ours" if row.name == ranker else "base"),
                value=figure(marks[id(row)].value, 3),
                note=_note(row, content.units.get(row.objective, "")),
                strong=row.name == ranker,
            )
            for row in rows
        ),
        axis=axis(scale, [small(t) for t in scale.ticks]),
        table=Table(
            head=("outcome", "over", "model", "rows", "mean", "Poisson deviance", "RMSE", "MAE", "rank corr. in users"),
            rows=tuple(_cells(row, content.units.get(row.objective, "")) for row in content.evaluation.quantities),
        ),
    )


def _relative(row: QuantityRow, rows: Sequence[QuantityRow]) -> Interval:
    """The row's error with its interval over the constant's; unknown where there is none, or it makes no error."""
    of_mean = next((r.loss.value for r in rows if (r.objective, r.name) == (row.objective, CONSTANT)), float("nan"))
    by = 1 / of_mean if of_mean > 0 else float("nan")
    found = row.loss
    return Interval(value=found.value * by, low=found.low * by, high=found.high * by, n_units=found.n_units)


def _note(row: QuantityRow, unit: str) -> str:
    return f"{row.loss_name} {small(row.loss.value)} {unit}".rstrip()


def _cells(row: QuantityRow, unit: str) -> tuple[str, ...]:
    outcome = f"{row.objective}, {unit}" if unit else row.objective
    deviance, rmse, mae = map(_with_interval, (row.poisson_deviance, row.rmse, row.mae))
    rank = _with_interval(row.rank_correlation)
    return (outcome, row.over, row.name, count(row.n), small(row.mean), deviance, rmse, mae, rank)


def _with_interval(found: Interval) -> str:
    if found.value != found.value:
        return MISSING
    bounds = "" if found.low != found.low else f" [{small(found.low)} to {small(found.high)}]"
    return small(found.value) + bounds


def _sentence(rows: Sequence[QuantityRow]) -> str:
    ranker, objectives = rows[0].name, list(dict.fromkeys(row.objective for row in rows))
    missed = []
    for objective in objectives:
        ours, *others = [row for row in rows if row.objective == objective]
        if not all(ours.loss.value < row.loss.value for row in others):
            missed.append(objective)
    if missed:
        return f"How much of {listed(missed)} there is, {ranker} predicts no better than a simpler model"
    return f"{ranker} predicts how much of {listed(objectives)} there is better than any simpler model"

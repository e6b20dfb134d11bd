"""Figures about models: how well outcomes are predicted, what calibration mended, how fits went, what features say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from feedwell.training.calibrate import CANDIDATES
from feedwell.training.page.charts import SHARES, Scale, axis, dots, interval_mark
from feedwell.training.page.content import Content, ends
from feedwell.training.page.figure import Figure, Panel, Row, Table
from feedwell.training.page.panels import Axis, Plane, Series, ticks
from feedwell.training.page.words import between, count, figure, listed, share, signed, small
from feedwell.training.report import CalibrationRow, CoverageRow, CurveRow, HeadRow, QuantityRow
from feedwell.training.statements import head_statements, wins

Judged = TypeVar("Judged", HeadRow, CalibrationRow, QuantityRow)
_MOST_FEATURES = 40
_MOST_FITS = 3
"""A title names no more of them."""
_NEGLIGIBLE = 0.02
"""Of the error before: a smaller change is none."""
_APART = 0.2


def heads(content: Content) -> Figure | None:
    """AUC of the ranker beside simpler models, over candidates where there are any."""
    rows = of_one_scope(content.evaluation.heads)
    if not rows:
        return None
    scale = Scale.over([0.5, *(v for row in rows for v in ends(row.auc))], zero=False)
    ranker = rows[0].name
    return Figure(
        id="heads",
        title=_heads_sentence(rows),
        caption=f"AUC over the {rows[0].over} of the test span: how often a row with the outcome is predicted above "
        f"one without; 0.5 is chance. {ranker} is the ranker, the others are simpler models on the same rows.",
        said=head_statements(content.evaluation.heads),
        heads=("outcome and model", "AUC"),
        rows=tuple(
            Row(
                group=row.objective,
                label=row.name,
                mark=interval_mark(scale, row.auc, "ours" if row.name == ranker else "base"),
                value=figure(row.auc.value, 3),
                note=f"by user {figure(row.grouped_auc.value, 3)}",
                strong=row.name == ranker,
            )
            for row in rows
        ),
        axis=axis(scale, [small(t) for t in scale.ticks]),
        table=Table(
            head=("outcome", "over", "model", "rows", "with outcome", "AUC", "AUC by user", "log loss", "error"),
            rows=tuple(_head_cells(row) for row in content.evaluation.heads),
        ),
    )


def reliability(content: Content) -> Figure | None:
    """Predicted against observed, before and after calibration."""
    rows = of_one_scope(content.evaluation.calibration)
    if not rows:
        return None
    return Figure(
        id="reliability",
        title=_calibration_sentence(rows),
        caption=f"Mean prediction and mean outcome over {rows[0].over} of the test span in bins of equal weight; on "
        "the dashed line they are equal. Both axes are stretched towards 0 (square roots). The error is the "
        "mean distance of predicted and observed.",
        panels=tuple(_reliability_panel(row, content.units.get(row.objective, "")) for row in rows),
        legend=(("before", "as the ranker predicts"), ("ours", "calibrated, as served")),
        table=Table(
            head=(
                "outcome",
                "over",
                "rows",
                "with outcome",
                "method",
                "error before",
                "after",
                "log loss before",
                "after",
            ),
            rows=tuple(
                (
                    row.objective,
                    row.over,
                    count(row.n),
                    count(row.outcomes),
                    row.method,
                    small(row.before.ece),
                    small(row.after.ece),
                    figure(row.before.log_loss.value, 5),
                    figure(row.after.log_loss.value, 5),
                )
                for row in content.evaluation.calibration
            ),
        ),
    )


def curves(content: Content) -> Figure | None:
    """Loss by round of everything that was fitted round by round."""
    rows = content.evaluation.curves
    if not rows:
        return None
    return Figure(
        id="curves",
        title=_curves_sentence(rows),
        caption="Loss by round (a tree, an epoch). What is kept back is the last stretch by time; the vertical line is "
        "the round that was kept.",
        panels=tuple(_curve_panel(row) for row in rows),
        legend=(
            ("before", "rows learned from"),
            *((("ours", "rows kept back"),) if any(r.valid for r in rows) else ()),
        ),
        table=Table(
            head=("part", "outcome", "rounds", "kept", "loss learned from", "loss kept back"),
            rows=tuple(
                (
                    row.part,
                    row.head,
                    count(len(row.train)),
                    count(row.best + 1),
                    figure(row.train[row.best], 5),
                    figure(row.valid[row.best], 5) if row.valid else figure(float("nan")),
                )
                for row in rows
            ),
        ),
    )


def features(content: Content) -> Figure | None:
    """Share of values that are not zero, in training and as served."""
    rows = list(content.coverage)
    if not rows:
        return None
    shown = sorted(rows, key=lambda row: (-_apart(row), row.train_non_zero))[:_MOST_FEATURES]
    return Figure(
        id="features",
        title=_features_sentence(rows),
        caption="Share of rows in which a feature says something (neither missing nor 0), in training and as served; "
        "far apart means that the ranker meets other values than it learned from. Largest distances first"
        + (f", {_MOST_FEATURES} of {len(rows)}." if len(rows) > _MOST_FEATURES else "."),
        heads=("feature", "in training, as served"),
        rows=tuple(
            Row(
                label=row.feature,
                mark=dots(SHARES, [(row.train_non_zero, "dot before"), (row.serve_non_zero, "dot ours")]),
                value=f"{share(row.train_non_zero)}, {share(row.serve_non_zero)}",
                note=_gap(row),
            )
            for row in shown
        ),
        axis=axis(SHARES, [share(t) for t in SHARES.ticks]),
        legend=(("before", "in training"), ("ours", "as served")),
        table=Table(
            head=("feature", "known, training", "known, served", "not 0, training", "not 0, served", "batch ≠ online"),
            rows=tuple(
                (
                    row.feature,
                    share(row.train_non_null),
                    share(row.serve_non_null),
                    share(row.train_non_zero),
                    share(row.serve_non_zero),
                    share(row.gap),
                )
                for row in rows
            ),
        ),
    )


def of_one_scope(rows: Sequence[Judged]) -> list[Judged]:
    """Those over candidates; where there are none, over exposures."""
    return [row for row in rows if row.over == CANDIDATES] or list(rows)


def _heads_sentence(rows: Sequence[HeadRow]) -> str:
    ranker, objectives = rows[0].name, list(dict.fromkeys(row.objective for row in rows))
    missed = []
    for objective in objectives:
        ours, *others = [row for row in rows if row.objective == objective]
        if not all(wins(ours, row, "auc") for row in others):
            missed.append(objective)
    told = f"Over {rows[0].over}, the AUC of {ranker} for {listed(missed or objectives)} is"
    return (
        f"{told} not shown to be above that of every simpler model" if missed else f"{told} above every simpler model's"
    )


def _head_cells(row: HeadRow) -> tuple[str, ...]:
    auc = f"{figure(row.auc.value, 3)} {between(row.auc)}".strip()
    within, loss = figure(row.grouped_auc.value, 3), figure(row.log_loss.value, 5)
    return (row.objective, row.over, row.name, count(row.n), count(row.positives), auc, within, loss, small(row.ece))


def _reliability_panel(row: CalibrationRow, unit: str) -> Panel:
    before, after = (list(zip(side.predicted, side.happened, strict=True)) for side in (row.before, row.after))
    high = max([v for point in (*before, *after) for v in point], default=0.0) or 1.0
    low = min([0.0, *(v for point in (*before, *after) for v in point)])
    scale = Scale.over([low, high], n_ticks=3)
    marks = _root_ticks(scale.high) if low >= 0 else scale.ticks
    title = f"predicted, {unit}" if unit else "predicted"
    x = Axis(low=scale.low, high=scale.high, ticks=ticks(marks, small), title=title, root=low >= 0)
    y = Axis(low=scale.low, high=scale.high, ticks=ticks(marks, small), title="", root=low >= 0)
    errors = f"{small(row.before.ece)} → {small(row.after.ece)} {unit}".rstrip()
    drawing = Plane(x=x, y=y, diagonal=True).draw(
        [
            Series(name="before", tone="before", points=before, dots=True),
            Series(name="after", tone="ours", points=after, dots=True),
        ],
        f"{row.objective}: predicted against observed; error before → after {errors}",
    )
    change = "" if row.kind != "binary" else f"; log loss {signed(row.log_loss_difference.value, 5)}"
    method = "as predicted" if row.method == "none" else row.method
    return Panel(title=f"{row.objective}: observed", drawing=drawing, note=f"error {errors} ({method}){change}")


def _root_ticks(high: float) -> tuple[float, ...]:
    """Round numbers that stand apart on an axis of square roots."""
    found = [0.0]
    for power in range(-6, 7):
        for step in (1, 2, 5):
            value = step * 10.0**power
            if value <= high and math.sqrt(value / high) - math.sqrt(found[-1] / high) >= _APART:
                found.append(value)
    return tuple(found)


def _calibration_sentence(rows: Sequence[CalibrationRow]) -> str:
    better = [r.objective for r in rows if r.before.ece - r.after.ece > _NEGLIGIBLE * r.before.ece]
    worse = [r.objective for r in rows if r.after.ece - r.before.ece > _NEGLIGIBLE * r.before.ece]
    closer = f"Calibration brings predictions of {listed(better)} closer to what happens" if better else ""
    if worse:
        further = f"moved those of {listed(worse)} away" if better else f"moved predictions of {listed(worse)} away"
        return f"{closer}, but {further}" if better else f"Calibration {further} from what happens in the test span"
    if better:
        return closer
    return "Predictions mean what they say, before calibration and after"


def _curves_sentence(rows: Sequence[CurveRow]) -> str:
    if not any(row.valid for row in rows):
        return "Nothing was kept back that tells after how many rounds to stop"
    watched = [row for row in rows if row.valid]
    stopped = [row for row in watched if row.best + 1 < len(row.train)]
    if not stopped:
        return "No fit stopped before its last round: more rounds may gain"
    if len(watched) > _MOST_FITS:
        return f"{len(stopped)} of {len(watched)} fits were best before their last round"
    told = [f"{_fit_name(row)} at round {row.best + 1} of {len(row.train)}" for row in stopped]
    told += [f"{_fit_name(row)} at its last" for row in watched if row not in stopped]
    return listed([told[0].replace(" at round ", " was best at round "), *told[1:]])


def _fit_name(row: CurveRow) -> str:
    return f"{row.part} for {row.head}" if row.head else row.part


def _curve_panel(row: CurveRow) -> Panel:
    scale = Scale.over([*row.train, *row.valid], zero=False, n_ticks=3)
    n = len(row.train)
    rounds = Scale.over([1, max(n, 2)], zero=False, n_ticks=3)
    x = Axis(low=1, high=max(n, 2), ticks=ticks([t for t in rounds.ticks if 1 <= t <= n] or [1], count), title="round")
    y = Axis(low=scale.low, high=scale.high, ticks=ticks(scale.ticks, small), title="")
    series = [Series(name="train", tone="before", points=list(enumerate(row.train, 1)), dots=n < 12)]
    if row.valid:
        series.append(Series(name="valid", tone="ours", points=list(enumerate(row.valid, 1)), dots=n < 12))
    title = f"{row.part}: {row.head}, loss" if row.head else f"{row.part}: loss"
    told = f"{title} over {n} rounds; round {row.best + 1} was kept"
    plane = Plane(x=x, y=y, mark=(row.best + 1, f"kept: {row.best + 1}"))
    return Panel(title=title, drawing=plane.draw(series, told))


def _apart(row: CoverageRow) -> float:
    distance = abs(row.train_non_zero - row.serve_non_zero)
    return distance if distance == distance else 0.0


def _features_sentence(rows: Sequence[CoverageRow]) -> str:
    differ = [row.feature for row in rows if row.gap > 0]
    far = [row.feature for row in rows if _apart(row) > 0.2]
    if differ:
        return f"Batch and online read {listed(differ)} differently"
    if far:
        return f"Batch and online agree; {listed(far)} fill otherwise in serving than in training"
    return f"All {len(rows)} features are filled in serving as in training"


def _gap(row: CoverageRow) -> str:
    if row.gap > 0:
        return f"differs in {share(row.gap)}"
    return "same both ways" if row.gap == 0 else ""

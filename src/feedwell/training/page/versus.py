"""Against the alternatives: each way of making lists with its interval, and the pipeline minus each."""

from __future__ import annotations

from feedwell.training.page.charts import Scale, axis, interval_mark
from feedwell.training.page.content import Content, ends, value_of
from feedwell.training.page.figure import Figure, Row, Table
from feedwell.training.page.words import (
    between,
    bracket,
    figure,
    listed,
    metric_name,
    share,
    signed,
    small,
    system_name,
)
from feedwell.training.report import DifferenceRow
from feedwell.training.walk import PIPELINE

TONES = {"pipeline": "ours", "source": "source", "baseline": "base"}
KINDS = {"pipeline": "this project", "source": "one source alone", "baseline": "baselines"}


def alternatives(content: Content) -> Figure | None:
    """Each way of making lists with its interval, on the page's metric."""
    metric, rows = content.metric, content.evaluation.rows
    if not metric:
        return None
    ordered = [row for row in rows if row.kind == "pipeline"] + content.others
    scale = Scale.over(v for row in ordered for v in ends(row.metrics[metric]))
    names = list(ordered[0].metrics)
    return Figure(
        id="alternatives",
        title=_values_sentence(content),
        caption="Dots are means over requests, lines 95 % intervals by user. All answer the same requests.",
        heads=("made by", metric_name(metric)),
        rows=tuple(
            Row(
                label=system_name(row.name),
                mark=interval_mark(scale, row.metrics[metric], TONES[row.kind]),
                value=figure(row.metrics[metric].value),
                note=between(row.metrics[metric]),
                strong=row.name == PIPELINE,
            )
            for row in ordered
        ),
        axis=axis(scale, [small(t) for t in scale.ticks]),
        legend=tuple((TONES[kind], KINDS[kind]) for kind in KINDS if any(row.kind == kind for row in ordered)),
        table=Table(
            head=("", *(metric_name(n) for n in names), "catalog shown", "diversity", "Gini"),
            rows=tuple(
                (
                    system_name(row.name),
                    *(f"{figure(row.metrics[n].value)} {bracket(row.metrics[n])}".strip() for n in names),
                    share(row.coverage),
                    figure(row.diversity.value, 3),
                    figure(row.gini, 3),
                )
                for row in ordered
            ),
        ),
    )


def gains(content: Content) -> Figure | None:
    """The pipeline minus each alternative, paired by request."""
    rows = _differences(content)
    if not rows:
        return None
    scale = Scale.over(v for row in rows for v in ends(row.difference))
    return Figure(
        id="gains",
        title=_hardest_sentence(rows),
        caption="The difference on the same requests, with its 95 % interval; left of the line the alternative is "
        "better. The table says how large a difference would have shown four times in five.",
        heads=("pipeline minus", f"difference in {metric_name(rows[0].metric)}"),
        rows=tuple(
            Row(
                label=system_name(row.than),
                mark=interval_mark(scale, row.difference, _verdict(row)[0]),
                value=signed(row.difference.value),
                note=f"{_verdict(row)[1]}, {between(row.difference, sign=True)}".rstrip(", "),
            )
            for row in rows
        ),
        axis=axis(scale, [signed(t, 3) if t else "0" for t in scale.ticks]),
        legend=(("win", "better"), ("even", "no difference seen"), ("loss", "worse")),
        table=Table(
            head=("pipeline minus", "metric", "difference", "95 % interval", "would have shown from"),
            rows=tuple(
                (
                    system_name(d.than),
                    metric_name(d.metric),
                    signed(d.difference.value),
                    between(d.difference, sign=True),
                    figure(d.detectable),
                )
                for d in content.evaluation.differences
            ),
        ),
    )


def gain_sentence(content: Content) -> str:
    """What the comparison came to, as a headline."""
    rows = _differences(content)
    if not rows:
        return "There was nothing to compare with"
    metric, n = metric_name(content.metric), len(rows)
    won = [row for row in rows if row.wins]
    lost = [system_name(row.than) for row in rows if row.difference.high < 0]
    if len(won) == n:
        return f"The pipeline beats every alternative on {metric}"
    if not won and not lost:
        return f"No difference was seen between the pipeline and {_any_of(n)} on {metric}"
    if not lost:
        return f"The pipeline beats {len(won)} of {_any_of(n)} on {metric}"
    beaten = f"beats {len(won)} of {_any_of(n)} on {metric} but " if won else ""
    where = "" if won else f" on {metric}"
    return f"The pipeline {beaten}is worse than {listed(lost)}{where}"


def _values_sentence(content: Content) -> str:
    ours, others = content.pipeline, content.others
    if ours is None or not others:
        return f"{metric_name(content.metric)} of every way to make the lists"
    value, theirs = (figure(row.metrics[content.metric].value) for row in (ours, others[0]))
    return f"{metric_name(content.metric)} is {value} for the pipeline, {theirs} for {system_name(others[0].name)}"


def _hardest_sentence(rows: list[DifferenceRow]) -> str:
    """The difference to the alternative that is hardest to beat."""
    row = min(rows, key=lambda d: d.difference.value)
    gap = f"{signed(row.difference.value)} ({_verdict(row)[1]})"
    return f"Hardest to beat is {system_name(row.than)}: {gap}"


def _any_of(n: int) -> str:
    return "its one alternative" if n == 1 else f"{n} alternatives"


def _differences(content: Content) -> list[DifferenceRow]:
    rows = [d for d in content.evaluation.differences if d.metric == content.metric]
    return sorted(rows, key=lambda d: (-value_of(d.difference), d.than))


def _verdict(row: DifferenceRow) -> tuple[str, str]:
    if row.wins:
        return "win", "better"
    return ("loss", "worse") if row.difference.high < 0 else ("even", "no difference seen")

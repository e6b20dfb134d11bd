"""Who gets what: slots over the catalog, quality over kinds of users."""

from __future__ import annotations

from feedwell.training.evaluate import WANTED
from feedwell.training.page.charts import Scale, axis, dots, interval_mark
from feedwell.training.page.content import Content, ends, value_of
from feedwell.training.page.figure import Figure, Panel, Row, Table
from feedwell.training.page.panels import Axis, Plane, Series, ticks
from feedwell.training.page.words import MISSING, count, figure, listed, metric_name, share, small, system_name
from feedwell.training.report import LorenzRow, SliceRow
from feedwell.training.walk import PIPELINE

_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_WEIGHT = "1 / log2(1 + slot)".replace(" ", "\N{NO-BREAK SPACE}")


def exposure(content: Content) -> Figure | None:
    """Lorenz curves of the pipeline, of its strongest alternative and of what was wanted."""
    found = {row.name: row for row in content.evaluation.lorenz}
    ours = found.get(PIPELINE)
    if ours is None:
        return None
    others = [found[row.name] for row in content.others if row.name in found][:1]
    drawn = [
        (ours, "ours"),
        *((row, "base") for row in others),
        *([(found[WANTED], "wanted")] if WANTED in found else []),
    ]
    side = Axis(low=0, high=1, ticks=ticks(_QUARTERS, share), title="")
    plane = Plane(
        x=Axis(low=0, high=1, ticks=ticks(_QUARTERS, share), title="share of the catalog, least shown first"),
        y=side,
        diagonal=True,
    )
    series = [Series(name=row.name, tone=tone, points=row.points) for row, tone in drawn]
    told = "Lorenz curves of slots over the catalog: " + ", ".join(
        f"{r.name} Gini {figure(r.gini, 3)}" for r, _ in drawn
    )
    pipeline = content.pipeline
    return Figure(
        id="exposure",
        title=_exposure_sentence(content, found),
        caption="The share of all slots that goes to the least shown part of the catalog. On the dashed line every "
        "item would get as many; the lower the curve, the more a few items take.",
        panels=(
            Panel(
                title="Who gets the slots",
                drawing=plane.draw(series, told),
                note=f"{share(pipeline.coverage)} of the catalog was shown at least once" if pipeline else "",
            ),
        ),
        legend=tuple((tone, f"{system_name(row.name)}, Gini {figure(row.gini, 3)}") for row, tone in drawn),
        table=Table(
            head=("lists by", "catalog shown", "Gini", "slots of the most shown 1 %", "of the most shown 10 %"),
            rows=tuple(_concentration(content, row) for row in content.evaluation.lorenz),
        ),
    )


def groups(content: Content) -> Figure | None:
    """Each group's share of exposure beside its share of what was relevant."""
    rows, pipeline = content.evaluation.groups, content.pipeline
    if not rows:
        return None
    scale = Scale.over(v for row in rows for v in (row.exposure, row.relevant) if v == v)
    apart = "" if pipeline is None else f" Gini of exposure over all groups: {figure(pipeline.group_gini, 2)}."
    return Figure(
        id="groups",
        title=_group_sentence(content),
        caption=f"Each group's share of the pipeline's exposure, where a slot weighs {_WEIGHT}, and of what was "
        f"relevant; the groups with the most exposure.{apart}",
        heads=("group of items", "exposure, relevant"),
        rows=tuple(
            Row(
                label=row.group,
                mark=dots(scale, [(row.relevant, "dot wanted"), (row.exposure, "dot ours")]),
                value=f"{share(row.exposure)}, {share(row.relevant)}",
            )
            for row in rows
        ),
        axis=axis(scale, [share(t) for t in scale.ticks]),
        legend=(("ours", "share of exposure"), ("wanted", "share of what was relevant")),
        table=Table(
            head=("lists by", "Gini over groups", "exposure elsewhere than what was relevant"),
            rows=tuple(
                (system_name(row.name), figure(row.group_gini, 3), share(row.group_distance))
                for row in content.evaluation.rows
            ),
        ),
    )


def slices(content: Content) -> Figure | None:
    """The pipeline in each slice beside its strongest alternative overall."""
    metric, others = content.metric, content.others
    ours = [row for row in content.evaluation.slices if row.name == PIPELINE]
    if not ours or not metric:
        return None
    rival = others[0].name if others else ""
    ahead = _ahead(content, ours)
    beside = {row.slice: value_of(row.metrics[metric]) for row in content.evaluation.slices if row.name == rival}
    scale = Scale.over(v for row in ours for v in (*ends(row.metrics[metric]), beside.get(row.slice, float("nan"))))
    return Figure(
        id="slices",
        title=_slice_sentence(ours, metric, len(ahead)),
        caption=f"{metric_name(metric)} of the pipeline by kind of user"
        + (f"; hollow: {system_name(rival)}, the strongest alternative over all." if rival else "."),
        said=_ahead_sentences(ahead, metric),
        heads=("slice", metric_name(metric)),
        rows=tuple(
            Row(
                label=row.slice,
                mark=interval_mark(scale, row.metrics[metric], "ours", beside=beside.get(row.slice, float("nan"))),
                value=figure(row.metrics[metric].value),
                note=f"{count(row.n_requests)} requests",
            )
            for row in ours
        ),
        axis=axis(scale, [small(t) for t in scale.ticks]),
        legend=(("ours", "pipeline"), *((("hollow", system_name(rival)),) if rival else ())),
        table=Table(
            head=("slice", "lists by", "requests", *(metric_name(m) for m in ours[0].metrics)),
            rows=tuple(
                (s.slice, system_name(s.name), count(s.n_requests), *(figure(i.value) for i in s.metrics.values()))
                for s in content.evaluation.slices
            ),
        ),
    )


def _exposure_sentence(content: Content, found: dict[str, LorenzRow]) -> str:
    pipeline = content.pipeline
    said = f"The pipeline shows {share(pipeline.coverage)} of the catalog" if pipeline else "Slots over the catalog"
    if WANTED not in found:
        return said
    ours, theirs = found[PIPELINE].gini, found[WANTED].gini
    how = "less evenly than" if ours > theirs + 0.02 else "more evenly than" if ours < theirs - 0.02 else "as evenly as"
    return f"{said}, {how} users' own choices fall on it"


def _group_sentence(content: Content) -> str:
    """The total variation of the two, in words."""
    moved = content.pipeline.group_distance if content.pipeline is not None else float("nan")
    if moved != moved:
        return "Exposure by group of items"
    return f"{share(moved)} of exposure would have to move to other groups to match what was relevant"


def _concentration(content: Content, row: LorenzRow) -> tuple[str, ...]:
    at = dict(row.points)
    coverage = next((r.coverage for r in content.evaluation.rows if r.name == row.name), float("nan"))
    top = [share(1 - at[x]) if x in at else MISSING for x in (0.99, 0.9)]
    return (system_name(row.name), share(coverage), figure(row.gini, 3), *top)


def _slice_sentence(rows: list[SliceRow], metric: str, n_ahead: int) -> str:
    known = [row for row in rows if value_of(row.metrics[metric]) >= 0]
    if len(known) < 2:
        return "Lists by kind of user"
    best, worst = (pick(known, key=lambda row: value_of(row.metrics[metric])) for pick in (max, min))
    said = f"Lists are best for {_short(best.slice)} and worst for {_short(worst.slice)}"
    return f"{said}; in {n_ahead} of {len(known)} slices an alternative scores higher" if n_ahead else said


def _ahead(content: Content, ours: list[SliceRow]) -> list[tuple[SliceRow, SliceRow]]:
    """(the best alternative, the pipeline) in each slice where one has the higher figure; of those that are shown to be
    better, if any is."""
    found = []
    for row in ours:
        others = [r for r in content.evaluation.slices if r.slice == row.slice and r.name != PIPELINE]
        shown = [r for r in others if _is_better(r, content.metric)]
        best = max(shown or others, key=lambda r: value_of(r.metrics[content.metric]), default=row)
        if value_of(best.metrics[content.metric]) > value_of(row.metrics[content.metric]):
            found.append((best, row))
    return found


def _is_better(row: SliceRow, metric: str) -> bool:
    """Whether the alternative is shown to be better than the pipeline."""
    return metric in row.pipeline_minus and row.pipeline_minus[metric].high < 0


def _ahead_sentences(ahead: list[tuple[SliceRow, SliceRow]], metric: str) -> tuple[str, ...]:
    """Where the pipeline is shown to be worse, and where an alternative is above it by the figures alone."""
    worse = [(best, ours) for best, ours in ahead if _is_better(best, metric)]
    unseen = [pair for pair in ahead if pair not in worse]
    said = [f"the pipeline is worse than an alternative for {_where(worse, metric)}"] if worse else []
    if unseen:
        said.append(f"an alternative is above the pipeline, not shown to be better, for {_where(unseen, metric)}")
    return tuple(said)


def _where(pairs: list[tuple[SliceRow, SliceRow]], metric: str) -> str:
    """`cold users (popular 0.0470 against 0.0310 on 217 requests)`"""
    return listed(
        [
            f"{_short(ours.slice)} ({system_name(best.name)} {figure(best.metrics[metric].value)} against "
            f"{figure(ours.metrics[metric].value)} on {count(ours.n_requests)} requests)"
            for best, ours in pairs
        ]
    )


def _short(name: str) -> str:
    return {"warm": "warm users", "cold (no event before)": "cold users"}.get(name, name)

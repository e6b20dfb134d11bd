"""From candidates to slates: what each step leaves, and what each source brings."""

from __future__ import annotations

from feedwell.training.funnel import ALL_SOURCES, RETRIEVED, SCORED, SHOWN
from feedwell.training.page.charts import SHARES, Scale, axis, bars
from feedwell.training.page.content import Content, value_of
from feedwell.training.page.figure import Figure, Row, Table
from feedwell.training.page.words import MISSING, count, share, system_name
from feedwell.training.report import SourceRow

_LEVELS = (RETRIEVED, SCORED, SHOWN)
"""Steps that say how many there are; the others say how many they take away."""
_PERCENT = [share(v) for v in SHARES.ticks]


def funnel(content: Content) -> Figure | None:
    """Candidates of a mean request, step by step."""
    steps = content.evaluation.funnel
    if not steps:
        return None
    first, shown = steps[0].candidates, steps[-1].candidates
    scale, left = Scale.over([first]), first
    rows = []
    for step in steps:
        if step.step not in _LEVELS:
            left -= step.candidates
        name, note = _step(step.step), "" if step.step in _LEVELS else _taken(count(step.candidates))
        at = step.candidates if step.step in _LEVELS else left
        if step.step != "not selected":
            rows.append(Row(label=name, mark=bars(scale, [(at, "ours")]), value=count(at), note=note))
    return Figure(
        id="funnel",
        title=f"Of {count(first)} candidates a request, {count(shown)} are shown",
        caption="How many candidates are left after each step, means over the judged requests. Only filters, cuts and "
        "the slate take any away.",
        heads=("step", "candidates left"),
        rows=tuple(rows),
        axis=axis(scale, [count(t) for t in scale.ticks]),
        table=Table(
            head=("step", "candidates a request", "of what users wanted"),
            rows=tuple((_step(s.step), count(s.candidates), share(s.wanted)) for s in steps),
        ),
    )


def wanted(content: Content) -> Figure | None:
    """The same steps for what users turned out to want."""
    steps = content.evaluation.funnel
    if not steps:
        return None
    rows, left = [], steps[0].wanted
    for step in steps:
        inner = step.step not in _LEVELS
        left -= step.wanted if inner else 0.0
        at = left if inner else step.wanted
        if step.step != "not selected":
            note = _taken(share(step.wanted)) if inner else ""
            rows.append(Row(label=_step(step.step), mark=bars(SHARES, [(at, "wanted")]), value=share(at), note=note))
    return Figure(
        id="wanted",
        title=f"{share(steps[0].wanted)} of what users wanted is retrieved, {share(steps[-1].wanted)} is shown",
        caption="Wanted: every distinct item with a positive outcome that follows the request, all requests together. "
        "What is not retrieved no ranker can show.",
        heads=("step", "share of the wanted"),
        rows=tuple(rows),
        axis=axis(SHARES, _PERCENT),
    )


def shown_by_source(content: Content) -> Figure | None:
    rows = [row for row in content.evaluation.sources if row.name != ALL_SOURCES]
    if not rows:
        return None
    most = max(rows, key=lambda row: row.shown)
    return Figure(
        id="shown-by-source",
        title=f"{system_name(most.name)} brought {share(most.shown)} of the shown items",
        caption="Several sources may bring one item, shares add up to more than 100 %; full colour: by no other.",
        heads=("source", "share of shown slots"),
        rows=tuple(
            Row(
                label=system_name(row.name),
                mark=bars(SHARES, [(row.shown, "source light"), (row.shown_alone, "source")]),
                value=share(row.shown),
                note=f"alone {share(row.shown_alone)}",
            )
            for row in sorted(rows, key=lambda row: -row.shown)
        ),
        axis=axis(SHARES, _PERCENT),
        legend=(("source light", "brought by it"), ("source", "by no other")),
        table=_source_table(content),
    )


def recall_by_source(content: Content) -> Figure | None:
    found = content.evaluation.sources
    if not found:
        return None
    together, rows = found[0], sorted(found[1:], key=lambda row: -value_of(row.recall))
    best = rows[0] if rows else together
    return Figure(
        id="recall-by-source",
        title=f"Sources bring {share(together.recall.value)} of what users wanted, {system_name(best.name)} the most "
        f"({share(best.recall.value)})",
        caption="Mean over requests of the share of wanted items among a source's candidates; full colour: what only "
        "this source found, which is what would be lost without it.",
        heads=("source", "recall"),
        rows=tuple(
            Row(
                label=system_name(row.name),
                mark=bars(
                    SHARES,
                    [(row.recall.value, "source light")]
                    + ([] if row.name == ALL_SOURCES else [(row.recall_alone.value, "source")]),
                    row.recall,
                ),
                value=share(row.recall.value),
                note=f"of {count(row.candidates)} candidates"
                if row.name == ALL_SOURCES
                else f"only it {share(row.recall_alone.value)}",
                strong=row.name == ALL_SOURCES,
            )
            for row in [together, *rows]
        ),
        axis=axis(SHARES, _PERCENT),
        legend=(("source light", "found"), ("source", "found by no other")),
    )


def _taken(amount: str) -> str:
    return f"−{amount}" if amount.strip("0.\N{NO-BREAK SPACE}%") else "takes none"


def _step(name: str) -> str:
    if name.startswith("filter."):
        return f"after the {name.removeprefix('filter.')} filter"
    if name.startswith("cut."):
        return f"after the {name.removeprefix('cut.')} cut"
    return name


def _source_table(content: Content) -> Table:
    return Table(
        head=("source", "candidates a request", "shown slots", "by no other", "recall", "95 % interval", "by no other"),
        rows=tuple(_source_cells(row) for row in content.evaluation.sources),
    )


def _source_cells(row: SourceRow) -> tuple[str, ...]:
    alone = row.name != ALL_SOURCES
    return (
        system_name(row.name),
        count(row.candidates),
        share(row.shown),
        share(row.shown_alone) if alone else MISSING,
        share(row.recall.value),
        f"{share(row.recall.low)} to {share(row.recall.high)}" if row.recall.low == row.recall.low else MISSING,
        share(row.recall_alone.value) if alone else MISSING,
    )

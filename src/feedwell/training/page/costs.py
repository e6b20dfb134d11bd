"""Figures about the run itself: the spans that it learned from and what it cost."""

from __future__ import annotations

from feedwell.training.page.charts import SHARES, Scale, axis, bars
from feedwell.training.page.content import Content
from feedwell.training.page.figure import Figure, Row, Table
from feedwell.training.page.words import count, day, seconds, share, small

_USES = {
    "sources": "sources learn",
    "ranker": "the ranker learns and stops",
    "calibration": "predictions are calibrated",
    "test": "everything is judged",
}
_FIT = "fit "


def spans(content: Content) -> Figure | None:
    """How many events each span has and what it is for."""
    events: dict[str, int] = dict(content.spans.get("events", {}))
    total = sum(events.values())
    if not total:
        return None
    last = events["test"] / total
    until = [*(content.spans.get("cuts") or [None] * 3), content.spans.get("end")]
    by_time = content.spans.get("by") == "time"
    return Figure(
        id="spans",
        title=f"Learned on {share(1 - last)} of {count(total)} events, judged on the {share(last)} after them",
        caption=(
            "Spans follow each other in time; nothing from after a span's end reaches what was learned on it."
            if by_time
            else "Each user's own events are cut into spans; models learned from other users' later events."
        ),
        heads=("span", "events"),
        rows=tuple(
            Row(
                label=_USES[name],
                mark=bars(SHARES, [(events[name] / total, "ours" if name == "test" else "base")]),
                value=count(events[name]),
                note=f"until {day(end)}" if by_time else f"{count(content.n_exposures.get(name, 0))} exposures",
            )
            for name, end in zip(_USES, until, strict=True)
        ),
        axis=axis(SHARES, [share(t) for t in SHARES.ticks]),
        table=Table(
            head=("outcome", "exposures with it", "without", "still open"),
            rows=tuple(
                (name, *(count(labels[key]) for key in ("positive", "negative", "open")))
                for name, labels in content.labels.items()
            ),
        ),
    )


def cost(content: Content) -> Figure | None:
    """Wall time by stage."""
    stages = {name: c for name, c in content.cost.items() if not name.startswith(_FIT)}
    total = sum(c["wall_s"] for c in stages.values())
    if not total:
        return None
    scale = Scale.over([c["wall_s"] for c in stages.values()], n_ticks=2)
    longest = max(stages, key=lambda name: stages[name]["wall_s"])
    peak = max(c["peak_mb"] for c in stages.values())
    return Figure(
        id="cost",
        title=f"The run took {seconds(total)}, {share(stages[longest]['wall_s'] / total)} of it for {longest}",
        caption=f"Time by the clock; at most {small(round(peak / 1024, 2))} GiB of memory were in use.",
        heads=("stage", "time"),
        rows=tuple(
            Row(
                label=name,
                mark=bars(scale, [(c["wall_s"], "base")]),
                value=seconds(c["wall_s"]),
                note=f"{seconds(c['cpu_s'])} CPU",
            )
            for name, c in stages.items()
        ),
        axis=axis(scale, [seconds(t) for t in scale.ticks]),
        table=Table(
            head=("stage", "time", "CPU", "memory so far"),
            rows=tuple(
                (name, seconds(c["wall_s"]), seconds(c["cpu_s"]), f"{count(c['peak_mb'])} MiB")
                for name, c in content.cost.items()
            ),
        ),
    )

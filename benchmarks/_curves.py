"""Training curves of a benchmark's variants as one SVG file: a panel each, on one scale, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from feedwell.nn.curves import Curves
from feedwell.training.page.charts import Scale
from feedwell.training.page.panels import HEIGHT, WIDTH, Axis, Plane, Series, ticks

ACROSS, TITLE = 3, 28
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #57606a } .heading { font-size: 14px; font-weight: 600; fill: #24292f }
.grid { stroke: #d0d7de } .base { stroke: #6e7781 } .mark { stroke: #6e7781; stroke-dasharray: 3 3 }
.curve { fill: none; stroke-width: 2 } .curve.train { stroke: #6e7781 } .curve.valid { stroke: #0969da }
.dot.train { fill: #6e7781 } .dot.valid { fill: #0969da } .name.valid { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #8d96a0 } .heading { fill: #e6edf3 } .grid { stroke: #30363d } .base, .mark { stroke: #8d96a0 }
  .curve.train { stroke: #8d96a0 } .curve.valid { stroke: #4493f8 } .dot.train { fill: #8d96a0 }
  .dot.valid, .name.valid { fill: #4493f8 }
}
"""


def write_curves(path: Path, curves: Mapping[str, Curves]) -> None:
    """Mean loss per row by epoch: learned from, and kept back; the epoch whose weights were kept is marked."""
    down = -(-len(curves) // ACROSS)
    width, height = ACROSS * WIDTH, down * (HEIGHT + TITLE)
    scale = Scale.over([v for c in curves.values() for v in (*c.train, *c.valid)], zero=False, n_ticks=4)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="training curves: {Markup.escape(", ".join(curves))}"><style>{STYLE}</style>'
    ]
    for number, (name, found) in enumerate(curves.items()):
        x, y = number % ACROSS * WIDTH, number // ACROSS * (HEIGHT + TITLE)
        heading = f'<text class="heading" x="46" y="18">{Markup.escape(name)}</text>'
        placed = f'<svg y="{TITLE}" width="{WIDTH}" height="{HEIGHT}" '
        panel = _panel(name, found, scale, not number).replace("<svg ", placed, 1)
        parts.append(f'<g transform="translate({x} {y})">{heading}{panel}</g>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _panel(name: str, found: Curves, scale: Scale, told: bool) -> str:
    n = len(found.train)
    epochs = Scale.over([1, max(n, 2)], zero=False, n_ticks=4)
    x_ticks = ticks([t for t in epochs.ticks if 1 <= t <= max(n, 2) and t == int(t)], lambda t: f"{t:.0f}")
    plane = Plane(
        x=Axis(low=1, high=max(n, 2), ticks=x_ticks, title="epoch"),
        y=Axis(low=scale.low, high=scale.high, ticks=ticks(scale.ticks, lambda v: f"{v:.4g}"), title=""),
        mark=(found.best + 1, f"kept: {found.best + 1}"),
    )
    lines = [("train", found.train, "learned from"), ("valid", found.valid, "kept back")]
    lowest = min(y[-1] for _, y, _ in lines if y)
    series = [
        Series(
            name=tone,
            tone=tone,
            points=list(enumerate(y, 1)),
            dots=n < 12,
            label=label if told else "",
            below=y[-1] == lowest,
        )
        for tone, y, label in lines
        if y
    ]
    return str(plane.draw(series, f"{name}: loss over {n} epochs; epoch {found.best + 1} was kept"))

"""Panels: curves in a plane, as SVG of one size (340 × 260), which fits a phone and stands three abreast on a desk.

`data-x`, `data-y` give the ends of both axes ("low high scale"), so that a curve can be read back from its points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 340, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 40


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis: its ends, ticks with their labels, its title. `root`: squares of equal steps, which spreads small
    values without losing 0."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str
    root: bool = False

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high one; beyond them it is held there."""
        low, high, v = (_root(x) if self.root else x for x in (self.low, self.high, value))
        return min(1.0, max(0.0, (v - low) / (high - low)))

    def __str__(self) -> str:
        return f"{self.low} {self.high} {'root' if self.root else 'linear'}"


@dataclass(frozen=True, kw_only=True)
class Series:
    """A curve through points; `label` stands at its end, or `label_at` a point of it."""

    name: str
    tone: str
    points: Sequence[tuple[float, float]]
    label: str = ""
    label_at: int = -1
    dots: bool = False
    below: bool = False


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Two axes; `diagonal`: the line on which both are equal; `mark`: a vertical line at x with its label."""

    x: Axis
    y: Axis
    diagonal: bool = False
    mark: tuple[float, str] | None = None

    def draw(self, series: Sequence[Series], told: str) -> Markup:
        """The panel; `told` is what a screen reader says of it."""
        inside = [self._grid(), self._diagonal(), self._mark(), *(self._curve(s) for s in series)]
        labels = [self._label(s) for s in series if s.label and s.points]
        return Markup(
            '<svg class="panel" viewBox="0 0 {} {}" role="img" aria-label="{}" data-x="{}" data-y="{}">{}</svg>'
        ).format(WIDTH, HEIGHT, told, self.x, self.y, Markup("").join([*inside, *labels]))

    def px(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * self.x.share(value)

    def py(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self.y.share(value)

    def _grid(self) -> Markup:
        marks = []
        for value, label in self.y.ticks:
            y = _n(self.py(value))
            marks.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(LEFT, WIDTH - RIGHT, y=y)
            )
            marks.append(_text(LEFT - 6, self.py(value) + 4, label, "tick", "end"))
        for value, label in self.x.ticks:
            marks.append(_text(self.px(value), HEIGHT - BOTTOM + 16, label, "tick", "middle"))
        marks.append(
            Markup('<line class="base" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                LEFT, WIDTH - RIGHT, y=HEIGHT - BOTTOM
            )
        )
        marks.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, self.x.title, "title", "middle"))
        return Markup("").join(marks)

    def _diagonal(self) -> Markup:
        if not self.diagonal:
            return Markup("")
        low, high = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
        return Markup('<line class="diagonal" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            _n(self.px(low)), _n(self.py(low)), _n(self.px(high)), _n(self.py(high))
        )

    def _mark(self) -> Markup:
        if self.mark is None:
            return Markup("")
        x, label = self.px(self.mark[0]), self.mark[1]
        near_end = x > WIDTH - 110
        line = Markup('<line class="mark" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(TOP, HEIGHT - BOTTOM, x=_n(x))
        return line + _text(x - 5 if near_end else x + 5, TOP + 9, label, "note", "end" if near_end else "start")

    def _curve(self, s: Series) -> Markup:
        at = [(_n(self.px(x)), _n(self.py(y))) for x, y in s.points if math.isfinite(x) and math.isfinite(y)]
        line = Markup('<polyline class="curve {}" data-name="{}" points="{}"/>').format(
            s.tone, s.name, " ".join(f"{x},{y}" for x, y in at)
        )
        dots = [Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>').format(s.tone, x, y) for x, y in at]
        return line + Markup("").join(dots if s.dots else [])

    def _label(self, s: Series) -> Markup:
        x, y = s.points[s.label_at]
        px, py = self.px(x), self.py(y)
        anchor = "end" if px > WIDTH / 2 else "start"
        return _text(
            px + (-6 if anchor == "end" else 6), py + (15 if s.below else -7), s.label, f"name {s.tone}", anchor
        )


def ticks(values: Sequence[float], show: Callable[[float], str]) -> tuple[tuple[float, str], ...]:
    return tuple((v, show(v)) for v in values)


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(kind, _n(x), _n(y), anchor, text)


def _root(value: float) -> float:
    return math.copysign(math.sqrt(abs(value)), value)


def _n(value: float) -> str:
    return f"{value:.2f}"

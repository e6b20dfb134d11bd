"""Marks on one line, as SVG: they stretch with the page while text and dots keep their size.

Positions are percentages of the width; `data-low` and `data-high` say what 0 % and 100 % stand for, so that whatever a
reader sees can be read back. The numbers themselves stand beside each chart as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from feedwell.metrics import Interval

_HEIGHT, _MIDDLE = 26, 13
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """What the left and the right edge stand for, with round numbers between as ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @staticmethod
    def over(values: Iterable[float], *, n_ticks: int = 4, zero: bool = True) -> Scale:
        """The smallest round range over the finite values (and 0)."""
        found = [v for v in values if math.isfinite(v)] + ([0.0] if zero else [])
        low, high = (min(found), max(found)) if found else (0.0, 1.0)
        if high <= low:
            high = low + (abs(low) or 1.0)
        step = _round_step((high - low) / n_ticks)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(round(i * step, 12) for i in range(first, last + 1))
        return Scale(ticks[0], ticks[-1], ticks)

    def at(self, value: float) -> float:
        """Percent from the left."""
        return 100.0 * (value - self.low) / (self.high - self.low)


SHARES = Scale(0.0, 1.0, (0.0, 0.5, 1.0))


def axis(scale: Scale, labels: Sequence[str]) -> Markup:
    """The ticks' labels; the outer ones end where the chart ends."""
    texts = []
    for tick, label in zip(scale.ticks, labels, strict=True):
        x = scale.at(tick)
        anchor = "start" if x < 1 else "end" if x > 99 else "middle"
        texts.append(Markup('<text x="{}" y="12" text-anchor="{}">{}</text>').format(_percent(x), anchor, label))
    return Markup('<svg class="axis" height="18" aria-hidden="true">{}</svg>').format(Markup("").join(texts))


def interval_mark(scale: Scale, found: Interval, tone: str, *, beside: float = math.nan) -> Markup:
    """A dot with its interval; `beside`: a hollow dot to compare with."""
    marks = []
    if math.isfinite(found.low) and math.isfinite(found.high):
        marks.append(_line("whisker", scale.at(found.low), scale.at(found.high), tone))
    if math.isfinite(beside):
        marks.append(_dot(scale.at(beside), "hollow"))
    if math.isfinite(found.value):
        marks.append(_dot(scale.at(found.value), f"dot {tone}"))
    return _cell(scale, marks)


def dots(scale: Scale, points: Sequence[tuple[float, str]]) -> Markup:
    """Dots joined by a line: two values of one thing."""
    known = [(scale.at(v), tone) for v, tone in points if math.isfinite(v)]
    marks = [_line("join", known[0][0], known[-1][0], "")] if len(known) > 1 else []
    return _cell(scale, [*marks, *(_dot(x, tone) for x, tone in known)])


def bars(scale: Scale, parts: Sequence[tuple[float, str]], found: Interval | None = None) -> Markup:
    """Bars from the left edge, each over the one before; with an interval of the first where there is one."""
    marks = [
        Markup('<rect class="bar {}" x="0" y="6" width="{}" height="14" rx="2"/>').format(tone, _percent(scale.at(v)))
        for v, tone in parts
        if math.isfinite(v)
    ]
    if found is not None and math.isfinite(found.low) and math.isfinite(found.high):
        marks.append(_line("whisker on", scale.at(found.low), scale.at(found.high), ""))
    return _cell(scale, marks)


def stacked(parts: Sequence[tuple[float, str]]) -> Markup:
    """Shares of a whole, side by side."""
    total, at, marks = sum(share for share, _ in parts) or 1.0, 0.0, []
    for share, tone in parts:
        width = 100.0 * share / total
        marks.append(
            Markup('<rect class="bar {}" x="{}" y="0" width="{}" height="100%"/>').format(
                tone, _percent(at), _percent(width)
            )
        )
        at += width
    return Markup('<svg class="stacked" height="26" aria-hidden="true">{}</svg>').format(Markup("").join(marks))


def _cell(scale: Scale, marks: Sequence[Markup]) -> Markup:
    grid = [
        Markup('<line class="{}" x1="{}" x2="{}" y1="0" y2="100%"/>').format(
            "zero" if tick == 0 else "grid", *[_percent(scale.at(tick))] * 2
        )
        for tick in scale.ticks
    ]
    return Markup('<svg class="cell" height="{}" data-low="{}" data-high="{}" aria-hidden="true">{}</svg>').format(
        _HEIGHT, scale.low, scale.high, Markup("").join([*grid, *marks])
    )


def _line(kind: str, x1: float, x2: float, tone: str) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
        f"{kind} {tone}".strip(), _percent(x1), _percent(x2), y=_MIDDLE
    )


def _dot(x: float, tone: str) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="5"/>').format(tone, _percent(x), _MIDDLE)


def _percent(x: float) -> str:
    return f"{x:.3f}%"


def _round_step(least: float) -> float:
    """The smallest 1, 2, 2.5 or 5 times a power of ten that is at least that."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in _STEPS if step * power >= least * (1 - 1e-9))

"""Drawing: a verdict as one SVG file, readable on light and dark pages, without a script or a font of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from feedwell.jobs.simulate import FROZEN, LOGGING, ORACLE, POPULAR, RANDOM, RETRAINED
from feedwell.jobs.verdict import Estimate, Verdict

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 150, 56, 44
_ORDER = (ORACLE, RETRAINED, FROZEN, POPULAR, LOGGING, RANDOM)
_NAMES = {
    ORACLE: "oracle",
    RETRAINED: "retrained",
    FROZEN: "not retrained",
    POPULAR: "popular",
    LOGGING: "popular, exploring",
    RANDOM: "random",
}
# Hue tells the system's two arms apart; the baselines are greys with dashes, so that colour alone carries nothing.
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .small { font-size: 11px; fill: #57606a }
.title { font-size: 15px; font-weight: 600 } .grid { stroke: #d0d7de; stroke-width: 1 }
path, .bar { fill: none; stroke: #6e7781; stroke-width: 1.5 } .bar { opacity: .6 }
.retrained { stroke: #0969da; stroke-width: 2.5 } .frozen { stroke: #bc4c00; stroke-width: 2.5 }
.oracle { stroke: #1a7f37; stroke-dasharray: 7 3 } .popular { stroke-dasharray: 5 3 }
.logging { stroke-dasharray: 2 3 } .random { stroke-dasharray: 1 4 }
.bar.bar { stroke-dasharray: none; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #8d96a0 } .grid { stroke: #30363d } path, .bar { stroke: #8d96a0 }
  .retrained { stroke: #4493f8 } .frozen { stroke: #f0883e } .oracle { stroke: #3fb950 }
}
"""


def svg(verdict: Verdict) -> str:
    """True expected reward per user and day by round: a line an arm, its 95 % interval over seeds as a bar."""
    rounds = {arm: verdict.rounds[arm] for arm in _ORDER}
    frame = _Frame(rounds)
    seeds = "seed" if len(verdict.seeds) == 1 else "seeds"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(verdict.statement())}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_LEFT}" y="22">{escape(verdict.plan.preset)}: true reward per user and day</text>',
        f'<text class="small" x="{_LEFT}" y="40">{len(verdict.seeds)} {seeds}; bars are 95 % intervals</text>',
        *frame.axes(),
        *(line for arm in reversed(_ORDER) for line in frame.arm(arm, rounds[arm])),
        *frame.labels(rounds),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Frame:
    """Where a round and a reward lie on the page."""

    def __init__(self, rounds: Mapping[str, Sequence[Estimate]]) -> None:
        self._n = max(len(estimates) for estimates in rounds.values())
        ends = [v for estimates in rounds.values() for e in estimates for v in (e.value, e.low, e.high)]
        highest, lowest = float(np.nanmax(ends)), min(0.0, float(np.nanmin(ends)))
        self._step = _round_step((highest - lowest) / 5)
        self._low = np.floor(lowest / self._step) * self._step
        self._high = max(np.ceil(highest / self._step) * self._step, self._low + self._step)

    def x(self, index: int) -> float:
        share = index / (self._n - 1) if self._n > 1 else 0.5
        return round(_LEFT + 12 + share * (WIDTH - _LEFT - _RIGHT - 24), 1)

    def y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(HEIGHT - _BOTTOM - float(share) * (HEIGHT - _TOP - _BOTTOM), 1)

    def axes(self) -> Iterator[str]:
        for value in np.arange(self._low, self._high + self._step / 2, self._step):
            y = self.y(float(value))
            yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
            yield f'<text class="small" x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.3g}</text>'
        for index in range(self._n):
            at = f'x="{self.x(index)}" y="{HEIGHT - _BOTTOM + 20}"'
            yield f'<text class="small" {at} text-anchor="middle">round {index + 1}</text>'

    def arm(self, name: str, estimates: Sequence[Estimate]) -> Iterator[str]:
        beside = 4 * (_ORDER.index(name) - 2)  # so that bars of one round do not hide each other
        for index, e in enumerate(estimates):
            if not np.isnan(e.low):
                x = self.x(index) + beside
                yield f'<line class="bar {name}" x1="{x}" x2="{x}" y1="{self.y(e.low)}" y2="{self.y(e.high)}"/>'
        points = " L".join(f"{self.x(index)} {self.y(e.value)}" for index, e in enumerate(estimates))
        yield f'<path class="{name}" d="M{points}"/>'

    def labels(self, rounds: Mapping[str, Sequence[Estimate]]) -> Iterator[str]:
        """Each line's name at its end, pushed apart where two ends are close."""
        ends = sorted((self.y(estimates[-1].value), name) for name, estimates in rounds.items())
        last = -np.inf
        for y, name in ends:
            last = max(y, last + 16)
            x = self.x(self._n - 1) + 14
            yield f'<path class="{name}" d="M{x} {last} h18"/><text x="{x + 24}" y="{last + 4}">{_NAMES[name]}</text>'


def _round_step(raw: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    if raw <= 0 or not np.isfinite(raw):
        return 1.0
    power = 10.0 ** np.floor(np.log10(raw))
    return float(power * next(m for m in (1, 2, 5, 10) if raw <= m * power * (1 + 1e-9)))

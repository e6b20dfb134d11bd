"""Notes: what happened during one request. Kept by the runner, never by a part, and written into its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from feedwell.core.telemetry import Telemetry
from feedwell.pipeline.budget import Timer


@dataclass
class Notes:
    """`degraded` names what was missing and why, `extra` counts rows outside the exact accounting (beyond k ...)."""

    timer: Timer
    telemetry: Telemetry
    deadline_ms: float | None = None
    degraded: list[str] = field(default_factory=list)
    extra: dict[str, int] = field(default_factory=dict)
    stage_ms: dict[str, float] = field(default_factory=dict)
    widths: dict[str, float] = field(default_factory=dict)
    begun: float = 0.0

    def __post_init__(self) -> None:
        self.begun = self.timer()

    def copy(self) -> Notes:
        """The same so far, to go on apart."""
        notes = replace(
            self,
            degraded=list(self.degraded),
            extra=dict(self.extra),
            stage_ms=dict(self.stage_ms),
            widths=dict(self.widths),
        )
        notes.begun = self.begun
        return notes

    @property
    def elapsed_ms(self) -> float:
        return (self.timer() - self.begun) * 1e3

    @property
    def left_ms(self) -> float:
        return float("inf") if self.deadline_ms is None else self.deadline_ms - self.elapsed_ms

    def degrade(self, part: str, why: str, *, kind: str = "failed") -> None:
        self.degraded.append(f"{part}: {why}")
        self.telemetry.count("degraded", part=part, kind=kind)

    def failed(self, part: str, error: BaseException) -> None:
        text = " ".join(str(error).split())[:200]
        self.degrade(part, f"{type(error).__name__}: {text}" if text else type(error).__name__, kind="raised")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = self.timer()
        try:
            yield
        finally:
            self.spent(name, (self.timer() - begin) * 1e3)

    def spent(self, name: str, ms: float) -> None:
        self.stage_ms[name] = self.stage_ms.get(name, 0.0) + ms
        self.telemetry.observe_ms("stage", ms, stage=name)

"""Curves: how a training run went, epoch by epoch, as plain data for a report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from feedwell.core.errors import CorruptArtifact

FILE = "curves.json"


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Mean loss per row: `step_loss` over the steps up to each of `steps`, `train` and `valid` per epoch.

    `valid` is empty where no rows were kept back. `best` is the epoch (from 0) whose weights were kept.
    """

    steps: tuple[int, ...] = ()
    step_loss: tuple[float, ...] = ()
    train: tuple[float, ...] = ()
    valid: tuple[float, ...] = ()
    best: int = -1
    precision: str = "float32"
    world_size: int = 1
    rows: int = 0
    wall_s: float = field(default=0.0, compare=False)

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        return len(self.train) - 1 - self.best

    @property
    def rows_per_s(self) -> float:
        """Training rows seen in a second, validation included in the time."""
        return self.rows * len(self.train) / self.wall_s if self.wall_s else float("nan")

    def after_step(self, step: int, loss: float) -> Curves:
        return replace(self, steps=(*self.steps, step), step_loss=(*self.step_loss, loss))

    def after_epoch(self, train: float, valid: float | None) -> Curves:
        """With one more epoch; without validation rows the last epoch is the best."""
        n = len(self.train)
        better = valid is None or self.best < 0 or valid < self.valid[self.best]
        return replace(
            self,
            train=(*self.train, train),
            valid=self.valid if valid is None else (*self.valid, valid),
            best=n if better else self.best,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Curves:
        told: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return Curves(**told)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_dict()), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> Curves:
        try:
            return Curves.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CorruptArtifact(f"reading training curves from {path}: {error}; train again") from error

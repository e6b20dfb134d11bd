"""LoopConfig: what every network is trained with. Importing it does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from feedwell.core.protocols import PartConfig, fit

Progress = Callable[[str, int, int | None], None]
"""(what is being done, how much of it is done, of how much; None: not known)"""


class LoopConfig(PartConfig):
    """Keys that a neural part's `Config` inherits."""

    epochs: int = fit(20, ge=1, le=10_000)
    """At most: training ends `patience` epochs after the last gain on the validation rows, and the best epoch stays."""
    patience: int = fit(2, ge=1)
    batch_size: int = fit(1024, ge=1)
    """Rows of a step over all processes."""
    learning_rate: float = fit(2e-3, gt=0)
    """Of dense weights (AdamW)."""
    weight_decay: float = fit(1e-4, ge=0)
    table_learning_rate: float = fit(0.05, gt=0)
    """Of embedding tables (row-wise Adagrad)."""
    warmup_steps: int = fit(0, ge=0)
    """The rates rise to their full size over so many steps."""
    precision: Literal["auto", "float32", "bfloat16"] = fit("auto")
    """"auto": bfloat16 products where the CPU or GPU has instructions for them, else float32."""
    threads: int = fit(1, ge=1, le=1024)
    device: Literal["auto", "cpu", "cuda"] = fit("auto")


def silent(_stage: str, _done: int, _of: int | None) -> None:
    """No progress is shown."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: what progress calls it, its seed, and the folder that it works in (None: none).

    Its checkpoints lie there, and data that is too large for memory.

    Started again with the same folder, data, network and configuration, a run that was killed goes on where its last
    checkpoint stands and ends with the same weights, bit for bit.
    """

    name: str
    seed: int = 0
    folder: Path | None = None
    checkpoint_every_s: float = 60.0
    progress: Progress = silent

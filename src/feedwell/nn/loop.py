"""The one training loop: every neural source and ranker is fitted by it, on one process or on many.

    data → order of the epoch → batch → loss → gradients over all processes → step … → validation → best weights kept

What a step draws (its rows, dropout, sampled negatives) derives from the seed and its position, so a run that was
killed and resumed, and one that was not, end with the same weights.

    N rows, B rows of a batch
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from feedwell.core.artifact import digest_json
from feedwell.core.errors import DataError
from feedwell.core.rng import derive_seed
from feedwell.nn.checkpoint import Checkpoint, Checkpoints, Position, shared
from feedwell.nn.columns import Batch, Columns
from feedwell.nn.config import LoopConfig, Run
from feedwell.nn.curves import Curves
from feedwell.nn.optim import Optimisers
from feedwell.nn.ranks import Ranks, joined

Loss = Callable[[Batch], Tensor]
"""A batch's loss *summed* over its rows, so that shares of a batch add up to it; may draw from torch's generator."""
_POINTS = 20
_TELL_EVERY_S = 0.5
_DEFAULT = Run(name="training")


@dataclass(frozen=True, kw_only=True)
class Data:
    """`valid` are later rows, for early stopping (None: train all epochs). What must be equal in order is by rows."""

    train: Columns
    valid: Columns | None = None


def fit_network(network: nn.Module, loss: Loss, data: Data, config: LoopConfig, run: Run = _DEFAULT) -> Curves:
    """Trains `network` in place, with the best epoch's weights at the end, and says how it went.

    Draw the first weights inside `seeded(run.seed)`. DataError: no rows, or a loss that is not a number.
    """
    if not data.train.n_rows:
        raise DataError(f"{run.name}: no training rows; take more data")
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with joined(config.device) as ranks, torch.random.fork_rng():
            return _Loop(network, loss, data, config, run).fit(ranks)
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch draws from that seed; outside, as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class _Loop:
    def __init__(self, network: nn.Module, loss: Loss, data: Data, config: LoopConfig, run: Run) -> None:
        self._network, self._loss, self._data, self._config, self._run = network, loss, data, config, run
        self._n = data.train.n_rows
        self._steps = math.ceil(self._n / config.batch_size)
        self._at = Position()
        self._loss_sum = torch.zeros((), dtype=torch.float64)
        self._best: dict[str, Tensor] = {}

    def fit(self, ranks: Ranks) -> Curves:
        self._ranks, config = ranks, self._config
        self._network.to(ranks.device)
        self._loss_sum = self._loss_sum.to(ranks.device)
        self._precision = _precision(config.precision, ranks.device)
        self._curves = Curves(precision=self._precision, world_size=ranks.size, rows=self._n)
        self._optimisers = Optimisers(self._network, config)
        self._checkpoints = Checkpoints(self._run.folder, self._digest()) if self._run.folder else None
        self._resume()
        self._clock = _Clock(self._run, self._at.done, self._steps * config.epochs, self._curves.wall_s)
        while self._at.epoch < config.epochs and not self._stopped():
            self._epoch()
        if self._best:
            self._network.load_state_dict(self._best)
        self._network.eval()
        return self._curves

    def _stopped(self) -> bool:
        return bool(self._curves.valid) and self._curves.stale >= self._config.patience

    def _epoch(self) -> None:
        """From where the epoch stands to its end, its validation and its checkpoint."""
        self._network.train()
        order_N = torch.randperm(self._n, generator=self._generator("order"))
        size = self._config.batch_size
        for step in range(self._at.step, self._steps):
            self._step(order_N[step * size : (step + 1) * size])
            self._at = replace(self._at, step=step + 1, done=self._at.done + 1)
            self._note(step)
            self._tell()
            if self._clock.is_due():
                self._save()
        train = self._number(self._loss_sum) / self._n
        valid = self._validate()
        self._curves = replace(self._curves.after_epoch(train, valid), wall_s=self._clock.spent())
        if valid is not None and self._curves.stale == 0:
            self._best = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        self._loss_sum.zero_()
        self._at = Position(epoch=self._at.epoch + 1, done=self._at.done)
        self._save()

    def _step(self, rows_B: Tensor) -> None:
        """One step of all processes: each adds the gradient of its share of the mean over the whole batch."""
        self._draw_from(self._seed("step", str(self._ranks.rank)))
        self._optimisers.zero()
        mine, total = self._ranks.share(rows_B), torch.zeros((), device=self._ranks.device)
        if len(mine):
            total = self._forward(self._data.train, mine)
            (total / len(rows_B)).backward()  # type: ignore[no-untyped-call]
        dense, tables = self._optimisers.dense, self._optimisers.tables.tables
        self._loss_sum += self._ranks.sum_gradients(dense.values(), tables.values(), total.detach())
        self._optimisers.step(min(1.0, (self._at.done + 1) / max(1, self._config.warmup_steps)))

    def _forward(self, columns: Columns, rows_B: Tensor) -> Tensor:
        device = self._ranks.device
        batch = {name: value.to(device, non_blocking=True) for name, value in columns.take(rows_B).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bfloat16"):
            return self._loss(batch)

    @torch.no_grad()
    def _validate(self) -> float | None:
        """Mean loss of the validation rows; the same negatives and the like are drawn each time."""
        valid = self._data.valid
        if valid is None or not valid.n_rows:
            return None
        self._network.eval()
        total = torch.zeros((), dtype=torch.float64, device=self._ranks.device)
        for at in range(0, valid.n_rows, self._config.batch_size):
            rows_B = torch.arange(at, min(at + self._config.batch_size, valid.n_rows))
            self._draw_from(derive_seed(self._run.seed, "valid", str(at), str(self._ranks.rank)))
            mine = self._ranks.share(rows_B)
            if len(mine):
                total += self._forward(valid, mine)
        return self._number(self._ranks.sum(total)) / valid.n_rows

    def _note(self, step: int) -> None:
        """A point of the curve, about `_POINTS` times an epoch."""
        if (step + 1) % math.ceil(self._steps / _POINTS) == 0 or step + 1 == self._steps:
            rows = min((step + 1) * self._config.batch_size, self._n)
            self._curves = self._curves.after_step(self._at.done, self._number(self._loss_sum) / rows)

    def _number(self, value: Tensor) -> float:
        found = float(value)
        if not math.isfinite(found):
            raise DataError(
                f"{self._run.name}: the loss is {found} in epoch {self._at.epoch}, step {self._at.step}; expected a "
                f"number. Lower learning_rate ({self._config.learning_rate}) or look for extreme values in the features"
            )
        return found

    def _tell(self) -> None:
        if self._ranks.first:
            self._clock.tell(self._at.done)

    def _save(self) -> None:
        if self._checkpoints is None or not self._ranks.first:
            return
        self._clock.saved()
        self._checkpoints.write(
            Checkpoint(
                position=self._at,
                curves=replace(self._curves, wall_s=self._clock.spent()),
                loss_sum=float(self._loss_sum),
                network=self._network.state_dict(),
                optimisers=self._optimisers.state(),
                best=self._best,
            )
        )

    def _resume(self) -> None:
        """All processes go on where the first one's checkpoint stands: the others need not have its folder."""
        reads = self._checkpoints if self._ranks.first else None
        found = shared(None if reads is None else reads.read(), self._ranks)
        if found is not None:
            self._at, self._curves = found.position, replace(found.curves, world_size=self._ranks.size)
            self._network.load_state_dict(dict(found.network))
            self._optimisers.restore(dict(found.optimisers))
            self._best = {name: value.to(self._ranks.device) for name, value in found.best.items()}
            self._loss_sum.fill_(found.loss_sum)
        self._ranks.agree(self._network)
        self._ranks.wait()

    def _draw_from(self, seed: int) -> None:
        """Not torch.manual_seed: without a GPU that keeps a stack trace per call for one that may come, for ever."""
        torch.default_generator.manual_seed(seed)
        if self._ranks.device.type == "cuda":
            torch.cuda.default_generators[self._ranks.device.index].manual_seed(seed)

    def _generator(self, *names: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self._run.seed, *names, str(self._at.epoch)))

    def _seed(self, *names: str) -> int:
        return derive_seed(self._run.seed, *names, str(self._at.epoch), str(self._at.step))

    def _digest(self) -> str:
        """Of the configuration, the seed, the shapes of the weights and a sample of the data."""
        train = self._data.train
        sample = train.take(torch.linspace(0, train.n_rows - 1, min(1000, train.n_rows)).long())
        return digest_json(
            {
                "config": LoopConfig.model_validate(
                    {name: getattr(self._config, name) for name in LoopConfig.model_fields}
                ).model_dump(),
                "seed": self._run.seed,
                "weights": {name: list(p.shape) for name, p in self._network.named_parameters()},
                "rows": [train.n_rows, 0 if self._data.valid is None else self._data.valid.n_rows],
                "data": {name: repr(float(value.double().nan_to_num().sum())) for name, value in sample.items()},
            }
        )


class _Clock:
    """Tells progress with what the steps so far took, and when the next checkpoint is due."""

    def __init__(self, run: Run, done: int, of: int, spent_s: float) -> None:
        self._run, self._from, self._of, self._spent = run, done, of, spent_s
        self._start = self._told = self._saved = time.monotonic()

    def spent(self) -> float:
        return self._spent + time.monotonic() - self._start

    def is_due(self) -> bool:
        return time.monotonic() - self._saved >= self._run.checkpoint_every_s

    def saved(self) -> None:
        self._saved = time.monotonic()

    def tell(self, done: int) -> None:
        """Early stopping may end the run sooner, so what is left is an upper bound."""
        now = time.monotonic()
        if now - self._told < _TELL_EVERY_S and done < self._of:
            return
        self._told = now
        left = (now - self._start) / (done - self._from) * (self._of - done)
        text = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
        self._run.progress(f"{self._run.name}; at most {text} left", done, self._of)


def _precision(wanted: str, device: torch.device) -> str:
    """bfloat16 only where there are instructions for it: emulated it is slower than float32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"

"""A training run for tests that kill it or run it on several processes.

`python training_script.py FOLDER OUT [--slow] [--plain] [--two | --broken]`: without chance, `--plain`; on two ranks,
`--two`, forked after one import of torch, which is what takes long under torchrun; on two ranks once whole and once
killed and started again, `--broken`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from feedwell.nn.columns import Columns, Lists
from feedwell.nn.config import LoopConfig, Run
from feedwell.nn.loop import Data, fit_network, seeded

CONFIG = LoopConfig(
    epochs=6, batch_size=50, patience=6, precision="float32", learning_rate=0.01, table_learning_rate=0.1
)


def columns(n: int, seed: int) -> Columns:
    """y follows x and which words are in a list of 0 to 9 words out of 40."""
    g = torch.Generator().manual_seed(seed)
    sizes = torch.randint(0, 10, (n,), generator=g)
    words = torch.randint(0, 40, (int(sizes.sum()),), generator=g)
    x = torch.randn(n, 5, generator=g)
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    odd = torch.zeros(n).index_add_(0, torch.repeat_interleave(torch.arange(n), sizes), (words % 2 * 2.0 - 1))
    y = (x[:, 0] + 0.3 * odd + 0.3 * torch.randn(n, generator=g) > 0).float()
    return Columns({"x": x, "words": Lists(indptr_R=indptr, values=words, length=6), "y": y})


class Network(nn.Module):
    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.table = nn.Embedding(41, 8, sparse=True)
        self.layers = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 1))

    def forward(self, batch):
        words_BL = batch["words"]
        inside_BL = (words_BL >= 0).float()
        pooled = (self.table(words_BL.clamp(min=0)) * inside_BL[..., None]).sum(1)
        return self.layers(torch.cat([batch["x"], pooled], dim=1))[:, 0]


def made(seed: int = 3, dropout: float = 0.2) -> Network:
    with seeded(seed):
        return Network(dropout)


def loss_of(network: Network):
    return lambda batch: functional.binary_cross_entropy_with_logits(network(batch), batch["y"], reduction="sum")


def data() -> Data:
    return Data(train=columns(990, 1), valid=columns(300, 2))


def main(
    folder: Path | None, out: Path, *, slow: bool = False, dropout: float = 0.2, killed_at: int | None = None
) -> None:
    """Only the first rank gets the folder, as only one process holds it in a `train`."""
    torch.set_num_threads(1)
    network = made(dropout=dropout)
    plain, rank, steps = loss_of(network), os.environ.get("RANK", "0"), [0]

    def loss(batch):
        if steps[0] == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps[0] += network.training
        if slow:
            time.sleep(0.01)
        return plain(batch)

    run = Run(name="test", seed=5, folder=folder if rank == "0" else None, checkpoint_every_s=0.0)
    curves = fit_network(network, loss, data(), CONFIG, run)
    (out / f"steps-{rank}").write_text(str(steps[0]))
    if rank == "0":
        save_file(network.state_dict(), out / "weights.safetensors")
        curves.write(out / "curves.json")


def broken(folder: Path, out: Path) -> int:
    """On two ranks: all of it to OUT/whole; then killed before step 50, started again, to OUT/resumed."""
    for name in ("whole", "resumed"):
        (out / name).mkdir()
    return (
        forked(2, partial(main, None, out / "whole"))
        or not forked(2, partial(main, folder, out / "resumed", killed_at=50))
        or forked(2, partial(main, folder, out / "resumed"))
    )


def forked(n: int, run: Callable[[], None]) -> int:
    """The run on n ranks of this machine, as torchrun would start them; the first exit code that is not 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def of(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        run()

    ranks = [multiprocessing.get_context("fork").Process(target=of, args=(rank,)) for rank in range(n)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return next((process.exitcode for process in ranks if process.exitcode), 0)


if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:3])
    if "--plain" in sys.argv:
        run = partial(main, None, out, dropout=0.0)
    else:
        run = partial(main, folder, out, slow="--slow" in sys.argv)
    if "--broken" in sys.argv:
        sys.exit(broken(folder, out))
    sys.exit(forked(2, run) if "--two" in sys.argv else run())

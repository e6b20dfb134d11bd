"""Ranks: the processes that train one network together. One process is a group of one and runs the same code.

Under `torchrun` each process computes its share of every batch; gradients are summed, so all take the same step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from feedwell.core.errors import Unavailable

_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Ranks:
    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes checkpoints and shows progress."""
        return self.rank == 0

    def share(self, rows_B: Tensor) -> Tensor:
        """This process's rows of a batch: every `size`-th."""
        return rows_B[self.rank :: self.size]

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def wait(self) -> None:
        """Returns when all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def agree(self, network: nn.Module) -> None:
        """All processes take the first one's weights and buffers."""
        if self.size > 1:
            for value in (*network.parameters(), *network.buffers()):
                dist.broadcast(value.data, src=0)

    def told(self, value: Any) -> Any:
        """The first process's value, which JSON can hold, on all processes; what the others bring is not read."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.first else b""
        length = torch.tensor([len(text)], device=self.device)
        dist.broadcast(length, src=0)
        bytes_ = torch.tensor(list(text) or [0] * int(length), dtype=torch.uint8, device=self.device)
        dist.broadcast(bytes_, src=0)
        return json.loads(bytes(bytes_.tolist()))

    def sent(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first process's tensors on all processes, on the device of each; what the others bring is not read."""
        if self.size == 1:
            return dict(tensors)
        layout = self.told({name: [str(x.dtype).removeprefix("torch."), *x.shape] for name, x in tensors.items()})
        found = {}
        for name, (dtype, *shape) in layout.items():
            empty = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            found[name] = tensors[name].to(self.device).contiguous() if self.first else empty
            dist.broadcast(found[name], src=0)
        return found

    def sum_gradients(self, dense: Iterable[nn.Parameter], tables: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Sums every parameter's gradient over all processes, dense ones as one buffer, sparse ones as rows; returns
        the sum of `loss`, which travels with them."""
        dense = list(dense)
        for p in dense:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        if self.size == 1:
            return loss
        gradients = [p.grad for p in dense if p.grad is not None]
        flat = torch.cat([loss.reshape(1).float(), *(g.reshape(-1) for g in gradients)])
        dist.all_reduce(flat)
        at = 1
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
        for table in tables:
            table.grad = self._sum_rows(table)
        return flat[0]

    def _sum_rows(self, table: nn.Parameter) -> Tensor:
        """The sparse gradient over all processes: rows and values of each, one after the other."""
        empty = torch.sparse_coo_tensor(
            torch.zeros((1, 0), dtype=torch.int64, device=table.device),
            torch.zeros((0, table.shape[1]), dtype=table.dtype, device=table.device),
            table.shape,
        )
        grad = (empty if table.grad is None else table.grad).coalesce()
        row_M, grad_MD = grad.indices()[0], grad.values()
        sizes = [torch.zeros(1, dtype=torch.int64, device=table.device) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(row_M)], device=table.device))
        most = int(max(int(size) for size in sizes))
        rows = [torch.zeros(most, dtype=row_M.dtype, device=table.device) for _ in sizes]
        values = [torch.zeros((most, table.shape[1]), dtype=grad_MD.dtype, device=table.device) for _ in sizes]
        dist.all_gather(rows, nn.functional.pad(row_M, (0, most - len(row_M))))
        dist.all_gather(values, nn.functional.pad(grad_MD, (0, 0, 0, most - len(row_M))))
        kept = [int(size) for size in sizes]
        index = torch.cat([row[:n] for row, n in zip(rows, kept, strict=True)])
        return torch.sparse_coo_tensor(
            index[None], torch.cat([value[:n] for value, n in zip(values, kept, strict=True)]), table.shape
        )


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The group that RANK and WORLD_SIZE of the environment name (torchrun sets them); a group of one without them.

    Unavailable where the device is not there.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "cuda" and not torch.cuda.is_available():
        raise Unavailable(
            'training with device = "cuda": torch finds no CUDA device; install a torch built for CUDA, on a machine '
            'with a GPU, or set device = "auto", which takes the CPU where there is none'
        )
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    at = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    started = size > 1 and not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=_TIMEOUT)
    try:
        yield Ranks(rank, size, at)
    finally:
        if started:
            dist.destroy_process_group()

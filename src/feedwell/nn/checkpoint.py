"""Checkpoints: all that the next training step depends on, as tensors and JSON; whole or absent after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from feedwell import __version__
from feedwell.core.errors import CorruptArtifact
from feedwell.nn.config import LoopConfig, Run
from feedwell.nn.curves import Curves
from feedwell.nn.ranks import Ranks
from feedwell.stores.durable import ASIDE, sync_file, write_atomic

_INDEX = "checkpoint.json"
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands in its data: `step` of `epoch` comes next, `done` steps were taken in all."""

    epoch: int = 0
    step: int = 0
    done: int = 0


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """`network` and `optimisers` as of `position`; `best` are the weights of the best epoch so far, empty before it.

    No generator's state: the random stream of a step derives from the seed and its position.
    """

    position: Position
    curves: Curves
    loss_sum: float
    network: Tensors
    optimisers: Tensors
    best: Tensors


def shared(found: Checkpoint | None, ranks: Ranks) -> Checkpoint | None:
    """The first process's checkpoint on all processes, None where it has none; what the others bring is not read."""
    about = ranks.told(None if found is None else _about(found))
    if about is None:
        return None
    network, optimisers, best = (
        ranks.sent({} if found is None else getattr(found, name)) for name in ("network", "optimisers", "best")
    )
    return Checkpoint(**_told(about), network=network, optimisers=optimisers, best=best)


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is not tensors, for JSON; `_told` reads it."""
    return {
        "position": vars(checkpoint.position),
        "curves": checkpoint.curves.to_dict(),
        "loss_sum": checkpoint.loss_sum,
    }


def _told(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "position": Position(**about["position"]),
        "curves": Curves.from_dict(about["curves"]),
        "loss_sum": about["loss_sum"],
    }


def own_folder(run: Run, config: LoopConfig, arrays: Mapping[str, NDArray[Any]]) -> Run:
    """The run with a folder of its own below the one that it has: `arrays` are all that its weights follow from.

    Another value of the data, key, seed or version of a library is another run, so that none goes on from a stale
    checkpoint; and several runs of one part keep theirs beside each other. Hashing takes about 1 s per GB.
    """
    if run.folder is None:
        return run
    about = [config.model_dump(mode="json"), run.seed, __version__, torch.__version__, np.__version__]
    found = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return replace(run, folder=run.folder / found.hexdigest())


class Checkpoints:
    """The checkpoints of one run in a folder; only the newest is kept. `run` is a digest of what is trained on what."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder, self._run = folder, run
        self._best = -1

    def write(self, checkpoint: Checkpoint) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # A process that was killed while it wrote left safetensors' file (.tmpXXXXXX) or the index's.
        for path in (*self._folder.glob(".tmp*"), *self._folder.glob(f"{ASIDE}*")):
            path.unlink()
        done, best = checkpoint.position.done, checkpoint.curves.best if checkpoint.best else -1
        state = {f"network.{k}": v for k, v in checkpoint.network.items()}
        _save(
            self._folder / f"state-{done}.safetensors", state | {f"o.{k}": v for k, v in checkpoint.optimisers.items()}
        )
        if best >= 0 and best != self._best:
            _save(self._folder / f"best-{best}.safetensors", checkpoint.best)
        about = {
            **_about(checkpoint),
            "run": self._run,
            "state": f"state-{done}.safetensors",
            "best": f"best-{best}.safetensors" if best >= 0 else None,
        }
        write_atomic(self._folder / _INDEX, json.dumps(about).encode())
        self._best = best
        for path in self._folder.glob("*.safetensors"):
            if path.name not in (about["state"], about["best"]):
                path.unlink()

    def read(self) -> Checkpoint | None:
        """The newest; None where there is none of this very run. CorruptArtifact: one that cannot be read."""
        try:
            about: dict[str, Any] = json.loads((self._folder / _INDEX).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CorruptArtifact(f"reading the checkpoint in {self._folder}: {error}; delete the folder") from error
        if about.get("run") != self._run:
            return None
        try:
            state = load_file(self._folder / about["state"])
            best = load_file(self._folder / about["best"]) if about["best"] else {}
        except (OSError, SafetensorError) as error:
            raise CorruptArtifact(f"reading the checkpoint in {self._folder}: {error}; delete the folder") from error
        told = _told(about)
        self._best = told["curves"].best if best else -1
        return Checkpoint(
            **told,
            network={k[8:]: v for k, v in state.items() if k.startswith("network.")},
            optimisers={k[2:]: v for k, v in state.items() if k.startswith("o.")},
            best=best,
        )


def _save(path: Path, tensors: Tensors) -> None:
    # Tied weights share memory, which the format refuses: each name gets its own bytes.
    seen: set[int] = set()
    kept = {}
    for name, value in tensors.items():
        kept[name] = value.detach().cpu().contiguous()
        if kept[name].data_ptr() in seen:
            kept[name] = kept[name].clone(memory_format=torch.contiguous_format)
        seen.add(kept[name].data_ptr())
    save_file(kept, path)
    sync_file(path)

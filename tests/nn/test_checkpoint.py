"""The folder of a run: the same run finds it again, any other has its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from feedwell.nn import checkpoint
from feedwell.nn.checkpoint import Checkpoint, Checkpoints, Position, own_folder
from feedwell.nn.config import LoopConfig, Run
from feedwell.nn.curves import Curves

CONFIG = LoopConfig(epochs=3)
DATA = {"x": np.arange(6.0).reshape(2, 3), "ids": np.array([4, 7]), "none": np.empty((0, 2)), "kinds": np.array(["a"])}
RUN = Run(name="fit ranker", seed=5, folder=Path("work"))


def folder(run=RUN, config=CONFIG, **changes):
    return own_folder(run, config, {**DATA, **changes}).folder


def test_the_same_run_has_the_same_folder():
    assert folder() == folder(x=DATA["x"].copy())
    assert folder().parent == RUN.folder
    assert folder() == own_folder(RUN, CONFIG, dict(reversed(DATA.items()))).folder


def test_whatever_differs_makes_another(monkeypatch):
    x = DATA["x"].copy()
    x[1, 2] += 1e-12
    made = [
        folder(),
        folder(x=x),
        folder(x=DATA["x"].reshape(3, 2)),
        folder(x=DATA["x"].astype(np.float32)),
        folder(kinds=np.array(["b"])),
        folder(more=np.empty(0)),
        folder(config=LoopConfig(epochs=4)),
        folder(run=replace(RUN, seed=6)),
    ]
    monkeypatch.setattr(checkpoint, "__version__", "99")
    assert len({*made, folder()}) == len(made) + 1


def test_without_a_folder_there_is_none():
    assert folder(run=replace(RUN, folder=None)) is None


def test_what_a_kill_left_half_written_goes_with_the_next_checkpoint(tmp_path):
    state = {"w": torch.ones(2)}
    for left in (".tmpA1b2C3", ".writing-17-a1b2c3d4"):
        (tmp_path / left).write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("another's")
    checkpoint = Checkpoint(
        position=Position(done=4), curves=Curves(), loss_sum=1.5, network=state, optimisers={}, best={}
    )
    Checkpoints(tmp_path, "run").write(checkpoint)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.json", "state-4.safetensors", "notes.txt"}
    found = Checkpoints(tmp_path, "run").read()
    assert found.position.done == 4
    assert torch.equal(found.network["w"], state["w"])

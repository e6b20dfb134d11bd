"""A train that was killed while a network was fitted goes on there, and ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from feedwell import workspace
from feedwell.stores.durable import file_lock
from feedwell.training.work import kept_until_done

from . import killed_train
from .conftest import PROJECT, shop_events

NEURAL = (
    PROJECT.replace('"xgboost"\nn_trees = 20\nthreads = 1', '"mmoe"\nepochs = 4\nexpert_layers = [8]\nbatch_size = 64')
    .replace(
        "[source.als]\nk = 20\nembedding_dim = 8\nepochs = 3", "[source.two_tower]\nk = 20\nepochs = 4\nhistory = 5"
    )
    .replace("[train]", "[train]\nmax_requests = 100")
)
SCRIPT = Path(killed_train.__file__)


def made(folder: Path) -> Path:
    folder.mkdir()
    (folder / "feedwell.toml").write_text(NEURAL)
    rows = shop_events(users=24, visits=5)
    (folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with workspace.open(folder) as shop:
        shop.ingest(history=True)
    return folder


def train(folder: Path, *more: str) -> subprocess.Popen[str]:
    paths = [str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(SCRIPT), str(folder), *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def ended(running: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def positions(folder: Path, part: str = "*") -> list[dict[str, int]]:
    """Where each fit that left a checkpoint stands."""
    paths = (folder / ".feedwell" / "fits").glob(f"{part}/*/checkpoint.json")
    return [json.loads(path.read_text())["position"] for path in paths]


def weights(artifacts: dict[str, str]) -> dict[str, bytes]:
    """Every file of the neural parts but the curves, which say how long they took."""
    kept = (".onnx", ".safetensors")
    return {
        f"{n}/{p.name}": p.read_bytes() for n, at in artifacts.items() for p in Path(at).iterdir() if p.suffix in kept
    }


@pytest.mark.slow
def test_a_killed_train_goes_on_where_its_fits_stood(tmp_path):
    whole = ended(train(made(tmp_path / "whole")))
    folder = made(tmp_path / "killed")
    for part in ("source.two_tower", "ranker"):
        running = train(folder, "--slow")
        while not any(at["epoch"] >= 2 for at in positions(folder, part)):
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=60)
        assert running.returncode == -signal.SIGKILL
    done = sum(at["done"] for at in positions(folder))
    again = ended(train(folder))
    assert again["steps"] == whole["steps"] - done < whole["steps"]
    assert not (folder / ".feedwell" / "fits").exists()
    found = weights(whole["artifacts"])
    assert {"ranker/score.onnx", "source.two_tower/two_tower.safetensors"} <= set(found)
    assert weights(again["artifacts"]) == found


def test_train_gives_its_fits_a_folder_for_as_long_as_it_runs(shop, monkeypatch):
    seen = []

    def killed(inputs, **_):
        (inputs.work / "ranker").mkdir(exist_ok=True)
        seen.append(inputs.work)
        raise KeyboardInterrupt

    ws = shop()
    with monkeypatch.context() as patched:
        patched.setattr(workspace, "train", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                ws.train()
    assert seen == [ws.state_folder / "fits"] * 2
    assert (ws.state_folder / "fits" / "ranker").is_dir()
    ws.train(max_requests=5)
    assert not (ws.state_folder / "fits").exists()


def test_of_two_trains_at_once_one_works_without_the_folder(tmp_path):
    with kept_until_done(tmp_path / "fits") as first, kept_until_done(tmp_path / "fits") as second:
        assert (first, second) == (tmp_path / "fits", None)
        (first / "file").touch()
    assert not (tmp_path / "fits").exists()
    with file_lock(tmp_path / "fits.lock", wait=False):
        pass

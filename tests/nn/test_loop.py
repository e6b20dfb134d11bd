"""What the loop promises: it learns, stops, resumes bit for bit; several processes take the steps that one takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from feedwell.core.errors import DataError, Unavailable
from feedwell.nn.columns import Columns
from feedwell.nn.config import LoopConfig, Run
from feedwell.nn.curves import Curves
from feedwell.nn.loop import Data, fit_network
from feedwell.nn.ranks import joined
from tests.nn import training_script as script

SCRIPT = Path(script.__file__)
RUN = Run(name="test", seed=5)


class Killed(Exception):
    pass


def trained(folder=None, *, killed_at=None, config=script.CONFIG, data=None, seed=5):
    network = script.made()
    plain, calls = script.loss_of(network), [0]

    def loss(batch):
        calls[0] += network.training
        if killed_at is not None and calls[0] > killed_at:
            raise Killed
        return plain(batch)

    run = Run(name="test", seed=seed, folder=folder, checkpoint_every_s=0.0)
    curves = fit_network(network, loss, data or script.data(), config, run)
    return network.state_dict(), curves, calls[0]


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole():
    return trained()


def test_learns_what_is_there_to_learn(whole):
    _, curves, _ = whole
    assert curves.valid[0] < 0.68
    assert curves.valid[curves.best] < 0.45
    assert curves.train[-1] < curves.train[0]
    assert curves.steps[-1] == 20 * len(curves.train)


def test_learns_nothing_from_shuffled_inputs():
    train, valid = script.columns(990, 1), script.columns(300, 2)
    order = torch.randperm(990, generator=torch.Generator().manual_seed(0))
    shuffled = Columns({name: train.rows(order.numpy())[name] if name != "y" else train["y"] for name in train})
    _, curves, _ = trained(data=Data(train=shuffled, valid=valid))
    assert min(curves.valid) > 0.65


def test_seeds_decide(whole):
    weights, curves, _ = whole
    again, curves_again, _ = trained()
    assert equal(weights, again)
    assert curves == curves_again
    assert not equal(weights, trained(seed=6)[0])


@pytest.mark.parametrize("killed_at", [1, 20, 77])
def test_a_killed_run_ends_with_the_same_weights(whole, tmp_path, killed_at):
    with pytest.raises(Killed):
        trained(tmp_path, killed_at=killed_at)
    weights, curves, calls = trained(tmp_path)
    assert calls == 120 - killed_at, "it must go on, not start again"
    assert equal(weights, whole[0])
    assert curves == whole[1]
    assert trained(tmp_path)[2] == 0, "a finished run has nothing left to do"


def test_another_run_does_not_take_up_the_checkpoint(tmp_path):
    short = script.CONFIG.model_copy(update={"epochs": 1})
    assert trained(tmp_path, config=short)[2] == 20
    assert trained(tmp_path, config=short.model_copy(update={"learning_rate": 0.003}))[2] == 20
    assert trained(tmp_path, config=short)[2] == 20
    other = Data(train=script.columns(990, 7), valid=script.columns(300, 2))
    assert trained(tmp_path, config=short, data=other)[2] == 20
    assert trained(tmp_path, config=short, data=other)[2] == 0


def test_early_stopping_keeps_the_best_epoch():
    config = script.CONFIG.model_copy(update={"epochs": 60, "patience": 2, "learning_rate": 0.03})
    weights, curves, _ = trained(config=config)
    assert len(curves.train) == curves.best + 3 < 60
    assert curves.valid[curves.best] == min(curves.valid)
    until = script.CONFIG.model_copy(update={"epochs": curves.best + 1, "patience": 2, "learning_rate": 0.03})
    assert equal(weights, trained(config=until)[0])


def test_a_loss_that_is_no_number_is_told():
    train = script.columns(100, 1)
    x = train["x"].clone()
    x[50, 2] = float("nan")
    columns = Columns({**train, "x": x})
    with pytest.raises(DataError, match=r"test: the loss is nan in epoch 0.*learning_rate"):
        trained(data=Data(train=columns))


def test_no_rows_are_told():
    with pytest.raises(DataError, match="test: no training rows"):
        trained(data=Data(train=script.columns(10, 1).rows(torch.zeros(10, dtype=torch.bool).numpy())))


def test_progress_counts_steps_and_bounds_the_time_left(monkeypatch):
    monkeypatch.setattr("feedwell.nn.loop._TELL_EVERY_S", 0.0)
    told = []
    network = script.made()
    run = replace(RUN, progress=lambda *args: told.append(args))
    fit_network(network, script.loss_of(network), script.data(), script.CONFIG, run)
    assert [done for _, done, _ in told] == list(range(1, 121))
    assert {of for *_, of in told} == {120}
    assert told[-1][0] == "test; at most 0 s left"


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    trained()
    assert torch.equal(torch.rand(3), expected)


def test_curves_survive_json(whole, tmp_path):
    whole[1].write(tmp_path / "curves.json")
    assert Curves.read(tmp_path / "curves.json") == whole[1]


def test_bfloat16_learns_as_well():
    config = script.CONFIG.model_copy(update={"precision": "bfloat16"})
    _, curves, _ = trained(config=config)
    assert curves.precision == "bfloat16"
    assert min(curves.valid) < 0.46


def run_script(*args, processes=1, check=True):
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")} | {"OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launch, str(SCRIPT), *map(str, args)]
    return subprocess.run(command, env=environment, check=check, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_sigkill_and_resume_gives_the_same_weights(whole, tmp_path):
    weights = whole[0]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(tmp_path / "checkpoints"), str(tmp_path), "--slow"]
    for after in (0.15, 0.5, 0.8):
        running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while not (tmp_path / "checkpoints" / "checkpoint.json").exists():
            assert running.poll() is None
            time.sleep(0.01)
        time.sleep(after)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        assert not (tmp_path / "weights.safetensors").exists()
    run_script(tmp_path / "checkpoints", tmp_path)
    assert equal(load_file(tmp_path / "weights.safetensors"), weights)
    assert Curves.read(tmp_path / "curves.json") == whole[1]


@pytest.mark.parametrize("started", [pytest.param("by torchrun", marks=pytest.mark.slow), "by forks"])
def test_two_processes_take_the_steps_that_one_takes(tmp_path, started):
    (one := tmp_path / "one").mkdir()
    (two := tmp_path / "two").mkdir()
    script.main(None, one, dropout=0.0)
    if started == "by torchrun":
        run_script(tmp_path / "b", two, "--plain", processes=2)
    else:
        run_script(tmp_path / "b", two, "--plain", "--two")
    weights, shared = load_file(one / "weights.safetensors"), load_file(two / "weights.safetensors")
    for name, value in weights.items():
        torch.testing.assert_close(shared[name], value, rtol=2e-3, atol=2e-4, msg=name)
    curves, curves_two = Curves.read(one / "curves.json"), Curves.read(two / "curves.json")
    assert curves_two.world_size == 2
    assert curves_two.valid == pytest.approx(curves.valid, rel=1e-4)
    assert curves_two.train == pytest.approx(curves.train, rel=1e-4)


def test_two_processes_that_were_killed_end_with_the_same_weights(tmp_path):
    run_script(tmp_path / "checkpoints", tmp_path, "--broken")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    steps = [int((resumed / f"steps-{rank}").read_text()) for rank in range(2)]
    assert steps[0] == steps[1] < 80, "both must go on where the first one's checkpoint stands"
    assert equal(load_file(resumed / "weights.safetensors"), load_file(whole / "weights.safetensors"))
    assert Curves.read(resumed / "curves.json") == Curves.read(whole / "curves.json")


def test_configuration_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="batch_size"):
        LoopConfig(batch_size=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_a_device_that_is_not_there_is_told():
    with pytest.raises(Unavailable, match=r'torch finds no CUDA device.*device = "auto"'), joined("cuda"):
        pass

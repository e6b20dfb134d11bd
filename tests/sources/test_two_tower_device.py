"""The loss of the two towers computes where its batch lies: held without a GPU on torch's meta device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from feedwell.core import registry
from feedwell.nn.config import Run
from feedwell.nn.two_tower import Towers
from feedwell.sources import _two_tower_fit as fit

Config = registry.find("source", "two_tower").Config
N_ITEMS, N_USERS, EACH = 30, 20, 6


class OneDevice(TorchDispatchMode):
    """Refuses whatever computes on, or makes, a tensor of another device; what moves tensors there may pass."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.calls = device, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls += 1
        moves = func is torch.ops.aten._to_copy.default
        seen = tree_leaves(result if moves else (args, kwargs, result))
        elsewhere = [str(x.device) for x in seen if isinstance(x, Tensor) and x.device != self.device]
        assert not elsewhere, f"{func} on {elsewhere}, the batch lies on {self.device}"
        return result


def shop():
    rng = np.random.default_rng(0)
    items = fit.Items(
        id_I=np.arange(N_ITEMS) + 1,
        static_IS=rng.random((N_ITEMS, 3), np.float32),
        category_IC=rng.integers(0, 4, (N_ITEMS, 1)),
        category_sizes=(4,),
    )
    n = N_USERS * EACH
    events = fit.Events(
        user_E=np.repeat(np.arange(N_USERS), EACH),
        row_E=rng.integers(0, N_ITEMS, n),
        at_E=np.arange(n) * 10**9,
        undone_E=np.zeros(n, np.bool_),
        numbers_EF=rng.random((n, 2), np.float32),
        category_EC=rng.integers(0, 3, (n, 1)),
        category_sizes=(3,),
    )
    return items, events


def settings(**changes):
    return Config(
        embedding_dim=8, hidden_dim=8, batch_size=32, negatives=16, epochs=2, history=5, valid_share=0.0, **changes
    )


def made(config):
    items, events = shop()
    samples = fit._samples(config, events)
    network = Towers(fit.sizes_of(config, items, events), config.temperature, config.dropout)
    return fit.Loss(config, network, items, events, samples), samples


@pytest.mark.parametrize("context", ["past", "others"])
@pytest.mark.parametrize("log_q", [True, False])
def test_a_step_stays_on_the_device_of_its_batch(monkeypatch, context, log_q):
    loss, samples = made(settings(context=context, log_q=log_q, id_dropout=0.3, dropout=0.2))
    # How many values are distinct is nothing that the meta device knows.
    monkeypatch.setattr(
        torch, "unique", lambda x, **_: (x.reshape(-1), torch.arange(x.numel(), device=x.device).view(x.shape))
    )
    device = torch.device("meta")
    batch = {name: value.to(device) for name, value in samples.take(torch.arange(32)).items()}
    loss.network.to(device).train()
    with OneDevice(device) as watched:
        loss(batch).backward()
    assert watched.calls > 50
    assert loss.network.item_out.weight.grad.device == device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: training on CUDA is NOT tested on this machine")
@pytest.mark.parametrize("context", ["past", "others"])
def test_trains_on_a_gpu(context):
    config = settings(context=context, device="cuda")
    towers, curves = fit.train(config, *shop(), Run(name="test", seed=3))
    assert len(curves.train) == 2
    assert all(np.isfinite(value).all() for value in towers.weights.values())

"""The row-wise optimiser against the formula written out on dense arrays, and both optimisers' state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from feedwell.nn.config import LoopConfig
from feedwell.nn.optim import Optimisers, RowwiseAdagrad


def reference(table, rows_of_steps, grads_of_steps, rate):
    """Every row of the table at every step, slowly."""
    table, sums = table.astype(np.float64), np.zeros(len(table))
    for rows, grads in zip(rows_of_steps, grads_of_steps, strict=True):
        dense = np.zeros_like(table)
        np.add.at(dense, rows, grads)
        sums += (dense**2).mean(axis=1)
        touched = np.isin(np.arange(len(table)), rows)
        table[touched] -= rate * dense[touched] / (np.sqrt(sums[touched, None]) + 1e-8)
    return table, sums


def test_equals_the_dense_reference():
    rng = np.random.default_rng(1)
    table = nn.Embedding(50, 6, sparse=True)
    start = table.weight.detach().numpy().copy()
    optimiser = RowwiseAdagrad({"t": table.weight}, 0.1)
    rows = [rng.integers(0, 50, 30) for _ in range(7)]
    grads = [rng.normal(size=(30, 6)).astype(np.float32) for _ in range(7)]
    for row, grad in zip(rows, grads, strict=True):
        table.weight.grad = None
        (table(torch.from_numpy(row)) * torch.from_numpy(grad)).sum().backward()
        assert table.weight.grad.is_sparse
        optimiser.step()
    expected, sums = reference(start, rows, grads, 0.1)
    np.testing.assert_allclose(table.weight.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(optimiser.sums["t"].numpy(), sums, rtol=1e-5)
    untouched = ~np.isin(np.arange(50), np.concatenate(rows))
    assert np.array_equal(table.weight.detach().numpy()[untouched], start[untouched])


def test_dense_gradients_of_a_table_count_alike():
    grad = torch.zeros(5, 3)
    grad[[1, 4]] = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]])
    results = []
    for given in (grad, grad.to_sparse(1)):
        weight = nn.Parameter(torch.ones(5, 3))
        weight.grad = given
        RowwiseAdagrad({"t": weight}, 0.1).step()
        results.append(weight.detach())
    assert torch.equal(*results)


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4, sparse=True)
        self.small = nn.Embedding(3, 4)
        self.layer = nn.Linear(4, 2)


def test_tables_and_dense_weights_are_told_apart():
    made = Optimisers(Tower(), LoopConfig())
    assert list(made.tables.tables) == ["table.weight"]
    assert list(made.dense) == ["small.weight", "layer.weight", "layer.bias"]


@pytest.mark.parametrize("steps", [0, 3])
def test_state_restores(steps):
    def step(tower, made, i):
        made.zero()
        x = tower.layer(tower.table(torch.tensor([i, i + 1])) + tower.small(torch.tensor([0, 1])))
        x.square().sum().backward()
        made.step(1.0)

    torch.manual_seed(0)
    one, two = Tower(), Tower()
    first = Optimisers(one, LoopConfig())
    for i in range(steps):
        step(one, first, i)
    two.load_state_dict(one.state_dict())
    second = Optimisers(two, LoopConfig())
    second.restore({name: value.clone() for name, value in first.state().items()})
    for i in range(3, 6):
        step(one, first, i)
        step(two, second, i)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)

"""Each block against its formula written out with loops."""

from __future__ import annotations

import math

import pytest
import torch

from feedwell.nn.attention import TargetAttention
from feedwell.nn.cross import CrossLayers
from feedwell.nn.embedding import ColumnTables, RowTable
from feedwell.nn.experts import Experts
from feedwell.nn.likelihoods import objective_losses


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_cross_layers_are_equation_1():
    cross, x_BD = CrossLayers(5, 3), torch.randn(4, 5)
    got = cross(x_BD)
    for b in range(4):
        x = x_BD[b]
        for layer in cross.layers:
            x = torch.stack([x_BD[b, i] * (layer.weight[i] @ x + layer.bias[i]) + x[i] for i in range(5)])
        torch.testing.assert_close(got[b], x)
    assert torch.equal(CrossLayers(5, 0)(x_BD), x_BD)


def test_gated_outputs_are_towers_over_gated_experts():
    experts = Experts(6, (7, 4), n_experts=3, n_objectives=2, dropout=0.5).eval()
    x_BD = torch.randn(5, 6)
    got = experts(x_BD)
    for b in range(5):
        gates = experts.gates(x_BD[b]).view(3, 2)
        for t in range(2):
            weight = torch.softmax(gates[:, t], dim=0)
            mixed = sum(weight[e] * experts.experts[e](x_BD[b]) for e in range(3))
            torch.testing.assert_close(got[b, t], experts.towers.weight[t] @ mixed + experts.bias[t])


def test_one_expert_is_a_shared_bottom():
    shared = Experts(6, (4,), n_experts=1, n_objectives=2, dropout=0.0)
    x_BD = torch.randn(3, 6)
    assert shared.gates is None
    torch.testing.assert_close(shared(x_BD), shared.towers(shared.experts[0](x_BD)) + shared.bias)


def test_attention_is_a_softmax_over_what_is_there():
    attention = TargetAttention(4)
    torch.nn.init.normal_(attention.nothing)
    history_BLD, bias_BL = torch.randn(2, 3, 4), torch.randn(2, 3)
    inside_BL = torch.tensor([[True, True, False], [False, False, False]])
    candidate_BD = torch.randn(2, 4)
    state = attention.encode(history_BLD, bias_BL, inside_BL)
    got = attention(candidate_BD, *state)
    for b in range(2):
        q = attention.query(candidate_BD[b])
        scores, values = [q @ attention.nothing[0] / 2.0], [attention.nothing[1]]
        for place in range(3):
            if inside_BL[b, place]:
                scores.append(q @ attention.key(history_BLD[b, place]) / math.sqrt(4) + bias_BL[b, place])
                values.append(attention.value(history_BLD[b, place]))
        weight = torch.softmax(torch.stack(scores), dim=0)
        expected = sum(w * v for w, v in zip(weight, values, strict=True))
        torch.testing.assert_close(got[b], expected)
        torch.testing.assert_close(attention.of_one(candidate_BD, *(s[b] for s in state))[b], expected)


def test_unknown_rows_have_a_vector_of_their_own():
    table = RowTable(3, 2, drop=0.5)
    rows_B = torch.tensor([-1, 0, 2] * 200)
    table.eval()
    assert torch.equal(table(rows_B)[:3], table.weight[[0, 1, 3]])
    assert torch.equal(table(rows_B), table(rows_B))
    table.train()
    unknown = (table(rows_B)[1::3] == table.weight[0]).all(dim=1)
    assert 60 < int(unknown.sum()) < 140
    columns = ColumnTables((3, 4), 2).eval()
    assert columns(torch.tensor([[0, -1], [2, 3]])).shape == (2, 4)
    assert ColumnTables((), 2)(torch.zeros((5, 0), dtype=torch.int64)).shape == (5, 0)


def test_losses_are_the_likelihoods_of_known_labels():
    z_BT = torch.randn(6, 3, requires_grad=True)
    y_BT = torch.tensor([[1.0, 2.0, -1.0]] * 6)
    y_BT[0, 0] = y_BT[1, 1] = y_BT[2, 2] = float("nan")
    losses_BT = objective_losses(z_BT, y_BT, ("binary", "poisson", "squared"))
    z = z_BT.detach()
    expected = torch.stack(
        [-torch.log(torch.sigmoid(z[:, 0])), z[:, 1].exp() - 2 * z[:, 1], 0.5 * (z[:, 2] + 1) ** 2], dim=1
    )
    expected[0, 0] = expected[1, 1] = expected[2, 2] = 0.0
    torch.testing.assert_close(losses_BT.detach(), expected)
    losses_BT.sum().backward()
    assert torch.isfinite(z_BT.grad).all()
    assert z_BT.grad[0, 0] == z_BT.grad[1, 1] == z_BT.grad[2, 2] == 0.0

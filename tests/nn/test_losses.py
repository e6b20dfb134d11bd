"""The chunked sampled softmax against the plain one, values and gradients."""

from __future__ import annotations

import pytest
import torch

from feedwell.nn.losses import sampled_softmax


def plain(user_BD, item_MD, log_q_M, id_M):
    logit_BM = user_BD @ item_MD.T - log_q_M
    total = torch.zeros(())
    for b in range(len(user_BD)):
        columns = [m for m in range(len(item_MD)) if m == b or id_M[m] != id_M[b]]
        total = total - torch.log_softmax(logit_BM[b, columns], 0)[columns.index(b)]
    return total


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_it_is_the_plain_softmax_whatever_the_chunk(chunk):
    torch.manual_seed(1)
    user_BD, item_MD = torch.randn(9, 5, requires_grad=True), torch.randn(16, 5, requires_grad=True)
    log_q_M, id_M = torch.randn(16), torch.randint(0, 6, (16,))
    assert len(set(id_M[:9].tolist())) < 9
    one = plain(user_BD, item_MD, log_q_M, id_M)
    slopes = torch.autograd.grad(one * 0.5, (user_BD, item_MD))
    other = sampled_softmax(user_BD, item_MD, log_q_M, id_M, chunk)
    torch.testing.assert_close(one, other)
    for a, b in zip(slopes, torch.autograd.grad(other * 0.5, (user_BD, item_MD)), strict=True):
        torch.testing.assert_close(a, b)


def test_an_item_drawn_twice_as_often_counts_half():
    user_BD, id_M = torch.zeros(1, 2), torch.tensor([0, 1, 2])
    item_MD = torch.zeros(3, 2)
    even = sampled_softmax(user_BD, item_MD, torch.zeros(3), id_M)
    torch.testing.assert_close(even, torch.log(torch.tensor(3.0)))
    often = sampled_softmax(user_BD, item_MD, torch.log(torch.tensor([1.0, 2.0, 2.0])), id_M)
    torch.testing.assert_close(often, torch.log(torch.tensor(2.0)))

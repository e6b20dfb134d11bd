"""How the ranker `mmoe` is trained and written: ranking rows → columns → the one loop → ONNX.

N rows, R requests, T objectives, E events of histories
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feedwell.core.protocols import Histories, RankingRows
from feedwell.nn.checkpoint import own_folder
from feedwell.nn.columns import Batch, Column, Columns, Lists, Shared, gathered
from feedwell.nn.config import LoopConfig, Run
from feedwell.nn.curves import Curves
from feedwell.nn.export import require_parity, to_onnx
from feedwell.nn.inference import Graph
from feedwell.nn.likelihoods import BINARY, POISSON, objective_losses
from feedwell.nn.loop import Data, fit_network, seeded
from feedwell.scorers._content import Content, Vectors
from feedwell.scorers._inputs import Fitted, Targets, age_buckets
from feedwell.scorers._mmoe_network import STATE, USER_INPUTS, EncodeUser, Network, Score
from feedwell.scorers._rows import Matrix, columns_of

_CHECKED_ROWS = (1, 2, 500)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How ranking rows become the network's inputs: `histories` of their requests, of which the last `length` count;
    `content` what items say, `delta` what those say that it does not have. `folder`: for rows by the million."""

    inputs: Fitted
    histories: Histories
    length: int
    content: Content | None = None
    delta: Vectors | None = None
    folder: Path | None = None

    def columns(self, rows: RankingRows) -> Columns:
        """In memory or mapped from files (`gathered`)."""
        return gathered(_columns(rows, self), len(rows), self.folder)


def _columns(rows: RankingRows, reading: Reading) -> Iterator[tuple[str, Column]]:
    """One after the other; what is a request's is kept once per request, what an item says once per item."""
    inputs, histories = reading.inputs, reading.histories
    n_requests = len(histories.indptr_R) - 1
    of_N = torch.from_numpy(np.ascontiguousarray(rows.group_N))
    t_R = np.zeros(n_requests, np.int64)
    t_R[rows.group_N] = rows.t_N
    age_E = np.repeat(t_R, np.diff(histories.indptr_R)) - histories.at_E

    def lists(values_E: NDArray[np.int64]) -> Lists:
        indptr_R = torch.from_numpy(histories.indptr_R.astype(np.int64))
        return Lists(indptr_R=indptr_R, values=torch.from_numpy(values_E), length=reading.length, of_N=of_N)

    user_numbers, user_rows = inputs.read(inputs.user, _per_request(rows, inputs.user.names, n_requests))
    yield "user_numbers", Shared(values_R=torch.from_numpy(user_numbers), of_N=of_N)
    yield "user_rows", Shared(values_R=torch.from_numpy(user_rows), of_N=of_N)
    yield "history", lists(inputs.item_rows(histories.keys_E))
    yield "types", lists(histories.type_E.astype(np.int64))
    yield "ages", lists(age_buckets(age_E))
    yield "item", torch.from_numpy(inputs.item_rows(rows.item_N))
    item_numbers, item_rows = inputs.read(inputs.item, columns_of(rows, inputs.item.names))
    yield "item_numbers", torch.from_numpy(item_numbers)
    yield "item_rows", torch.from_numpy(item_rows)
    if reading.content is not None:
        keys, row_N = np.unique(rows.item_N, return_inverse=True)
        vectors = torch.from_numpy(reading.content.read(keys, reading.delta))
        yield "content", Shared(values_R=vectors, of_N=torch.from_numpy(row_N.reshape(-1)))


def _per_request(rows: RankingRows, names: Sequence[str], n_requests: int) -> Matrix:
    x_RF = np.full((n_requests, len(names)), np.nan, np.float32)
    x_RF[rows.group_N] = columns_of(rows, names)
    return x_RF


def train(
    columns: Columns,
    targets: Targets,
    rows: RankingRows,
    network: Callable[[], Network],
    config: LoopConfig,
    run: Run,
) -> tuple[Network, Curves]:
    """The trained network and how it went; rows weigh what they stand for, relative to their mean."""
    with seeded(run.seed):
        made = network()
    with torch.no_grad():
        made.experts.bias.copy_(torch.from_numpy(_starts(targets, rows.weight_N)))
    known_N = np.asarray(np.isfinite(targets.y_NT).any(axis=1))
    valid_N = _stopping(rows, known_N)
    weight_N = rows.weight_N / max(float(rows.weight_N[known_N & ~valid_N].mean()), 1e-12)
    every = Columns(
        {**columns, "y": torch.from_numpy(targets.y_NT), "w": torch.from_numpy(weight_N.astype(np.float32))}
    )
    weight_T = torch.from_numpy(targets.weight_T)
    of_rows = {"known": known_N, "valid": valid_N, "weight_T": targets.weight_T, "kinds": np.array(targets.kinds)}
    run = own_folder(run, config, every.arrays() | of_rows)

    def loss(batch: Mapping[str, Tensor]) -> Tensor:
        losses_BT = objective_losses(made(batch), batch["y"], targets.kinds)
        return (losses_BT * weight_T.to(losses_BT.device)).sum(dim=1) @ batch["w"]

    data = Data(train=every.rows(known_N & ~valid_N), valid=every.rows(valid_N) if valid_N.any() else None)
    curves = fit_network(made, loss, data, config, run)
    return made.cpu(), curves


def _stopping(rows: RankingRows, known_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows that watch for the stop: those kept back whose labels are known; where no window of theirs has closed,
    the last fifth by time of those known. None were kept back, or all: none watch."""
    if rows.valid_N.all() or not rows.valid_N.any():
        return np.zeros(len(rows), np.bool_)
    valid_N: NDArray[np.bool_] = rows.valid_N & known_N
    if not valid_N.any():
        valid_N = known_N & (rows.t_N >= np.quantile(rows.t_N[known_N], 0.8))
    return valid_N if (known_N & ~valid_N).any() else np.zeros(len(rows), np.bool_)


def _starts(targets: Targets, weight_N: NDArray[np.float64]) -> NDArray[np.float32]:
    """Where each output starts: what gives the mean label, held off 0 and 1."""
    starts = []
    for t, kind in enumerate(targets.kinds):
        known_N = np.isfinite(targets.y_NT[:, t])
        y, w = targets.y_NT[known_N, t], weight_N[known_N]
        mean = float((y @ w + 0.5 * w.mean()) / (w.sum() + w.mean()))
        starts.append(np.log(mean / (1 - mean)) if kind == BINARY else np.log(mean) if kind == POISSON else mean)
    return np.array(starts, np.float32)


def score_rows(network: Network, columns: Columns, batch: int = 4096) -> NDArray[np.float32]:
    """z_NT of all rows."""
    network.eval()
    with torch.no_grad():
        parts = [
            network(columns.take(torch.arange(at, min(at + batch, columns.n_rows)))).numpy()
            for at in range(0, columns.n_rows, batch)
        ]
    return np.concatenate(parts)


def sample(columns: Columns) -> Batch:
    """The rows on which a graph is held against the network."""
    return columns.take(torch.arange(min(columns.n_rows, max(_CHECKED_ROWS))))


def export(network: Network, batch: Batch) -> tuple[Graph, Graph]:
    """(encode_user, score) as graphs; CheckFailed if one is not equal to the network on the rows of `batch`."""
    network.eval()
    users = {name: batch[name][:1] for name in USER_INPUTS}
    with torch.no_grad():
        state = dict(zip(STATE, network.encode_user(**users), strict=True))
    items = {name: batch[name] for name in network.item_inputs}
    # One row would be taken for a fixed number of rows.
    items = {
        name: value.repeat(2, *[1] * (value.ndim - 1)) if len(value) < 2 else value for name, value in items.items()
    }
    encode = Graph(to_onnx(EncodeUser(network), users, STATE, ()), "the user's graph")
    score = Graph(to_onnx(Score(network), state | items, ("z",), network.item_inputs), "the candidates' graph")
    _require_equal(network, (encode, score), batch)
    return encode, score


def _require_equal(network: Network, graphs: tuple[Graph, Graph], batch: Mapping[str, Tensor]) -> None:
    """Several requests, several numbers of candidates: as the training forward computes them, row by row."""
    n = len(batch["item"])
    for n_rows in _CHECKED_ROWS:
        at = min(n_rows, n) - 1
        users = {name: batch[name][at : at + 1] for name in USER_INPUTS}
        items = {name: batch[name][: at + 1] for name in network.item_inputs}
        with torch.no_grad():
            state = network.encode_user(**users)
            spread = {name: value.expand(at + 1, *value.shape[1:]) for name, value in users.items()}
            expected = network({**spread, **items})
        require_parity(graphs[0], users, state, "the ranker's user side")
        inputs = dict(zip(STATE, state, strict=True)) | items
        require_parity(graphs[1], inputs, [expected], "the ranker's candidate side")

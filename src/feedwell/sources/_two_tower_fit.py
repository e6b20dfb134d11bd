"""Training of the two towers: samples from histories, negatives, the loop. Only this file of the source needs torch.

E events by user in log order, N samples, B rows of a step, L history, M columns of a step, I items
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feedwell.core.errors import CheckFailed
from feedwell.core.rng import stream
from feedwell.nn.checkpoint import own_folder
from feedwell.nn.columns import Batch, Columns, gathered
from feedwell.nn.config import Run
from feedwell.nn.curves import Curves
from feedwell.nn.loop import Data, fit_network, seeded
from feedwell.nn.losses import sampled_softmax
from feedwell.nn.two_tower import AGES, PLACES, Bags, Sizes
from feedwell.nn.two_tower import Towers as Network
from feedwell.sources._towers import Ints, Matrix, Towers

if TYPE_CHECKING:
    from feedwell.sources.two_tower import TwoTower

_LEAST_VALID = 50
_MINUTE_US = 60_000_000
_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Items:
    """All items that can be retrieved: `id_I` is the row of an item's own embedding (0: it has none)."""

    id_I: Ints
    static_IS: Matrix
    category_IC: Ints
    category_sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Events:
    """What users did, in log order: `row_E` the item's row, the user's own columns as of each event.

    `undone_E`: what was taken back later stands in histories, since at its time nobody knew, and is not to be found.
    """

    user_E: Ints
    row_E: Ints
    at_E: Ints
    undone_E: NDArray[np.bool_]
    numbers_EF: Matrix
    category_EC: Ints
    category_sizes: tuple[int, ...]


def train(config: TwoTower.Config, items: Items, events: Events, run: Run) -> tuple[Towers, Curves]:
    """The trained towers as serving has them, checked to be equal to torch's; and how training went."""
    sizes = sizes_of(config, items, events)
    samples = _samples(config, events)
    samples = gathered(samples.items(), samples.n_rows, run.folder)
    with seeded(run.seed):
        network = Network(sizes, config.temperature, config.dropout)
    if not samples.n_rows:
        return _towers(network), Curves()
    loss = Loss(config, network, items, events, samples)
    list_N: Any = samples["start"]
    valid_N = _valid(config, loss.at_N, list_N.numpy(), run.seed)
    data = Data(train=samples.rows(~valid_N), valid=samples.rows(valid_N) if valid_N.any() else None)
    run = own_folder(run, config, {**_arrays(items), **_arrays(events)})
    curves = fit_network(network, loss, data, config, run)
    towers = _towers(network)
    _require_parity(network, towers, loss, samples)
    return towers, curves


def sizes_of(config: TwoTower.Config, items: Items, events: Events) -> Sizes:
    """The network's sizes for this data."""
    return Sizes(
        n_ids=int(items.id_I.max(initial=0)),
        embedding_dim=config.embedding_dim,
        hidden_dim=config.hidden_dim,
        item_static=items.static_IS.shape[1],
        item_categories=items.category_sizes,
        user_numbers=events.numbers_EF.shape[1],
        user_categories=events.category_sizes,
        history_table=config.history_table,
    )


def _arrays(data: Items | Events) -> dict[str, NDArray[Any]]:
    return {f"{type(data).__name__}.{name}": np.asarray(value) for name, value in vars(data).items()}


def _samples(config: TwoTower.Config, events: Events) -> Columns:
    """One sample per event that was not undone and whose user has a history (or columns): where its user's events begin
    and end before it."""
    order = np.argsort(events.user_E, kind="stable")
    user_E, at_E, row_E = events.user_E[order], events.at_E[order], events.row_E[order]
    n = len(order)
    begins = np.ones(n, np.bool_)
    begins[1:] = user_E[1:] != user_E[:-1]
    start_E = np.maximum.accumulate(np.where(begins, np.arange(n), 0))
    end_E = np.searchsorted(user_E, user_E, side="right")
    stop_E = np.arange(n)
    if n and at_E.min() < at_E.max():
        # Events of one moment do not know of each other. A file of lists has an order and no times at all.
        moves = begins.copy()
        moves[1:] |= at_E[1:] != at_E[:-1]
        stop_E = np.maximum.accumulate(np.where(moves, np.arange(n), 0))
    keep = ~events.undone_E[order]
    if not config.repeats:
        pair_E, standing = user_E * (int(row_E.max(initial=0)) + 1) + row_E, np.flatnonzero(keep)
        keep = np.zeros(n, np.bool_)
        keep[standing[np.unique(pair_E[standing], return_index=True)[1]]] = True
    has_columns = events.numbers_EF.shape[1] + events.category_EC.shape[1] > 0
    if config.context == "others":
        start_stop = start_E, end_E
        keep &= has_columns | (end_E - start_E > 1)
    else:
        start_stop = start_E, stop_E
        keep &= has_columns | (stop_E > start_E)
    kept = np.flatnonzero(keep)
    columns = {
        "self": kept,
        "start": start_stop[0][kept],
        "stop": start_stop[1][kept],
        "numbers": events.numbers_EF[order][kept],
        "categories": events.category_EC[order][kept],
    }
    return Columns({name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()})


def _valid(config: TwoTower.Config, at_N: Ints, list_N: Ints, seed: int) -> NDArray[np.bool_]:
    """Those that watch for the stop: the last samples in time; some by chance where nothing has a time.

    Where a sample is found from all others of its list: whole lists by chance, so that no other sample has seen it; and
    samples by chance if the lists are too few and too long for that.
    """
    n, share = len(at_N), round(config.valid_share * len(at_N))
    valid_N = np.zeros(n, np.bool_)
    if share < _LEAST_VALID:
        return valid_N
    random = stream(seed, "valid")
    if config.context == "others":
        of_lists_N = _of_lists(list_N, share, random)
        if of_lists_N.sum() >= _LEAST_VALID:
            return of_lists_N
    timed = at_N.min() < at_N.max() and config.context == "past"
    order_N = np.argsort(at_N, kind="stable") if timed else random.permutation(n)
    valid_N[order_N[-share:]] = True
    return valid_N


def _of_lists(list_N: Ints, share: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Samples of lists by chance, `share` at most; a list longer than half of that takes no part, so that the others
    come to half of it at least, if there are so many."""
    lists, of_N, size = np.unique(list_N, return_inverse=True, return_counts=True)
    order = random.permutation(len(lists))
    order = order[size[order] <= share // 2]
    taken = np.zeros(len(lists), np.bool_)
    taken[order[np.cumsum(size[order]) <= share]] = True
    return np.asarray(taken[of_N])


@dataclass(frozen=True, kw_only=True)
class Histories:
    """A step's histories: the items' rows, how far from the newest and how old (powers of two), which are there."""

    row_BL: Tensor
    place_BL: Tensor
    age_BL: Tensor
    there_BL: Tensor


class Loss:
    """A step's sampled softmax: the batch's own items and a uniform sample of the catalog as negatives.

    It computes where its batch lies: what it knows of items and events moves there with the first one.
    """

    def __init__(
        self, config: TwoTower.Config, network: Network, items: Items, events: Events, samples: Columns
    ) -> None:
        self._config, self.network = config, network
        order = np.argsort(events.user_E, kind="stable")
        self.row_E = torch.from_numpy(events.row_E[order])
        self.at_E = torch.from_numpy(events.at_E[order])
        self.id_I = torch.from_numpy(items.id_I)
        self.static_IS = torch.from_numpy(items.static_IS)
        self.category_IC = torch.from_numpy(items.category_IC)
        target_N: Any = samples["self"]
        self.at_N: Ints = self.at_E[target_N].numpy()
        count_I = torch.bincount(self.row_E[target_N], minlength=len(self.id_I)).float()
        self.share_I = count_I / count_I.sum().clamp(min=1)
        # Not from the whole catalog: an item that nobody has met yet is no negative, and would be learned as one.
        self._met = torch.from_numpy(np.unique(events.row_E[~events.undone_E]))
        self._place_L = torch.log2(torch.arange(1, config.history + 1).float()).long().clamp(max=PLACES - 1)

    def to(self, device: torch.device) -> None:
        """All tensors move there; the network is the loop's to move."""
        if self.row_E.device != device:
            for name, value in list(vars(self).items()):
                if isinstance(value, Tensor):
                    setattr(self, name, value.to(device))

    def __call__(self, batch: Batch) -> Tensor:
        self.to(batch["self"].device)
        row_M = self._columns(self.row_E[batch["self"]])
        id_M, nameless_M = self.id_I[row_M], self._nameless(row_M)
        if nameless_M is not None:
            id_M = id_M.masked_fill(nameless_M, 0)
        item_MD = self.network.item(id_M, self.static_IS[row_M], self.category_IC[row_M])
        log_q_M = torch.zeros(len(row_M), device=row_M.device)
        if self._config.log_q:
            n_uniform = len(row_M) - len(batch["self"])
            log_q_M = torch.log(len(batch["self"]) * self.share_I[row_M] + n_uniform / len(self._met))
        return sampled_softmax(self.user(batch, self.histories(batch)), item_MD, log_q_M, row_M)

    def user(self, batch: Batch, histories: Histories) -> Tensor:
        """user_BD of the samples."""
        row_U, of_BL = torch.unique(histories.row_BL, return_inverse=True)
        bags = Bags(
            id_U=self.id_I[row_U],
            static_US=self.static_IS[row_U],
            category_UC=self.category_IC[row_U],
            of_BL=of_BL,
            nameless_BL=self._nameless(of_BL),
        )
        weight_BL = self.network.weights_BL(bags, histories.place_BL, histories.age_BL, histories.there_BL)
        return self.network.user(self.network.pooled(bags, weight_BL), batch["numbers"], batch["categories"])

    def _nameless(self, x: Tensor) -> Tensor | None:
        """Where an item must do without its own embedding, in both towers: that is how they meet one that is new."""
        if not (self.network.training and self._config.id_dropout):
            return None
        return torch.rand(x.shape, device=x.device) < self._config.id_dropout

    def histories(self, batch: Batch) -> Histories:
        """What the samples' users did before them, the newest first; or beside them, in no order."""
        start_B1, stop_B1 = batch["start"][:, None], batch["stop"][:, None]
        step_1L = torch.arange(self._config.history, device=start_B1.device)[None]
        if self._config.context == "past":
            at_BL = stop_B1 - 1 - step_1L
            there_BL, at_BL = at_BL >= start_B1, at_BL.clamp(min=0)
            age_BL = (self.at_E[batch["self"]][:, None] - self.at_E[at_BL]).clamp(min=1)
            age_BL = torch.log2(age_BL.double() / _MINUTE_US + 1).long().clamp(0, AGES - 1)
            place_BL = self._place_L.expand(at_BL.shape)
        else:
            # A list longer than L is seen through any stretch of it, round its end.
            n_B1 = (stop_B1 - start_B1).clamp(min=1)
            from_B1 = (torch.rand(n_B1.shape, device=n_B1.device) * n_B1).long()
            at_BL = start_B1 + (from_B1 + step_1L) % n_B1
            there_BL, age_BL = (step_1L < n_B1).expand(at_BL.shape), torch.zeros_like(at_BL)
            place_BL = age_BL
        row_BL = self.row_E[at_BL]
        there_BL = there_BL & (row_BL != self.row_E[batch["self"]][:, None])
        return Histories(row_BL=row_BL.masked_fill(~there_BL, 0), place_BL=place_BL, age_BL=age_BL, there_BL=there_BL)

    def _columns(self, row_B: Tensor) -> Tensor:
        """The rows' own items, then the uniform sample (Yang et al. 2020: mixed negatives)."""
        drawn = torch.randint(len(self._met), (self._config.negatives,), device=row_B.device)
        return torch.cat([row_B, self._met[drawn]])


def _towers(network: Network) -> Towers:
    weights = {name: value.detach().cpu().float().numpy() for name, value in network.state_dict().items()}
    return Towers(weights=weights, temperature=network.temperature)


@torch.no_grad()
def _require_parity(network: Network, towers: Towers, loss: Loss, samples: Columns) -> None:
    """CheckFailed when what serving computes is not what was trained."""
    cpu = torch.device("cpu")
    network.eval().to(cpu)
    loss.to(cpu)
    rows = torch.arange(min(256, len(loss.id_I)))
    of_item = loss.id_I[rows], loss.static_IS[rows], loss.category_IC[rows]
    batch = samples.take(torch.arange(min(64, samples.n_rows)))
    histories = loss.histories(batch)
    pairs = [
        (network.item(*of_item).numpy(), towers.item(*(x.numpy() for x in of_item))[0]),
        (loss.user(batch, histories).numpy(), _served(towers, loss, batch, histories)),
    ]
    worst = max(float(np.abs(a - b).max(initial=0)) for a, b in pairs)
    if not worst <= _TOLERANCE:
        raise CheckFailed(
            f"two_tower: vectors as trained and as served differ by {worst:.2g}, expected {_TOLERANCE} at most: "
            "an error of feedwell, please report it with the versions of torch and numpy"
        )


def _served(towers: Towers, loss: Loss, batch: Batch, histories: Histories) -> Matrix:
    """The same users by the formulas of serving, one by one."""
    user_BD = towers.own(batch["numbers"].numpy(), batch["categories"].numpy())
    for b, there_L in enumerate(histories.there_BL.numpy()):
        row_L = histories.row_BL[b].numpy()[there_L]
        of_item = (x[row_L].numpy() for x in (loss.id_I, loss.static_IS, loss.category_IC))
        place_L, age_L = histories.place_BL[b].numpy()[there_L], histories.age_BL[b].numpy()[there_L]
        user_BD[b] += towers.pooled(
            towers.item(*of_item)[1], towers.importance(loss.id_I[row_L].numpy()), place_L, age_L
        )
    return towers.unit(user_BD)

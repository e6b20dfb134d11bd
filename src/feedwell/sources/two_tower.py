"""What is like what the user turned to: a user tower and an item tower whose inner product is the score.

    user: history's items (weighted by importance, recency and age) + the user's features ─┐
                                                                                           ├─ ⟨ , ⟩ / temperature
    item: its own embedding + catalog columns + content embedding ─────────────────────────┘

Yi et al. (2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations") and Yang et al. (2020,
"Mixed Negative Sampling"): a softmax over the batch's items and a uniform sample, corrected for how often each comes.
The item tower is trained to do without an item's own embedding too, so a new item has a vector at once. Serving needs
numpy only. I items, M new ones, B requests, L history, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from feedwell.core.candidates import Float, Retrieved
from feedwell.core.catalog import CatalogTable
from feedwell.core.embedding import make_embedder
from feedwell.core.errors import NotTrained, UsageError
from feedwell.core.keys import avoided, rows_of, union
from feedwell.core.needs import ColumnNeed, FeatureNeed, HistoryNeed, Need
from feedwell.core.protocols import Examples, Interactions, Setting, fit, serve
from feedwell.core.registry import source
from feedwell.core.request import NO_KEYS, Keys, Request
from feedwell.nn.config import LoopConfig, Progress, Run, silent
from feedwell.nn.curves import Curves
from feedwell.sources._shelf import Delta, shelf_of
from feedwell.sources._source import NOTHING, SourceConfig, best_scores, positive_events, wanted
from feedwell.sources._towers import Columns, Ints, Matrix, ages, places
from feedwell.sources._two_tower_model import Model, load_model, save_model

_BATCH = 512


@source("two_tower")
class TwoTower:
    """The `k` items with the greatest ⟨user vector, item vector⟩, which are the scores.

    A user of whom neither a known item nor a column is known gets nothing; nor does anybody, where the events held
    nothing to learn from. Follows the catalog. A request costs I × D multiplications, and L × D for the user.
    """

    examples: ClassVar[Examples] = (
        {"epochs": 2, "embedding_dim": 8, "hidden_dim": 8, "history": 6, "batch_size": 64, "negatives": 16},
        {
            "epochs": 1,
            "embedding_dim": 4,
            "context": "others",
            "batch_size": 128,
            "log_q": False,
            "embed": "",
            "history_table": True,
        },
    )

    class Config(SourceConfig, LoopConfig):
        epochs: int = fit(30, ge=1, le=10_000)
        table_learning_rate: float = fit(0.02, gt=0)
        """Of the items' own embeddings (row-wise Adagrad)."""
        events: tuple[str, ...] = fit(())
        """Default: every type but undoing ones and those of a `down` objective. Undone ones stand in
        histories, as at serving; they are not learned to be found."""
        embedding_dim: int = fit(64, ge=1, le=1024)
        hidden_dim: int = fit(128, ge=1, le=4096)
        history: int = fit(50, ge=1, le=512)
        """The user's last items that count."""
        history_table: bool = fit(False)
        """Whether an item has one more embedding for histories: what follows it need not be like it."""
        context: Literal["past", "others"] = fit("past")
        """Trained to find an item from what its user did before it, or from all else, for lists without an order."""
        repeats: bool = fit(False)
        """Whether a user's second event on an item is one to learn from; else the first alone."""
        embed: str = fit("text")
        """The embedder of the items' `text` columns; "" for none."""
        item_columns: tuple[str, ...] | None = fit(None)
        """Catalog columns that the item tower reads; default: all numbers and derived keys but times of validity."""
        user_columns: tuple[str, ...] | None = fit(None)
        """The user's catalog columns; default: all numbers and derived keys."""
        user_features: tuple[str, ...] = fit(())
        """Declared features of the user alone."""
        negatives: int = fit(1024, ge=0)
        """Items drawn uniformly, of those that anybody touched, as negatives beside the batch's own."""
        log_q: bool = fit(True)
        """Correct the logits for how often an item is drawn; without it, what is popular is pushed down."""
        temperature: float = fit(0.2, gt=0)
        """Logits are cosines over it: smaller fits sharper, larger needs more epochs."""
        id_dropout: float = fit(0.1, ge=0, lt=1)
        """How often the towers must do without an item's own embedding."""
        dropout: float = fit(0.5, ge=0, lt=1)
        """Of history items."""
        min_count: int = fit(1, ge=1)
        """An item has an embedding of its own from so many events on."""
        valid_share: float = fit(0.1, ge=0, lt=1)
        """The last samples in time, kept back for early stopping; with `context = "others"` whole users."""
        strangers: bool = serve(False)
        """Whether a user without a known item is served by their columns alone. On validation data of MovieLens 100K
        age, gender and occupation alone did half as well as popularity: better leave such a user to other sources."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.curves = Curves()
        self._setting = setting
        self.progress: Progress = silent
        self.work: Path | None = None
        """Where a fit keeps its checkpoints, and data too large for memory."""
        self._events = positive_events(config.events, setting)
        _require_columns(config, setting)
        self._need = HistoryNeed(self._events, config.history)
        self._user_columns = setting.user_columns if config.user_columns is None else config.user_columns
        self._embedder: Any = make_embedder(setting, config.embed) if config.embed and setting.item_text else None
        self._model: Model | None = None

    @property
    def needs(self) -> tuple[Need, ...]:
        features = (FeatureNeed(name) for name in self.config.user_features)
        return (self._need, *features, *(ColumnNeed("user", name) for name in self._user_columns))

    @property
    def catalog_offset(self) -> int:
        return -1 if self._model is None else self._model.catalog_offset

    def __call__(self, request: Request) -> Retrieved:
        return self._retrieve(self._trained(), [request])[0]

    def batch(self, requests: Sequence[Request]) -> list[Retrieved]:
        model, found = self._trained(), list[Retrieved]()
        with threadpool_limits(limits=1, user_api="blas"):
            for at in range(0, len(requests), _BATCH):
                found += self._retrieve(model, requests[at : at + _BATCH])
        return found

    def _retrieve(self, model: Model, requests: Sequence[Request]) -> list[Retrieved]:
        if not len(model.shelf.keys_M):
            return [NOTHING] * len(requests)
        user_BD, known_B = self._users(model, requests)
        scores_BI = user_BD @ model.shelf.vectors_MD.T
        return [
            self._best(model, request, user_BD[b], scores_BI[b]) if known_B[b] else NOTHING
            for b, request in enumerate(requests)
        ]

    def fit(self, data: Interactions) -> None:
        # torch, and whatever only training needs, is loaded here: a server never trains.
        from feedwell.sources._two_tower_fit import Events, Items, train

        events = data.of(self._events)
        undone_E = np.zeros(len(events.user_E), np.bool_) if events.undone_E is None else events.undone_E
        catalog = data.catalog.get("item", CatalogTable())
        keys_I = NO_KEYS if undone_E.all() else union(catalog.keys_M, events.item_E[~undone_E])
        row_E = rows_of(keys_I, events.item_E)
        id_I = self._ids(row_E[~undone_E], len(keys_I))
        kept_E = row_E >= 0  # an item without a row of which all was taken back is none
        if self._embedder is not None and hasattr(self._embedder, "fit"):
            self._embedder.fit(catalog.text_M)
        items, static_IS, category_IC = self._item_inputs(None, keys_I, catalog)
        read = {name: value_E[kept_E] for name, value_E in events.user_columns.items() if name in self._user_names()}
        users = Columns.fit(read, [n for n in read if n in self._setting.categories])
        numbers_EF, category_EC = users.read(read, int(kept_E.sum()))
        towers, self.curves = train(
            self.config,
            Items(id_I=id_I, static_IS=static_IS, category_IC=category_IC, category_sizes=items.sizes),
            Events(
                user_E=events.user_E[kept_E],
                row_E=row_E[kept_E].astype(np.int64),
                at_E=events.at_E[kept_E],
                undone_E=undone_E[kept_E],
                numbers_EF=numbers_EF,
                category_EC=category_EC,
                category_sizes=users.sizes,
            ),
            Run(name=f"fit {self._setting.name}", seed=self._setting.seed, folder=self.work, progress=self.progress),
        )
        at_I = np.append(catalog.at_M, -1)[rows_of(catalog.keys_M, keys_I)]
        shelf = shelf_of(towers, keys_I, at_I, id_I, static_IS, category_IC)
        if not self.curves.train:  # there was nothing to learn from, and chance finds nothing
            shelf, id_I = shelf.without(keys_I), id_I[:0]
        self._model = Model(
            shelf=shelf,
            id_I=id_I,
            towers=towers,
            items=items,
            users=users,
            catalog_offset=data.catalog_offset,
        )

    def grown(self, rows: CatalogTable, delta: Delta | None) -> Delta | None:
        """See core.catalog.FollowsCatalog. Of each item the row that became available last counts."""
        model = self._trained()
        # Of rows of one time the later one in the log counts; an artifact of an earlier time has the last of each.
        rows = rows.take(rows.at_M >= model.shelf.since(rows.keys_M) + (model.catalog_offset < 0))
        if delta is not None:
            rows = rows.take(rows.at_M >= delta.shelf.since(rows.keys_M))
        if not len(rows) or not len(model.shelf.keys_M):
            return delta
        row_M = rows_of(model.shelf.keys_M, rows.keys_M)
        id_M = np.where(row_M >= 0, model.id_I[row_M], 0)
        _, static_MS, category_MC = self._item_inputs(model.items, rows.keys_M, rows)
        shelf = shelf_of(model.towers, rows.keys_M, rows.at_M, id_M, static_MS, category_MC)
        replaced = row_M[row_M >= 0]
        if delta is not None:
            shelf = delta.shelf.without(rows.keys_M).with_rows(shelf)
            replaced = np.union1d(delta.replaced, replaced)
        return Delta(shelf=shelf, replaced=replaced)

    def save(self, folder: Path) -> None:
        save_model(folder, self._trained(), self.curves)
        if hasattr(self._embedder, "save"):
            self._embedder.save(folder)

    def load(self, folder: Path) -> None:
        self._model, self.curves = load_model(folder)
        if hasattr(self._embedder, "load"):
            self._embedder.load(folder)

    def _trained(self) -> Model:
        if self._model is None:
            raise NotTrained.of(self._setting.name)
        return self._model

    def _ids(self, row_E: NDArray[np.intp], n_items: int) -> Ints:
        """1, 2, ... for the items seen often enough, 0 for the others."""
        own_I = np.bincount(row_E, minlength=n_items) >= self.config.min_count
        return np.where(own_I, np.cumsum(own_I), 0).astype(np.int64)

    def _item_inputs(self, columns: Columns | None, keys_M: Keys, rows: CatalogTable) -> tuple[Columns, Matrix, Ints]:
        """(the columns' reading, fitted where there is none yet; static_MS; category_MC) of items, rows or no rows."""
        at_M = rows_of(rows.keys_M, keys_M)
        there = np.flatnonzero(at_M >= 0)
        read: dict[str, Float] = {}
        for name in self._item_names():
            read[name] = np.full(len(keys_M), np.nan)
            if name in rows.numbers:
                read[name][there] = rows.numbers[name][at_M[there]]
        if columns is None:
            columns = Columns.fit(read, [n for n in read if f"item.{n}" in self._setting.categories])
        numbers_MF, category_MC = columns.read(read, len(keys_M))
        parts = [numbers_MF]
        if self._embedder is not None:
            content_MS = np.zeros((len(keys_M), self._embedder.dim), np.float32)
            content_MS[there] = self._embedder([rows.text_M[i] for i in at_M[there]])
            parts.append(content_MS)
        return columns, np.concatenate(parts, axis=1), category_MC

    def _item_names(self) -> tuple[str, ...]:
        if self.config.item_columns is not None:
            return self.config.item_columns
        roles = {self._setting.extra.get(role) for role in ("expires_at", "available")}
        return tuple(name for name in self._setting.item_columns if name not in roles)

    def _user_names(self) -> tuple[str, ...]:
        return (*self.config.user_features, *(f"user.{name}" for name in self._user_columns))

    def _users(self, model: Model, requests: Sequence[Request]) -> tuple[Matrix, NDArray[np.bool_]]:
        """(user_BD, whether anything is known of each)."""
        n, names = len(requests), (*model.users.numbers, *model.users.categories)
        read = {name: np.array([r.side.features.get(name, np.nan) for r in requests], np.float64) for name in names}
        user_BD = model.towers.own(*model.users.read(read, n))
        known_B = np.zeros(n, np.bool_)
        if self.config.strangers:
            for value_B in read.values():
                known_B |= np.isfinite(value_B)
        for b, request in enumerate(requests):
            known_B[b] |= self._add_history(model, request, user_BD[b])
        return model.towers.unit(user_BD), known_B

    def _add_history(self, model: Model, request: Request, user_D: Matrix) -> bool:
        """Adds the user's pooled history in place; whether any item of it is known."""
        history = request.side.histories.get(self._need)
        if history is None or not len(history.keys_L):
            return False
        keys_L, at_L = history.keys_L[-self.config.history :], history.at_L[-self.config.history :]
        row_L = rows_of(model.shelf.keys_M, keys_L)
        history_LD, importance_L = model.shelf.history_MD[row_L], model.shelf.importance_M[row_L]
        known_L = row_L >= 0
        delta = self._delta(request)
        if delta is not None:
            new_L = rows_of(delta.shelf.keys_M, keys_L)
            told = new_L >= 0
            history_LD[told], importance_L[told] = (
                delta.shelf.history_MD[new_L[told]],
                delta.shelf.importance_M[new_L[told]],
            )
            known_L |= told
        if not known_L.any():
            return False
        place_L, age_L = np.zeros(len(keys_L), np.int64), np.zeros(len(keys_L), np.int64)
        if self.config.context == "past":
            place_L = places(len(keys_L), len(model.towers.weights["place"]))
            age_L = ages(request.t - at_L, len(model.towers.weights["age"]))
        user_D += model.towers.pooled(history_LD[known_L], importance_L[known_L], place_L[known_L], age_L[known_L])
        return True

    def _delta(self, request: Request) -> Delta | None:
        delta: Delta | None = request.deltas.get(self._setting.name)
        return delta

    def _best(self, model: Model, request: Request, user_D: Matrix, scores_I: Matrix) -> Retrieved:
        keys_I, delta = model.shelf.keys_M, self._delta(request)
        if delta is not None:
            scores_I[delta.replaced] = -np.inf
        banned = rows_of(keys_I, avoided(request))
        scores_I[banned[banned >= 0]] = -np.inf
        if delta is not None:
            new_M = delta.shelf.vectors_MD @ user_D
            banned = rows_of(delta.shelf.keys_M, avoided(request))
            new_M[banned[banned >= 0]] = -np.inf
            keys_I, scores_I = np.concatenate([keys_I, delta.shelf.keys_M]), np.concatenate([scores_I, new_M])
        return best_scores(keys_I, scores_I, wanted(request, self.config.k))


def _require_columns(config: TwoTower.Config, setting: Setting) -> None:
    for name in config.item_columns or ():
        if name not in setting.item_columns:
            expected = f"expected some of {', '.join(setting.item_columns)}" if setting.item_columns else "it has none"
            raise UsageError(
                f"{setting.name}.item_columns: '{name}' is no number or derived key of the item's catalog; {expected}"
            )

"""A neural ranker for several objectives: cross layers, shared experts, a gate per objective, attention to the history.

N candidates, F features, T objectives, L history positions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from feedwell.core.candidates import Candidates, Float
from feedwell.core.catalog import CatalogTable
from feedwell.core.embedding import make_embedder
from feedwell.core.errors import DataError, NotTrained, UsageError
from feedwell.core.event import CATALOG_PREFIX
from feedwell.core.needs import HistoryNeed, Need
from feedwell.core.protocols import Examples, Histories, RankingRows, Setting, fit
from feedwell.core.registry import scorer
from feedwell.core.request import History, Keys, Request
from feedwell.nn.config import LoopConfig, Progress, Run, silent
from feedwell.nn.curves import Curves
from feedwell.scorers._content import Content, Vectors
from feedwell.scorers._inputs import (
    Array,
    Fitted,
    Normaliser,
    Side,
    Transform,
    age_buckets,
    items_of_many,
    no_histories,
)
from feedwell.scorers._mmoe_model import Graphs, Model, outputs_of, read_model, targets_of, write_model
from feedwell.scorers._rows import (
    FeatureConfig,
    Vocabulary,
    chosen,
    columns_of,
    gather,
    heads,
    row_needs,
)

if TYPE_CHECKING:
    from feedwell.scorers._mmoe_training import Reading

_STATE = ("user", "keys", "values", "bias")


@scorer("mmoe")
class Mmoe:
    """p_N per objective: the probability (binary), the expected count, or the expected µs or amount, by its kind.

    MMoE (Ma et al. 2018) on DCN-V2 cross layers (Wang et al. 2021); `experts = 1` is a shared bottom. Numbers are
    normalised by fitted statistics and missing ones marked; categorical values and items have vectors, unknown ones
    one of their own; each candidate attends to the user's history. The user is encoded once per request, all
    candidates against it: two ONNX graphs, on one thread, which the artifact holds only if they compute what the
    trained network computes. Objectives `given` another learn where that one happened. A label below 0 makes its
    objective's loss squared; else counts, durations and amounts have the Poisson likelihood.
    """

    examples: ClassVar[Examples] = (
        {"epochs": 2, "expert_layers": (8,), "experts": 2, "history": 5},
        {
            "epochs": 1,
            "expert_layers": (4,),
            "experts": 1,
            "history": 0,
            "features": ("f0", "key", "user_age"),
            "categorical": ("key",),
            "transform": "log",
            "loss_weights": {"click": 2.0},
        },
    )

    class Config(FeatureConfig, LoopConfig):
        categorical: tuple[str, ...] = fit(())
        """Features whose numbers are keys, beside the catalog columns that entities derive from."""
        max_categories: int = fit(1000, ge=1, le=1_000_000)
        transform: Transform = fit("quantile")
        """How numbers are normalised: by their ranks, or by their logarithm."""
        history: int = fit(50, ge=0, le=512)
        """The last so many events of the user; 0: none."""
        history_events: tuple[str, ...] = fit(())
        """Default: every type but undoing ones."""
        embed: str = fit("")
        """The embedder of the items' `text` columns, so that an item is known by what it says; "" for none."""
        item_min_users: int = fit(20, ge=1)
        """Items that fewer people were shown or had in their history share the unknown item's vector."""
        embedding_dim: int = fit(16, ge=1, le=1024)
        category_dim: int = fit(8, ge=1, le=1024)
        user_dim: int = fit(32, ge=1, le=4096)
        cross_layers: int = fit(2, ge=0, le=16)
        experts: int = fit(4, ge=1, le=256)
        expert_layers: tuple[int, ...] = fit((128, 64), min_length=1)
        dropout: float = fit(0.1, ge=0, lt=1)
        unknown_share: float = fit(0.05, ge=0, lt=1)
        """So often training takes an item or a category for an unknown one."""
        loss_weights: Mapping[str, float] = fit(default_factory=dict)
        """objective → weight of its loss; default 1."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._setting = setting
        self.progress: Progress = silent
        self.work: Path | None = None
        """Where a fit keeps its checkpoints, and data too large for memory."""
        self._model: Model | None = None
        self._events = config.history_events or _event_types(setting)
        self._history = HistoryNeed(self._events, max(1, config.history))
        if config.embed and not setting.item_text:
            raise UsageError(f"{setting.name}.embed = '{config.embed}', but [entity.item] declares no `text` columns")
        self._embedder: Any = make_embedder(setting, config.embed) if config.embed else None

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the fitted network reads; before `fit` or `load`, what the configuration names."""
        names = self.config.features if self._model is None else self._model.names
        return (*row_needs(names), *((self._history,) if self._reads_history else ()))

    @property
    def curves(self) -> Curves:
        """How training went, epoch by epoch."""
        return self._trained().curves

    @property
    def follows(self) -> bool:
        """Whether it is told of catalog rows that came after its artifact."""
        return self._embedder is not None

    @property
    def catalog_offset(self) -> int:
        return -1 if self._model is None or self._model.content is None else self._model.content.offset

    def __call__(self, request: Request, candidates: Candidates) -> Mapping[str, Float]:
        if not len(candidates):
            return {output.name: np.empty(0) for output in self._trained().outputs}
        return self.score(self.encode_user(request), request, candidates)

    def encode_user(self, request: Request) -> dict[str, Array]:
        """What is computed once per request: the user's vector and the history's keys, values and bias."""
        model = self._trained()
        names = model.inputs.user.names
        x_1F = np.array([request.side.features.get(name, np.nan) for name in names], np.float32).reshape(1, -1)
        history = request.side.histories.get(self._history) if self._reads_history else None
        return self._encoded(model, x_1F, history, request.t)

    def score(self, state: Mapping[str, Array], request: Request, candidates: Candidates) -> dict[str, Float]:
        """p_N per objective of candidates for an encoded user."""
        model = self._trained()
        x_NF = gather(request, candidates, model.inputs.item.names)
        return self._scored(model, state, x_NF, candidates.keys_N, request.deltas.get(self._setting.name))

    def predict(self, rows: RankingRows) -> Mapping[str, Float]:
        model = self._trained()
        if not len(rows):
            return {output.name: np.empty(0) for output in model.outputs}
        if model.network is not None:
            from feedwell.scorers._mmoe_training import score_rows

            reading = replace(self._reading(rows, model.inputs, model.content), delta=self._delta(rows))
            columns = reading.columns(rows)
            return model.linked(score_rows(model.network, columns))
        return self._predict_by_request(model, rows)

    def fit(self, rows: RankingRows) -> None:
        from feedwell.scorers._mmoe_network import Architecture, Network, TorchEngine
        from feedwell.scorers._mmoe_training import sample, train

        rows = self._known_rows(rows)
        made = heads(rows, self._setting)
        inputs, content = self._fit_inputs(rows), self._fit_content(rows)
        targets = targets_of(made, len(rows), self.config.loss_weights)
        columns = self._reading(rows, inputs, content).columns(rows)
        architecture = Architecture(**{name: getattr(self.config, name) for name in Architecture.__dataclass_fields__})
        sizes = replace(inputs.sizes(len(self._events), len(made)), content=content.width if content else 0)
        name = f"fit {self._setting.name}"
        run = Run(name=name, seed=self._setting.seed, folder=self.work, progress=self.progress)
        network, curves = train(columns, targets, rows, lambda: Network(sizes, architecture), self.config, run)
        self._model = Model(
            names=tuple(n for n in rows.feature_names if n in (*inputs.user.names, *inputs.item.names)),
            inputs=inputs,
            outputs=outputs_of(made, targets),
            engine=TorchEngine(network),
            curves=curves,
            content=content,
            network=network,
            sample=sample(columns),
        )

    def grown(self, rows: CatalogTable, delta: Vectors | None) -> Vectors | None:
        """See core.catalog.FollowsCatalog: the vectors of what items say now."""
        content = self._trained().content
        return delta if content is None else content.grown(rows, delta, self._embedder)

    def save(self, folder: Path) -> None:
        """Writes the artifact. CheckFailed: ONNX Runtime and torch differ."""
        model = self._trained()
        if model.network is not None:
            from feedwell.scorers._mmoe_training import export

            engine = Graphs(*export(model.network, model.sample))
            model = self._model = replace(model, engine=engine, network=None, sample=None)
        assert isinstance(model.engine, Graphs)
        write_model(model, model.engine, self._events, folder)
        if hasattr(self._embedder, "save"):
            self._embedder.save(folder)

    def load(self, folder: Path) -> None:
        self._model = read_model(folder)
        if hasattr(self._embedder, "load"):
            self._embedder.load(folder)

    @property
    def _reads_history(self) -> bool:
        return self.config.history > 0

    def _trained(self) -> Model:
        if self._model is None:
            raise NotTrained.of(self._setting.name)
        return self._model

    def _encoded(self, model: Model, x_1F: Array, history: History | None, t: int) -> dict[str, Array]:
        numbers, rows = model.inputs.read(model.inputs.user, x_1F)
        read = {name: np.full((1, self._history.n), -1, np.int64) for name in ("history", "types", "ages")}
        if history is not None and len(history.keys_L):
            last = slice(-self._history.n, None)
            n = len(history.keys_L[last])
            read["history"][0, :n] = model.inputs.item_rows(history.keys_L[last])
            read["types"][0, :n] = history.type_L[last]
            read["ages"][0, :n] = age_buckets(t - history.at_L[last])
        return dict(zip(_STATE, model.engine.encode_user(user_numbers=numbers, user_rows=rows, **read), strict=True))

    def _scored(
        self, model: Model, state: Mapping[str, Array], x_NF: Array, keys_N: Keys, delta: Vectors | None
    ) -> dict[str, Float]:
        numbers, rows = model.inputs.read(model.inputs.item, x_NF)
        given: dict[str, Array] = {"item_numbers": numbers, "item_rows": rows, "item": model.inputs.item_rows(keys_N)}
        if model.content is not None:
            given["content"] = model.content.read(keys_N, delta)
        return model.linked(model.engine.score(**state, **given))

    def _predict_by_request(self, model: Model, rows: RankingRows) -> dict[str, Float]:
        """As serving does: each request's user once, then its candidates."""
        found = {output.name: np.empty(len(rows)) for output in model.outputs}
        histories = self._histories(rows)
        user_NF, item_NF = (columns_of(rows, side.names) for side in (model.inputs.user, model.inputs.item))
        delta = self._delta(rows)
        order = np.argsort(rows.group_N, kind="stable")
        for at_n in np.split(order, np.flatnonzero(np.diff(rows.group_N[order])) + 1):
            first = int(at_n[0])
            inside = slice(*histories.indptr_R[rows.group_N[first] :][:2])
            history = History(
                keys_L=histories.keys_E[inside], at_L=histories.at_E[inside], type_L=histories.type_E[inside]
            )
            state = self._encoded(model, user_NF[first : first + 1], history, int(rows.t_N[first]))
            for name, p_n in self._scored(model, state, item_NF[at_n], rows.item_N[at_n], delta).items():
                found[name][at_n] = p_n
        return found

    def _known_rows(self, rows: RankingRows) -> RankingRows:
        """DataError where the rows do not say whose, what and when they are, or lack the history."""
        unsaid = not (len(rows.user_N) and len(rows.item_N))
        absent = unsaid or (self._reads_history and self._history not in rows.histories)
        if absent and len(rows):
            raise DataError(
                f"fitting '{self._setting.name}': the ranking rows carry no user_N, item_N, t_N or history of "
                f"{self._history.events}; make them with the part's `needs`, or set history = 0"
            )
        return rows

    def _histories(self, rows: RankingRows) -> Histories:
        if self._reads_history:
            return rows.histories[self._history]
        return no_histories(int(rows.group_N.max(initial=-1)) + 1)

    def _reading(self, rows: RankingRows, inputs: Fitted, content: Content | None) -> Reading:
        from feedwell.scorers._mmoe_training import Reading

        return Reading(
            inputs=inputs,
            histories=self._histories(rows),
            length=self._history.n,
            content=content,
            folder=self.work,
        )

    def _delta(self, rows: RankingRows) -> Vectors | None:
        """Of items whose rows are newer than the artifact's, as a request with these rows would have them."""
        items, content = rows.items.table, self._trained().content
        if content is None:
            return None
        return content.grown(items.take(items.at_M > content.vectors.since(items.keys_M)), None, self._embedder)

    def _fit_content(self, rows: RankingRows) -> Content | None:
        if self._embedder is None:
            return None
        if not len(rows.items.table):
            raise DataError(
                f"fitting '{self._setting.name}': embed = '{self.config.embed}', but no item has a catalog row; load "
                'the catalog, or set embed = ""'
            )
        if hasattr(self._embedder, "fit"):
            self._embedder.fit(rows.items.table.text_M)
        return Content.fit(rows.items, self._embedder)

    def _fit_inputs(self, rows: RankingRows) -> Fitted:
        """Statistics of the rows that are trained on; the held-back ones are as new as a request."""
        learned = rows.take(~rows.valid_N) if not rows.valid_N.all() else rows
        keys = {*self.config.categorical, *(n for n in self._setting.categories if n in rows.feature_names)}
        names, x_NF = chosen(learned, self.config.features, self.config.categorical)
        categorical = [name for name in names if name in keys]
        vocabulary = Vocabulary.fit(x_NF, names, categorical, self.config.max_categories)

        def side(own: list[str]) -> Side:
            numbers = [name for name in own if name not in keys]
            x = columns_of(learned, numbers)
            return Side(
                numbers=Normaliser.fit(x, numbers, self.config.transform),
                categorical=tuple(name for name in own if name in keys),
            )

        return Fitted(
            user=side([name for name in names if name in rows.user_features]),
            item=side([name for name in names if name not in rows.user_features]),
            vocabulary=vocabulary,
            items_I=items_of_many(learned, self._histories(learned), self.config.item_min_users),
        )


def _event_types(setting: Setting) -> tuple[str, ...]:
    undoing = set(setting.undone_by.values())
    return tuple(e for e in setting.event_types if e not in undoing and not e.startswith(CATALOG_PREFIX))

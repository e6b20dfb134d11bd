"""What each kind of part must offer. Conformance tests are generated from the registry.

A part is a class with a nested `Config` (each key marked `fit` or `serve`), made as `Part(config, setting)`. One that
learns has `fit`, `save(folder)`, `load(folder)`; used before either, it raises NotTrained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydantic import Field as _Field

from feedwell.core.candidates import Candidates, Float, Retrieved
from feedwell.core.catalog import CatalogAsOf, CatalogTable
from feedwell.core.needs import HistoryNeed, Need
from feedwell.core.request import NO_KEYS, Keys, Request


class PartConfig(BaseModel):
    """Base of every part's `Config`: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def fit(default: Any = ..., **rules: Any) -> Any:
    """A config key that training bakes in: changing it needs a new artifact."""
    return _Field(default, json_schema_extra={"when": "fit"}, **rules)


def serve(default: Any = ..., **rules: Any) -> Any:
    """A config key that serving reads: changing it publishes over the same artifacts."""
    return _Field(default, json_schema_extra={"when": "serve"}, **rules)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a part knows about the project around it, as names and numbers; never a store."""

    name: str
    seed: int = 0
    event_types: tuple[str, ...] = ()
    undone_by: Mapping[str, str] = field(default_factory=dict)
    objectives: Mapping[str, Any] = field(default_factory=dict)
    """objective name → core.project.ObjectiveConfig"""
    item_columns: tuple[str, ...] = ()
    group: str | None = None
    item_text: tuple[str, ...] = ()
    """The item's columns that are content, as `[entity.item] text` names them."""
    user_columns: tuple[str, ...] = ()
    """The user's catalog columns that are numbers, and those that are keys of a derived entity."""
    categories: frozenset[str] = frozenset()
    """Which of these, as "item.category", are keys: equal or not, but neither more nor less."""
    embedders: Mapping[str, Any] = field(default_factory=dict)
    """`[embedder.<name>]`: name → core.project.PartSection; `core.embedding.make_embedder` makes one."""
    modules: tuple[str, ...] | None = None
    """The project's own files, for `core.registry.find`; None: every one that was loaded."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Roles of the item's catalog columns: `created_at`, `expires_at`, `available` → column, where declared."""


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Events to fit on, in log order, as columns over E: keys, `at_E` (available_at), `type_E` (index into `types`).

    `undone_E` marks events whose relation a later event in the same data took back. `until` is exclusive.
    `catalog` has each entity's rows as of `until`, and `user_columns` what a request would have read of the user as of
    each event (feature or "user.<column>" → value_E): both only where a part that is fitted asks for them.
    `catalog_offset`: up to where the log's catalog rows are in `catalog`; -1: not known.
    """

    user_E: Keys
    item_E: Keys
    at_E: Keys
    type_E: NDArray[np.int16]
    types: tuple[str, ...]
    value_E: Float | None = None
    undone_E: NDArray[np.bool_] | None = None
    until: int = 0
    catalog: Mapping[str, CatalogTable] = field(default_factory=dict)
    catalog_offset: int = -1
    user_columns: Mapping[str, Float] = field(default_factory=dict)

    def of(self, events: Sequence[str]) -> Interactions:
        """Only the events of those types that name a user and an item; no types given means all."""
        wanted = [i for i, name in enumerate(self.types) if not events or name in events]
        keep = np.isin(self.type_E, wanted) & (self.user_E >= 0) & (self.item_E >= 0)
        return replace(
            self,
            user_E=self.user_E[keep],
            item_E=self.item_E[keep],
            at_E=self.at_E[keep],
            type_E=self.type_E[keep],
            value_E=None if self.value_E is None else self.value_E[keep],
            undone_E=None if self.undone_E is None else self.undone_E[keep],
            user_columns={name: value_E[keep] for name, value_E in self.user_columns.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Histories:
    """Histories of R requests as one list: request r's is `indptr_R[r]` to `indptr_R[r + 1]`, oldest first."""

    indptr_R: Keys
    keys_E: Keys
    at_E: Keys
    type_E: NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class RankingRows:
    """Rows of a ranker: `features_NF` float32 (NaN = missing), `labels` objective → y_N (NaN: window not closed or not
    defined), `group_N` the row's request (0 to R - 1), `weight_N`, `valid_N` rows kept back for early stopping,
    not learned from.

    `user_N`, `item_N` and `t_N` say whose, what and when (µs); `histories` what each request's user had done by then,
    exactly as serving would have read it at t. Empty: whoever made the rows does not know. `user_features` are those
    of `feature_names` that are read once for the requester, alike in all rows of a request.
    `predictions`: objective → the fitted ranker's p_N, for what is fitted on top of it. `items`: the catalog as of the
    rows' end, where a ranker asks for it.
    """

    features_NF: NDArray[np.float32]
    feature_names: tuple[str, ...]
    labels: Mapping[str, Float]
    group_N: Keys
    weight_N: Float
    valid_N: NDArray[np.bool_]
    predictions: Mapping[str, Float] = field(default_factory=dict)
    user_N: Keys = field(default_factory=lambda: NO_KEYS)
    item_N: Keys = field(default_factory=lambda: NO_KEYS)
    t_N: Keys = field(default_factory=lambda: NO_KEYS)
    histories: Mapping[HistoryNeed, Histories] = field(default_factory=dict)
    user_features: tuple[str, ...] = ()
    items: CatalogAsOf = field(default_factory=CatalogAsOf)

    def __len__(self) -> int:
        return len(self.features_NF)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> RankingRows:
        """Those rows only, in that order; histories are shared."""
        names = ("features_NF", "group_N", "weight_N", "valid_N", "user_N", "item_N", "t_N")
        columns = {name: getattr(self, name) for name in names}
        taken: dict[str, Any] = {name: c[rows] if len(c) else c for name, c in columns.items()}
        taken |= {kind: {k: c[rows] for k, c in getattr(self, kind).items()} for kind in ("labels", "predictions")}
        return replace(self, **taken)


Examples = tuple[Mapping[str, Any], ...]
"""A part's attribute `examples`: configurations that the conformance tests run it with; default: one with no key."""


class Part(Protocol):
    def __init__(self, config: Any, setting: Setting) -> None: ...
    @property
    def needs(self) -> tuple[Need, ...]: ...


@runtime_checkable
class Source(Protocol):
    """Request → Retrieved. `remote = True` on the class lets the runner call it concurrently, with a time-out."""

    config: Any

    @property
    def needs(self) -> tuple[Need, ...]: ...
    def __call__(self, request: Request) -> Retrieved: ...


@runtime_checkable
class Filter(Protocol):
    """(Request, Candidates) → keep_N; its name is the reason.

    A filter on the requester's own relations also offers `skips(request) -> Keys`, sorted: what it would drop whatever
    is retrieved. The runner passes it on as `Request.skip`, so that sources spend their k on other objects.
    """

    @property
    def needs(self) -> tuple[Need, ...]: ...
    def __call__(self, request: Request, candidates: Candidates) -> NDArray[np.bool_]: ...


@runtime_checkable
class Scorer(Protocol):
    """(Request, Candidates) → new columns: an objective's name → p_N, or "value" → value_N."""

    @property
    def needs(self) -> tuple[Need, ...]: ...
    def __call__(self, request: Request, candidates: Candidates) -> Mapping[str, Float]: ...


class Ranker(Scorer, Protocol):
    """A scorer with a model, fitted on rows; `predict` gives each row what a request with it would have been given."""

    def fit(self, rows: RankingRows) -> None: ...
    def predict(self, rows: RankingRows) -> Mapping[str, Float]: ...


class SlateStep(Protocol):
    """One slate under construction."""

    relaxed: Sequence[str]

    def utilities(self) -> Float:
        """u_N given what was chosen: -inf infeasible (or already chosen), NaN not scored."""
        ...

    def choose(self, row: int) -> None: ...


@runtime_checkable
class SlatePolicy(Protocol):
    @property
    def needs(self) -> tuple[Need, ...]: ...
    def begin(self, request: Request, candidates: Candidates, shown: Candidates | None = None) -> SlateStep:
        """A slate under construction; `shown`: the rows of `request.prefix`, in its order, for caps and diversity."""
        ...


When = Literal["fit", "serve"]


def learns(part: Any) -> bool:
    """Whether the part must be fitted or loaded before it is called; a class may say so by an attribute `learns`."""
    return bool(getattr(part, "learns", hasattr(part, "fit")))

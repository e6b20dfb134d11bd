"""Slate: the answer, slot by slot, with the exact propensity of each choice; SlateRecord: what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float


@dataclass(frozen=True, kw_only=True)
class Explore:
    """Slots `first`..`last` (counted from 1, both included) draw from the `pool` best feasible candidates."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    first: int = 1
    last: int = 0
    pool: int = 50
    temperature: float = 0.2
    epsilon: float = 0.05

    def __post_init__(self) -> None:
        if self.first < 1 or self.pool < 1:
            raise ValueError(
                f"explore: first = {self.first}, pool = {self.pool}: expected 1 or more; slots count from 1"
            )
        if not (0 < self.temperature < float("inf") and 0 <= self.epsilon <= 1):
            given = f"temperature = {self.temperature}, epsilon = {self.epsilon}"
            raise ValueError(f"explore: {given}: expected a temperature above 0 and an epsilon from 0 to 1")

    def covers(self, slot: int) -> bool:
        return self.first <= slot <= self.last


NO_EXPLORATION = Explore()


@dataclass(frozen=True, kw_only=True)
class Slate:
    """`rows_n` index the candidates; `utility_n` and `propensity_n` belong to each slot's choice, given the prefix.

    `short` says why fewer than asked were chosen ("" when none is missing), `relaxed` which caps gave way, in order,
    `unscored` that a slot was filled in retrieval order because every feasible utility was NaN.
    """

    rows_n: NDArray[np.intp]
    utility_n: Float
    propensity_n: Float
    short: str = ""
    relaxed: tuple[str, ...] = ()
    unscored: bool = False


@dataclass(frozen=True, kw_only=True)
class SlateRecord:
    """One row per answer, written before the answer leaves; lists run over the slots.

    `epoch`, `state_offset` (the projector's) and `tail_offset` (the request's own user's) say exactly which events the
    features saw; `features` are float32 as scored; `counts` is the exact accounting of where every candidate went;
    `catalog_offset` is up to where parts had followed the catalog beyond their artifacts (-1: none does);
    `widths` says which sources answered, each at which share of its k; `draws` holds what each slot was drawn from;
    `among` are the candidates that the caller brought (None: the sources were asked), `ignored_filters` what it waived;
    `shown` False: ranked for a caller who shows it later or never, so that its slots are no exposures.
    """

    request_id: str
    user: int
    user_id: str
    t: int
    surface: str
    n: int
    release_id: str
    project_digest: str
    epoch: int
    state_offset: int
    tail_offset: int
    seed: int
    width: float
    keys: list[int]
    utility: list[float]
    propensity: list[float]
    sources: list[int]
    source_names: list[str]
    predictions: dict[str, list[float]] = field(default_factory=dict)
    feature_names: list[str] = field(default_factory=list)
    features: list[list[float]] = field(default_factory=list)
    user_features: dict[str, float] = field(default_factory=dict)
    assignments: dict[str, str] = field(default_factory=dict)
    degraded: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    widths: dict[str, float] = field(default_factory=dict)
    draws: list[dict[str, Any]] = field(default_factory=list)
    explore: dict[str, float] = field(default_factory=dict)
    exclude: list[int] = field(default_factory=list)
    prefix: list[int] = field(default_factory=list)
    among: list[int] | None = None
    ignored_filters: list[str] = field(default_factory=list)
    shown: bool = True
    short: str = ""
    relaxed: list[str] = field(default_factory=list)
    fallback: str = ""
    stage_ms: dict[str, float] = field(default_factory=dict)
    traced: bool = False
    catalog_offset: int = -1
    schema_version: int = 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> SlateRecord:
        """Back from `to_dict`; keys that a newer version added are left out."""
        known = SlateRecord.__dataclass_fields__
        return SlateRecord(**{k: v for k, v in row.items() if k in known})

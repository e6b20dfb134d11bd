"""Nothing past its time: drops what has expired, is too old, or is marked as not available."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Candidates
from feedwell.core.durations import Duration
from feedwell.core.needs import ColumnNeed, Need
from feedwell.core.protocols import Examples, PartConfig, Setting, serve
from feedwell.core.registry import filter
from feedwell.core.request import Request


@filter("expired")
class Expired:
    """Keeps what has `expires_at` after t, is at most `max_age` old and is not `available = false`.

    A rule is off where its column is neither declared on the entity nor named here; an item without a value passes.
    """

    examples: ClassVar[Examples] = ({}, {"max_age": "30d", "available": "in_stock"})

    class Config(PartConfig):
        expires_at: str | None = serve(None)
        """Catalog column of the item, time; default: the one that `[entity.item] expires_at` names."""
        available: str | None = serve(None)
        """Catalog column of the item, boolean; default: `[entity.item] available`."""
        max_age: Duration | None = serve(None)
        created_at: str | None = serve(None)
        """Catalog column of the item, time, that `max_age` counts from; default: `[entity.item] created_at`."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._expires_at = config.expires_at or setting.extra.get("expires_at")
        self._available = config.available or setting.extra.get("available")
        created_at = config.created_at or setting.extra.get("created_at") or "created_at"
        self._created_at = created_at if config.max_age is not None else None

    @property
    def needs(self) -> tuple[Need, ...]:
        columns = (self._expires_at, self._available, self._created_at)
        return tuple(ColumnNeed("item", column) for column in columns if column)

    def __call__(self, request: Request, candidates: Candidates) -> NDArray[np.bool_]:
        keep_N = np.ones(len(candidates), np.bool_)
        # Written so that NaN, "not known", passes every comparison.
        if self._expires_at:
            keep_N &= ~(candidates.column(f"item.{self._expires_at}") <= request.t)
        if self._available:
            keep_N &= ~(candidates.column(f"item.{self._available}") == 0)
        if self._created_at:
            keep_N &= ~(request.t - candidates.column(f"item.{self._created_at}") > (self.config.max_age or 0))
        return keep_N

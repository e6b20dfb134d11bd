"""Nothing the user has turned away: drops hidden items and the items of blocked creators."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Candidates
from feedwell.core.keys import contains
from feedwell.core.needs import ColumnNeed, Need, ObjectsNeed
from feedwell.core.protocols import Examples, PartConfig, Setting, serve
from feedwell.core.registry import filter
from feedwell.core.request import NO_KEYS, Keys, Request

ITEM = "item"


@filter("blocked")
class Blocked:
    """Keeps what the user stands in none of the relations `events` to; an undone block no longer counts.

    With `object` another entity ("creator"), an item goes whose `column` holds the key of a blocked one; an item
    without a value there stays.
    """

    examples: ClassVar[Examples] = (
        {"events": ("hide",)},
        {"events": ("block",), "object": "creator"},
        {"events": ("block",), "object": "merchant", "column": "merchant"},
    )

    class Config(PartConfig):
        events: tuple[str, ...] = serve(..., min_length=1)
        object: str = serve(ITEM)
        column: str | None = serve(None)
        """The item's catalog column with the object's key; default: the declared `group`, else the object's name."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._need = ObjectsNeed(config.events, object=config.object)
        self._column = config.column or setting.group or config.object
        self._by_group = self._column == setting.group

    @property
    def needs(self) -> tuple[Need, ...]:
        if self.config.object == ITEM or self._by_group:
            return (self._need,)
        return self._need, ColumnNeed(ITEM, self._column)

    def skips(self, request: Request) -> Keys:
        return self._blocked(request) if self.config.object == ITEM else NO_KEYS

    def __call__(self, request: Request, candidates: Candidates) -> NDArray[np.bool_]:
        return ~contains(self._blocked(request), self._objects(candidates))

    def _blocked(self, request: Request) -> Keys:
        return request.side.objects.get(self._need, NO_KEYS)

    def _objects(self, candidates: Candidates) -> Keys:
        if self.config.object == ITEM:
            return candidates.keys_N
        if self._by_group:
            return candidates.group_N
        value_N = candidates.column(f"{ITEM}.{self._column}")
        return np.where(np.isnan(value_N), -1, np.nan_to_num(value_N)).astype(np.int64)

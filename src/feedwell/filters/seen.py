"""Nothing twice: drops what the user already viewed, liked, bought ..., by declared events."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Candidates
from feedwell.core.keys import contains
from feedwell.core.needs import Need, ObjectsNeed
from feedwell.core.protocols import Examples, PartConfig, Setting, serve
from feedwell.core.registry import filter
from feedwell.core.request import NO_KEYS, Keys, Request


@filter("seen")
class Seen:
    """Keeps what the user stands in none of the relations `events` to; an undone event no longer counts.

    Which events is a choice about the outcome: with views in the list nobody is offered again what they looked at, and
    on shop data that removes most of what they go on to buy.
    """

    examples: ClassVar[Examples] = ({"events": ("view", "like")},)

    class Config(PartConfig):
        events: tuple[str, ...] = serve(..., min_length=1)

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._need = ObjectsNeed(config.events)

    @property
    def needs(self) -> tuple[Need, ...]:
        return (self._need,)

    def skips(self, request: Request) -> Keys:
        return request.side.objects.get(self._need, NO_KEYS)

    def __call__(self, request: Request, candidates: Candidates) -> NDArray[np.bool_]:
        return ~contains(self.skips(request), candidates.keys_N)

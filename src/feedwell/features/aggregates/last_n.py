"""last_n: the user's last `n` objects with times and types, in log order: a sequence, not a number. No event: empty."""

from __future__ import annotations

from pydantic import Field

from feedwell.core.needs import HistoryNeed
from feedwell.core.protocols import PartConfig
from feedwell.core.registry import aggregate
from feedwell.features.aggregate import Aggregate
from feedwell.features.measures import Measure


@aggregate("last_n")
class LastN(Aggregate):
    class Config(PartConfig):
        n: int = Field(100, ge=1, le=512)
        object: str = "item"

    def check(self) -> None:
        if self.declared.entities != ("user",):
            raise ValueError('last_n is a user\'s sequence: entity = "user"')
        if self.declared.selection.where:
            raise ValueError("last_n takes no `where`")

    def history(self) -> HistoryNeed:
        return HistoryNeed(events=self.declared.selection.events, n=self.config.n, object=self.config.object)

    def measures(self, window: int | None) -> tuple[Measure, ...]:
        return ()

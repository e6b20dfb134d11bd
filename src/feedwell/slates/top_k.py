"""The best by value, within the caps."""

from __future__ import annotations

from typing import ClassVar

from feedwell.core.candidates import Candidates
from feedwell.core.needs import Need
from feedwell.core.protocols import Examples, Setting, SlateStep
from feedwell.core.registry import slate
from feedwell.core.request import Request
from feedwell.slates._step import CappedStep, StepConfig, column_needs, freshness_bonus, shown_rows, standardised


@slate("top_k")
class TopK:
    """u_N = value_N; with `freshness_half_life`, the standardised value plus the bonus. Capped groups are -inf."""

    examples: ClassVar[Examples] = (
        {},
        {"cap": {"per_group": 1}, "relax": ("cap",)},
        {"cap": ({"per_group": 1, "window": 2}, {"name": "few", "per_group": 3}), "freshness_half_life": "12h"},
    )

    class Config(StepConfig):
        pass

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._setting = setting

    @property
    def needs(self) -> tuple[Need, ...]:
        return column_needs(self.config, self._setting)

    def begin(self, request: Request, candidates: Candidates, shown: Candidates | None = None) -> SlateStep:
        u_N = candidates.value_N
        if self.config.freshness_half_life is not None:
            bonus_N = freshness_bonus(self.config, self._setting, request, candidates)
            u_N = standardised(u_N, candidates.alive_N) + bonus_N
        return CappedStep(self.config, candidates, shown_rows(request, candidates, shown), u_N.copy)

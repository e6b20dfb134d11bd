"""What an item is worth: the objectives' predictions, weighed at serving time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from feedwell.core.candidates import Candidates, Float
from feedwell.core.errors import UsageError
from feedwell.core.needs import Need
from feedwell.core.protocols import Examples, PartConfig, Setting, serve
from feedwell.core.registry import scorer
from feedwell.core.request import Request

VALUE = "value"


@scorer("value")
class Value:
    """value_N = Σ weight × (±1 by direction) × p over the objectives; NaN where a prediction that it needs is NaN.

    An objective declared `given` another is predicted conditionally, so it is multiplied up the chain:
    p(buy) = p(buy | click) p(click). An objective of weight 0 is not needed. A ranker that has no column for a needed
    objective leaves every value NaN: a missing score never becomes 0.
    """

    examples: ClassVar[Examples] = ({}, {"weights": {"click": 2.0, "dwell": 0.0}})

    class Config(PartConfig):
        weights: Mapping[str, float] = serve(default_factory=dict)
        """objective → weight in place of the objective's own; an arm or a surface overlays it."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        unknown = sorted(set(config.weights) - set(setting.objectives))
        if unknown:
            known = ", ".join(setting.objectives) or "none"
            raise UsageError(f"value.weights: no objective is called '{unknown[0]}'; there are {known}")
        self._chains = {name: _chain(name, setting.objectives) for name in setting.objectives}
        self._weights = {
            name: (1.0 if objective.direction == "up" else -1.0) * config.weights.get(name, objective.weight)
            for name, objective in setting.objectives.items()
        }

    @property
    def needs(self) -> tuple[Need, ...]:
        return ()

    def __call__(self, request: Request, candidates: Candidates) -> Mapping[str, Float]:
        missing = np.full(len(candidates), np.nan)
        value_N = np.zeros(len(candidates))
        needed = [name for name, weight in self._weights.items() if weight]
        if not needed:
            return {VALUE: missing}
        for name in needed:
            p_N = np.ones(len(candidates))
            for link in self._chains[name]:
                p_N = p_N * candidates.predictions.get(link, missing)
            value_N = value_N + self._weights[name] * p_N
        return {VALUE: value_N}


def _chain(name: str, objectives: Mapping[str, object]) -> tuple[str, ...]:
    """The objective, what it is given, what that is given ...; UsageError on a circle or an unknown name."""
    links: list[str] = []
    at: str | None = name
    while at is not None:
        if at in links:
            raise UsageError(f"objective.{name}: `given` runs in a circle: {' → '.join([*links, at])}")
        if at not in objectives:
            raise UsageError(f"objective.{links[-1]}: given = '{at}', but no objective is called so")
        links.append(at)
        at = getattr(objectives[at], "given", None)
    return tuple(links)

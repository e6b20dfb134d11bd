"""What every part must hold, generated from the registry: one list of checks per kind, run on each of its examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from feedwell.core import registry
from feedwell.core.protocols import Examples
from feedwell.testing.conformance import any_kind, embedders, scoring, slates, sources

COMMON = any_kind.CHECKS
OF_KIND = {
    "source": sources.CHECKS,
    "filter": scoring.FILTER_CHECKS,
    "scorer": scoring.SCORER_CHECKS,
    "embedder": embedders.CHECKS,
    "slate": slates.CHECKS,
}


@dataclass(frozen=True)
class Check:
    """One thing that must hold of one part in one configuration; called, it raises AssertionError where it does not."""

    part: Any
    options: Mapping[str, Any]
    holds: Callable[[Any, Mapping[str, Any]], None]

    def __call__(self) -> None:
        self.holds(self.part, self.options)

    def __str__(self) -> str:
        options = ",".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.part.name}({options})-{self.holds.__name__.strip('_')}"


def checks(kind: str, name: str) -> list[Check]:
    """The checks of the part filed under that kind and name."""
    part: Any = registry.find(kind, name)
    listed = COMMON + OF_KIND[kind]
    examples: Examples = getattr(part, "examples", ({},))
    return [Check(part, options, holds) for options in examples for holds in listed]

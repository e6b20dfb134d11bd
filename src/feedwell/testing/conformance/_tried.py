"""A part of the sample world: made, fitted, asked, and two of its answers compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Retrieved
from feedwell.core.protocols import learns
from feedwell.testing import sample

SEEDS = range(6)
_FIT_ON: Mapping[str, Callable[[Any], Any]] = {
    "source": lambda _: sample.interactions(),
    "scorer": sample.ranking_rows,
    "embedder": lambda _: sample.texts(),
}
"""kind → (its needs →) what such a part learns from in the sample world."""


def needs_of(made: Any) -> Any:
    return getattr(made, "needs", ())


def made_of(part: Any, options: Mapping[str, Any]) -> Any:
    return part(part.Config(**options), sample.setting(part.name))


def trained(part: Any, options: Mapping[str, Any]) -> Any:
    made = made_of(part, options)
    if learns(made):
        made.fit(_FIT_ON[part.kind](needs_of(made)))
    return made


def answer(made: Any, seed: int) -> Any:
    """What the part answers in the sample world."""
    if made.kind == "embedder":
        return made(sample.texts(seed))
    request = sample.request(made.needs, seed)
    if made.kind == "source":
        return made(request)
    rows = sample.candidates(seed, needs=made.needs)
    if made.kind == "slate":
        step = made.begin(request, rows)
        return step.utilities()
    return made(request, rows)


def ensure_same(a: Any, b: Any, when: str) -> None:
    """Equal answers. Scores may differ in the last bits, and keys only where their scores are as near as that."""
    if isinstance(a, Retrieved):
        message = f"{when}: {a} is not {b}"
        ensure(a.keys_N.shape == b.keys_N.shape and near(a.scores_N, b.scores_N), message)
        scores = dict(zip(a.keys_N.tolist(), a.scores_N, strict=True))
        moved = a.keys_N != b.keys_N
        is_near = [
            abs(scores.get(int(k), s) - s) <= 1e-5 * max(1.0, abs(s))
            for k, s in zip(b.keys_N[moved], b.scores_N[moved], strict=True)
        ]
        ensure(all(is_near), message)
        return
    columns = (a, b) if isinstance(a, Mapping) else ({"": a}, {"": b})
    ensure(list(columns[0]) == list(columns[1]), f"{when}: other columns")
    for name, column in columns[0].items():
        ensure(
            np.array_equal(column, columns[1][name], equal_nan=column.dtype.kind == "f"),
            f"{when}: column '{name}' differs",
        )


def near(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> bool:
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True))


def ensure(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)

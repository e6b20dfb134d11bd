"""What holds of embedders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.protocols import learns
from feedwell.testing import sample
from feedwell.testing.conformance._tried import ensure, made_of, near, trained


def _embeds_as_rows_of_length_one(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    for texts in (sample.texts(), ["", "!?", "nosuchwordanywhere"], []):
        got_ND = made(texts)
        ensure(got_ND.dtype == np.float32 and got_ND.shape == (len(texts), made.dim), "not float32 [N, dim]")
        length_N = np.linalg.norm(got_ND, axis=1)
        known = np.isclose(length_N, 1, atol=1e-4) | (length_N == 0)
        ensure(bool(known.all()), f"a row is neither of length 1 nor all zeros: {length_N}")
    ensure(not made(["", "!?"]).any(), "a text without a word has a direction")
    ensure(bool(made(sample.texts()).any()), "it says nothing about any text")


def _gives_a_text_one_vector(part: Any, options: Mapping[str, Any]) -> None:
    made, texts = trained(part, options), sample.texts()
    order = np.random.default_rng(1).permutation(len(texts))
    together = made(texts)
    for moved, when in (
        (made([texts[i] for i in order]), "in another order"),
        (_one_by_one(made, texts, order), "alone"),
    ):
        ensure(near(moved, together[order]), f"a text has another vector {when}")


def _embeds_before_it_saw_any_text(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    if not learns(made):
        return
    for nothing in ([], ["", "..."]):
        made.fit(nothing)
        ensure(not made(["a word"]).any(), "fitted on no word, it knows one")


def _one_by_one(made: Any, texts: list[str], order: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.concatenate([made([texts[i]]) for i in order])


CHECKS = [
    _embeds_as_rows_of_length_one,
    _gives_a_text_one_vector,
    _embeds_before_it_saw_any_text,
]

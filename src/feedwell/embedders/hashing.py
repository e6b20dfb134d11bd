"""Vectors of texts without learning: every word and run of words has a place and a sign by its hash.

Weinberger et al. (2009), "Feature Hashing for Large Scale Multitask Learning": with signs, what collides cancels on
average, so that the inner product of two vectors estimates that of their bags of words without bias.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from feedwell.core.protocols import Examples, PartConfig, Setting, fit
from feedwell.core.registry import embedder

_WORD = r"(?u)\b\w+\b"


@embedder("hashing")
class Hashing:
    """D signed counts of the text's words, of length 1; a text without a word is all zeros."""

    examples: ClassVar[Examples] = ({}, {"dim": 32, "words": 1, "characters": 4})

    class Config(PartConfig):
        dim: int = fit(256, ge=2, le=1 << 20)
        words: int = fit(2, ge=1, le=5)
        """Runs of up to so many words count beside the words."""
        characters: int = fit(0, ge=0, le=8)
        """Runs of three to so many characters within words count too, so that inflections come near; 0: none."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        common = {"n_features": config.dim, "norm": None, "strip_accents": "unicode", "dtype": np.float32}
        self._words = HashingVectorizer(token_pattern=_WORD, ngram_range=(1, config.words), **common)
        runs = (max(1, min(3, config.characters)), max(1, config.characters))
        self._runs = HashingVectorizer(analyzer="char_wb", ngram_range=runs, **common)

    @property
    def dim(self) -> int:
        return self.config.dim

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        counts = self._words.transform(texts)
        if self.config.characters:
            counts = counts + self._runs.transform([" ".join(re.findall(_WORD, text)) for text in texts])
        vectors_ND: NDArray[np.float32] = counts.toarray()
        length_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        unit_ND: NDArray[np.float32] = np.divide(
            vectors_ND, length_N, out=np.zeros_like(vectors_ND), where=length_N > 0
        )
        return unit_ND

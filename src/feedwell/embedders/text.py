"""Vectors of texts learned from the catalog itself: TF-IDF and a truncated SVD, nothing is downloaded.

Deerwester et al. (1990), "Indexing by Latent Semantic Analysis": texts come near each other through words that occur
together, also where they share none. N texts, V words, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from sklearn.feature_extraction.text import CountVectorizer

from feedwell.core.errors import CorruptArtifact, NotTrained
from feedwell.core.protocols import Examples, PartConfig, Setting, fit
from feedwell.core.registry import embedder
from feedwell.core.rng import stream
from feedwell.stores.arrays import load_arrays, save_arrays

_WORD = r"(?u)\b\w+\b"
_ARRAYS, _WORDS = "text.safetensors", "text.json"
_NAMES = ("idf", "components")
_CHUNK = 8192


@embedder("text")
class Text:
    """The text's words and runs of words, weighed (1 + log count) × idf, turned into D dimensions, of length 1.

    A text of which no word is known is all zeros. A call costs its words × D multiplications.
    """

    examples: ClassVar[Examples] = ({"dim": 8, "min_count": 1}, {"dim": 4, "words": 1, "max_vocabulary": 20})

    class Config(PartConfig):
        dim: int = fit(64, ge=1, le=2048)
        words: int = fit(2, ge=1, le=5)
        """Runs of up to so many words count beside the words."""
        min_count: int = fit(2, ge=1)
        """A word or run counts when so many texts have it."""
        max_vocabulary: int = fit(50_000, ge=1)

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._setting = setting
        self._words: list[str] = []
        self._idf_V: NDArray[np.float32] | None = None
        self._components_VD = np.zeros((0, config.dim), np.float32)

    @property
    def dim(self) -> int:
        return self.config.dim

    def fit(self, texts: Sequence[str]) -> None:
        words, counts = self._counted(texts)
        n_texts_V = np.bincount(counts.indices, minlength=len(words))
        common = np.flatnonzero(n_texts_V >= self.config.min_count)
        kept = np.sort(common[np.argsort(-n_texts_V[common], kind="stable")][: self.config.max_vocabulary])
        words, counts, n_texts_V = [words[v] for v in kept], counts[:, kept], n_texts_V[kept]
        idf_V = (np.log((1 + counts.shape[0]) / (1 + n_texts_V)) + 1).astype(np.float32)
        components_VD = self._components(_weighed(counts, idf_V))
        self._set(words, idf_V, components_VD)

    def save(self, folder: Path) -> None:
        idf_V = self._trained()
        save_arrays(folder / _ARRAYS, {"idf": idf_V, "components": self._components_VD})
        (folder / _WORDS).write_text(json.dumps(self._words, ensure_ascii=False), encoding="utf-8")

    def load(self, folder: Path) -> None:
        arrays = load_arrays(folder / _ARRAYS, _NAMES)
        try:
            words = json.loads((folder / _WORDS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CorruptArtifact(
                f"reading {folder / _WORDS}: {error}; expected a list of words, train again"
            ) from error
        if len(words) != len(arrays["idf"]):
            raise CorruptArtifact(
                f"reading {folder / _WORDS}: {len(words)} words for {len(arrays['idf'])} weights, train again"
            )
        self._set(words, arrays["idf"].astype(np.float32), arrays["components"].astype(np.float32))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        idf_V = self._trained()
        vectors_ND = np.zeros((len(texts), self.dim), np.float32)
        if len(self._words):
            counter = self._counter(vocabulary=self._words)
            for at in range(0, len(texts), _CHUNK):
                found = _weighed(counter.transform(texts[at : at + _CHUNK]), idf_V) @ self._components_VD
                vectors_ND[at : at + _CHUNK] = found
        length_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        unit_ND: NDArray[np.float32] = np.divide(
            vectors_ND, length_N, out=np.zeros_like(vectors_ND), where=length_N > 1e-12
        )
        return unit_ND

    def _counter(self, **rest: Any) -> CountVectorizer:
        words = (1, self.config.words)
        return CountVectorizer(
            token_pattern=_WORD, ngram_range=words, strip_accents="unicode", dtype=np.float32, **rest
        )

    def _counted(self, texts: Sequence[str]) -> tuple[list[str], csr_matrix]:
        """All words and runs, sorted, and how often each stands in each text."""
        counter = self._counter()
        try:
            counts = counter.fit_transform(texts)
        except ValueError:  # not one word in any text: the vectorizer refuses an empty vocabulary
            return [], csr_matrix((len(texts), 0), dtype=np.float32)
        return sorted(counter.vocabulary_), counts

    def _components(self, weighed_NV: csr_matrix) -> NDArray[np.float32]:
        """The right singular vectors of the greatest singular values; missing dimensions are zeros."""
        n, v = weighed_NV.shape
        components_VD = np.zeros((v, self.dim), np.float32)
        rank = min(self.dim, min(n, v))
        if rank == min(n, v):
            found_DV = np.linalg.svd(weighed_NV.toarray().astype(np.float64), full_matrices=False)[2][:rank]
        else:
            v0 = stream(self._setting.seed, "svd").standard_normal(min(n, v))
            _, size_D, found_DV = svds(weighed_NV.astype(np.float64), k=rank, v0=v0)
            found_DV = found_DV[np.argsort(-size_D, kind="stable")]
        if rank:
            # A singular vector has no sign of its own: the greatest weight is made positive.
            sign_D = np.sign(found_DV[np.arange(rank), np.abs(found_DV).argmax(axis=1)])
            components_VD[:, :rank] = (found_DV * sign_D[:, None]).T
        return components_VD

    def _set(self, words: list[str], idf_V: NDArray[np.float32], components_VD: NDArray[np.float32]) -> None:
        self._words, self._idf_V, self._components_VD = words, idf_V, components_VD

    def _trained(self) -> NDArray[np.float32]:
        if self._idf_V is None:
            raise NotTrained(f"the embedder '{self._setting.name}' was called before `fit` or `load`")
        return self._idf_V


def _weighed(counts: csr_matrix, idf_V: NDArray[np.float32]) -> csr_matrix:
    """(1 + log count) × idf, rows of length 1."""
    weighed = counts.copy()
    column = weighed.indices
    weighed.data = ((1 + np.log(weighed.data)) * idf_V[column]).astype(np.float32)
    row = np.repeat(np.arange(weighed.shape[0]), np.diff(weighed.indptr))
    length_N = np.sqrt(np.bincount(row, weights=weighed.data.astype(np.float64) ** 2, minlength=weighed.shape[0]))
    weighed.data = (weighed.data / length_N[row]).astype(np.float32)
    return weighed

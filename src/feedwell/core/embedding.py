"""Embedder: what turns content into vectors, and how a part comes by the one that its project declares.

N texts, D dimensions
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from feedwell.core import registry
from feedwell.core.protocols import Setting
from feedwell.core.rng import derive_seed


@runtime_checkable
class Embedder(Protocol):
    """Texts → vectors_ND float32 of length 1; all zeros where a text says nothing that the embedder knows.

    One that learns has `fit(texts)`, `save(folder)`, `load(folder)`; used before, it raises NotTrained.
    """

    @property
    def dim(self) -> int: ...
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


def make_embedder(setting: Setting, name: str) -> Embedder:
    """A fresh, unfitted embedder as `[embedder.<name>]` declares it; undeclared, the kind of that name as it comes.

    Each part owns the one that it uses, in its own artifact: its weights hold for no other vectors.
    """
    section = setting.embedders.get(name)
    made: Any = registry.find("embedder", (section.kind if section else "") or name, setting.modules)
    config = made.Config.model_validate(section.options if section else {})
    embedder: Embedder = made(config, Setting(name=name, seed=derive_seed(setting.seed, "embedder", name)))
    return embedder

"""What the ranker `mmoe` is once it has learned: inputs, outputs, an engine; as files and back.

N candidates, T objectives
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from feedwell.core.candidates import Float
from feedwell.core.errors import CorruptArtifact
from feedwell.nn.curves import FILE as CURVES
from feedwell.nn.curves import Curves
from feedwell.nn.inference import Graph
from feedwell.scorers._content import Content, Vectors
from feedwell.scorers._inputs import Array, Fitted, Targets
from feedwell.scorers._rows import Head, label_scale
from feedwell.stores.arrays import load_arrays, require_format, save_arrays

_ABOUT, _INPUTS, _CONTENT = "mmoe.json", "mmoe.safetensors", "content.safetensors"
_ENCODE, _SCORE = "encode_user.onnx", "score.onnx"
_VECTORS = ("keys", "at", "vectors")
_LARGEST_EXPONENT = 50.0
_FORMAT = 2
"""Of the files: 2 has the time of each item's catalog row."""
_BINARY, _POISSON, _SQUARED = "binary", "poisson", "squared"


class Engine(Protocol):
    def encode_user(self, **inputs: Array) -> list[Array]: ...
    def score(self, **inputs: Array) -> Array: ...


@dataclass(frozen=True, kw_only=True)
class Output:
    """One objective's output: how it is linked, and the unit that it is in."""

    name: str
    kind: str
    scale: float


@dataclass(frozen=True, kw_only=True)
class Model:
    """`names` are the features that it reads; `content` what items say, where it reads that."""

    names: tuple[str, ...]
    inputs: Fitted
    outputs: tuple[Output, ...]
    engine: Engine
    curves: Curves
    content: Content | None = None
    network: Any = None
    sample: Any = None
    """The network and some rows of its inputs until the artifact is written; what is written serves from then on."""

    def linked(self, z_NT: Array) -> dict[str, Float]:
        """p_N per objective from the network's outputs, in the objective's own unit."""
        found: dict[str, Float] = {}
        for t, output in enumerate(self.outputs):
            z_N = z_NT[:, t].astype(np.float64)
            if output.kind == _BINARY:
                found[output.name] = 0.5 * (1.0 + np.tanh(0.5 * z_N))
            else:
                mean_N = np.exp(np.minimum(z_N, _LARGEST_EXPONENT)) if output.kind == _POISSON else z_N
                found[output.name] = mean_N * output.scale
        return found


class Graphs:
    """The artifact's engine: two ONNX graphs."""

    def __init__(self, encode: Graph, scores: Graph) -> None:
        self.encode, self.scores = encode, scores

    def encode_user(self, **inputs: Array) -> list[Array]:
        return list(self.encode(**inputs))

    def score(self, **inputs: Array) -> Array:
        return self.scores(**inputs)[0]


def targets_of(made: Sequence[Head], n: int, weights: Mapping[str, float]) -> Targets:
    """What the network learns for n rows."""
    y_NT = np.full((n, len(made)), np.nan, np.float32)
    for t, head in enumerate(made):
        y_NT[head.rows, t] = head.y > 0 if head.kind == _BINARY else head.y / label_scale(head)
    kinds = [_BINARY if h.kind == _BINARY else _SQUARED if (h.y < 0).any() else _POISSON for h in made]
    weight_T = np.array([weights.get(head.name, 1.0) for head in made], np.float32)
    return Targets(y_NT=y_NT, kinds=tuple(kinds), weight_T=weight_T)


def outputs_of(made: Sequence[Head], targets: Targets) -> tuple[Output, ...]:
    return tuple(Output(name=h.name, kind=k, scale=label_scale(h)) for h, k in zip(made, targets.kinds, strict=True))


def write_model(model: Model, graphs: Graphs, events: Sequence[str], folder: Path) -> None:
    """The graphs, the fitted statistics, the items' vectors and the curves."""
    content = model.content
    about = {
        "format": _FORMAT,
        "features": model.names,
        "outputs": [vars(output) for output in model.outputs],
        "inputs": model.inputs.names(),
        "events": events,
        "content": content and {"dim": content.dim, "offset": content.offset},
    }
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    save_arrays(folder / _INPUTS, model.inputs.arrays())
    if content is not None:
        arrays = (content.vectors.keys_M, content.vectors.at_M, content.vectors.vectors_MS)
        save_arrays(folder / _CONTENT, dict(zip(_VECTORS, arrays, strict=True)))
    (folder / _ENCODE).write_bytes(graphs.encode.content)
    (folder / _SCORE).write_bytes(graphs.scores.content)
    # How long it took is no property of the weights: equal trainings make equal artifacts.
    replace(model.curves, wall_s=0.0).write(folder / CURVES)


def read_model(folder: Path) -> Model:
    """What `write_model` left; CorruptArtifact: it cannot be read, or another version of feedwell wrote it."""
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        require_format(folder / _ABOUT, about, _FORMAT)
        outputs = tuple(Output(**output) for output in about["outputs"])
        names, parts = tuple(about["features"]), about["inputs"]
        arrays = load_arrays(folder / _INPUTS, Fitted.array_names(parts))
        graphs = [Graph((folder / name).read_bytes(), str(folder / name)) for name in (_ENCODE, _SCORE)]
        content = Content(**about["content"], vectors=_vectors(folder)) if about["content"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifact(f"reading the mmoe ranker in {folder}: {error}; train again") from error
    return Model(
        names=names,
        inputs=Fitted.of(parts, arrays),
        outputs=outputs,
        engine=Graphs(*graphs),
        curves=Curves.read(folder / CURVES),
        content=content,
    )


def _vectors(folder: Path) -> Vectors:
    arrays = load_arrays(folder / _CONTENT, _VECTORS)
    keys_M, at_M, vectors_MS = (arrays[name] for name in _VECTORS)
    return Vectors(keys_M=keys_M.astype(np.int64), at_M=at_M.astype(np.int64), vectors_MS=vectors_MS.astype(np.float16))

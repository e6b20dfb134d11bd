"""Export: networks to ONNX, which is data; accepted only where it computes what the network computes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feedwell.core.errors import CheckFailed
from feedwell.nn.inference import Graph

PARITY = 1e-4
"""Largest |a - b| / (1 + |b|) between ONNX Runtime and torch; float32 sums in another order differ by about 1e-6."""


def to_onnx(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], rows: Collection[str]) -> bytes:
    """The module as an ONNX file; the inputs named in `rows` take any number of rows. Equal modules, equal bytes."""
    some = torch.export.Dim("rows")
    shapes = {name: {0: some} if name in rows else {} for name in inputs}
    with torch.no_grad(), _quietly():
        program = torch.onnx.export(
            module.eval(),
            kwargs=dict(inputs),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    if program is None:
        raise CheckFailed("exporting a network to ONNX gave nothing")
    proto = program.model_proto
    _without_traces(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def require_parity(graph: Graph, inputs: Mapping[str, Tensor], expected: Sequence[Tensor], what: str) -> float:
    """The largest difference between the graph and what the network gave; CheckFailed where it exceeds PARITY."""
    got = graph(**{name: value.numpy() for name, value in inputs.items()})
    worst = max((_difference(a, b.numpy()) for a, b in zip(got, expected, strict=True)), default=0.0)
    if not worst <= PARITY:
        raise CheckFailed(
            f"writing {what}: ONNX Runtime and torch differ by {worst:.3g} (relative); expected at most {PARITY:g}."
            " The artifact is not written: look for features of extreme size, or train again"
        )
    return worst


def _difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if a.shape != b.shape:
        return float("inf")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0.0, np.abs(a - b) / (1.0 + np.abs(b))).max(initial=0.0))


def _without_traces(proto: Any) -> None:
    """Takes out what the exporter notes of the machine and the source: stack traces, paths, names of modules."""
    del proto.metadata_props[:]
    proto.doc_string = ""
    graph = proto.graph
    for group in ([graph], graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for part in group:
            del part.metadata_props[:]
            part.doc_string = ""
    # Shapes noted between the nodes keep quantisation tools from working on the file, and nothing needs them.
    del graph.value_info[:]


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter warns of libraries that are not installed, and of calls that it makes itself."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)

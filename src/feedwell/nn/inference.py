"""Inference: ONNX graphs as serving runs them. Nothing of torch is imported here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.errors import CorruptArtifact


class Graph:
    """A graph on one thread: called with its inputs by name, it gives its outputs in order. `content` is the file."""

    def __init__(self, content: bytes, what: str) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        # A process per core serves one request at a time: more threads make the tail of the latency.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise CorruptArtifact(f"reading {what}: {error}; train again") from error
        self.content = content

    def __call__(self, **inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = self._session.run(None, inputs)
        return outputs

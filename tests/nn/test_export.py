"""Graphs compute what the network computes, hold nothing of this machine, and one that does not is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from feedwell.core.errors import CheckFailed, CorruptArtifact
from feedwell.nn.export import require_parity, to_onnx
from feedwell.nn.inference import Graph


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Embedding(7, 3), nn.Linear(5, 2)

    def forward(self, x, row):
        return torch.relu(self.layer(torch.cat([x, self.table(row)], dim=1)))


@pytest.fixture(scope="module")
def exported():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = Small()
    inputs = {"x": torch.randn(3, 2), "row": torch.tensor([0, 6, 2])}
    return network, inputs, to_onnx(network, inputs, ("y",), ("x", "row"))


def test_any_number_of_rows_gives_what_the_network_gives(exported):
    network, _, content = exported
    graph = Graph(content, "a graph")
    for n in (0, 1, 5):
        inputs = {"x": torch.randn(n, 2), "row": torch.randint(0, 7, (n,))}
        assert require_parity(graph, inputs, [network(**inputs).detach()], "it") < 1e-6


def test_a_graph_that_differs_is_refused(exported):
    network, inputs, content = exported
    expected = network(**inputs).detach()
    with pytest.raises(CheckFailed, match=r"writing it: ONNX Runtime and torch differ by 0\.\d+ .*not written"):
        require_parity(Graph(content, "a graph"), inputs, [expected + 0.5], "it")
    with pytest.raises(CheckFailed, match="differ by nan"):
        require_parity(Graph(content, "a graph"), inputs, [expected * float("nan")], "it")


def test_equal_networks_give_equal_bytes_without_paths(exported):
    network, inputs, content = exported
    assert to_onnx(network, inputs, ("y",), ("x", "row")) == content
    for text in (b".py", b"site-packages", b"stack_trace", b"feedwell"):
        assert text not in content


def test_what_is_no_graph_is_told():
    with pytest.raises(CorruptArtifact, match=r"reading score\.onnx.*train again"):
        Graph(b"no graph", "score.onnx")


def test_inference_needs_no_torch(exported, tmp_path):
    (tmp_path / "graph.onnx").write_bytes(exported[2])
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from feedwell.nn.inference import Graph\n"
        f"graph = Graph(Path({str(tmp_path / 'graph.onnx')!r}).read_bytes(), 'a graph')\n"
        "y = graph(x=np.zeros((4, 2), np.float32), row=np.zeros(4, np.int64))[0]\n"
        "assert y.shape == (4, 2)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert np.isfinite(Graph(exported[2], "a graph")(x=np.ones((1, 2), np.float32), row=np.zeros(1, np.int64))[0]).all()

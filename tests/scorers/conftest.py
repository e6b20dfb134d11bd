"""An artifact of the neural ranker, written once: its export to ONNX is what costs."""

from __future__ import annotations

import pytest

from tests.scorers.test_mmoe import made, world


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """(the folder of an artifact, what the network predicted for other rows before it was written, the part).

    The other rows are of items that training has not seen, with what they say.
    """
    part, folder = made(epochs=2, embed="text"), tmp_path_factory.mktemp("mmoe")
    part.fit(world(200))
    before = part.predict(world(40, seed=2, first=500))
    part.save(folder)
    return folder, before, part

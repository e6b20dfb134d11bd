import pytest

from feedwell.core import registry
from feedwell.testing import Check, checks

ALL = [c for name in registry.names("embedder") if not name.startswith("test_") for c in checks("embedder", name)]


@pytest.mark.parametrize("check", ALL, ids=str)
def test_conforms(check: Check) -> None:
    check()

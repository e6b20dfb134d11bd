import pytest

from feedwell.core import registry
from feedwell.testing import Check, checks

ALL = [check for name in registry.names("slate") if not name.startswith("test_") for check in checks("slate", name)]


@pytest.mark.parametrize("check", ALL, ids=str)
def test_conforms(check: Check) -> None:
    check()

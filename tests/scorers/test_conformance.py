import pytest

from feedwell.core import registry
from feedwell.testing import Check, checks

ALL = [check for name in registry.names("scorer") if not name.startswith("test_") for check in checks("scorer", name)]


def _param(check: Check) -> object:
    """Writing an mmoe is an export to ONNX, which takes seconds; `test_mmoe` holds one artifact to it in every run."""
    is_export = check.part.name == "mmoe" and "loads_what_it_saved" in str(check)
    return pytest.param(check, marks=pytest.mark.slow if is_export else ())


@pytest.mark.parametrize("check", [*map(_param, ALL)], ids=str)
def test_conforms(check: Check) -> None:
    check()

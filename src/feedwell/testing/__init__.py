"""Public conformance checks: what a part, a store or a set of features must pass, ours or yours.

    import pytest
    from feedwell.testing import checks

    @pytest.mark.parametrize("check", checks("source", "mine"), ids=str)
    def test_mine_conforms(check):
        check()

`enumerate_slates` and `fits` test a policy's propensities against every slate that it can build.
"""

from feedwell.testing.conformance import Check as Check
from feedwell.testing.conformance import checks as checks
from feedwell.testing.propensity import enumerate_slates as enumerate_slates
from feedwell.testing.propensity import fits as fits

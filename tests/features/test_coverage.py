import numpy as np

from feedwell.features.coverage import Coverage, coverage, sparse


def test_shares_are_of_all_rows_and_add_up():
    nan = np.nan
    values = np.array([[1.0, 0.0, nan], [2.0, nan, nan], [nan, 0.0, nan], [0.0, 3.0, nan]])
    whole = coverage(["a", "b", "c"], values)
    assert (whole["a"].known, whole["a"].nonzero) == (0.75, 0.5)
    assert (whole["b"].known, whole["b"].nonzero) == (0.75, 0.25)
    assert (whole["c"].known, whole["c"].nonzero) == (0.0, 0.0)
    parts = [coverage(["a", "b", "c"], part) for part in (values[:1], values[1:])]
    assert all(parts[0][name] + parts[1][name] == whole[name] for name in whole)


def test_sparse_names_what_is_hardly_there_unless_allowed():
    found = {"rare": Coverage(n=1000, n_known=1000, n_nonzero=9), "full": Coverage(n=10, n_known=9, n_nonzero=9)}
    assert sparse(found, 0.01) == ["rare"]
    assert sparse(found, 0.01, ["rare"]) == []
    assert sparse({"none": Coverage()}, 0.01) == []

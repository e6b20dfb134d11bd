import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feedwell.core.keys import avoided, contains, rows_of, union
from feedwell.core.request import Request

KEYS = st.lists(st.integers(-(2**62), 2**62), max_size=20)


def column(keys):
    return np.array(keys, np.int64)


@given(st.sets(st.integers(-5, 25)), st.lists(st.integers(-5, 25)))
def test_membership_and_rows_equal_the_obvious_ones(known, asked):
    known = sorted(known)
    assert contains(column(known), column(asked)).tolist() == [key in known for key in asked]
    assert rows_of(column(known), column(asked)).tolist() == [known.index(k) if k in known else -1 for k in asked]


@given(KEYS, KEYS)
def test_a_union_is_sorted_and_distinct(a, b):
    assert union(column(a), column(b)).tolist() == sorted({*a, *b})
    assert union().tolist() == []


def test_what_is_avoided_is_excluded_skipped_or_shown():
    request = Request(
        request_id="", user_id="", t=0, n=1, exclude=column([4]), skip=column([2, 9]), prefix=column([9, 1])
    )
    assert avoided(request).tolist() == [1, 2, 4, 9]

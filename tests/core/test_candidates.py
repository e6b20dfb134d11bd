import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedwell.core.candidates import Retrieved, merge


def retrieved(keys):
    return Retrieved(keys_N=np.array(keys, np.int64), scores_N=np.linspace(1, 0, len(keys)))


@given(st.lists(st.lists(st.integers(0, 20), unique=True, max_size=15), min_size=1, max_size=5))
def test_merge_keeps_each_key_once_with_all_its_sources(lists):
    merged = merge([(f"s{i}", retrieved(keys)) for i, keys in enumerate(lists)])
    seen: list[int] = []
    for keys in lists:
        seen += [k for k in keys if k not in seen]
    assert merged.keys_N.tolist() == seen
    for row, key in enumerate(seen):
        brought = [key in keys for keys in lists]
        assert [bool(int(merged.sources_N[row]) >> s & 1) for s in range(len(lists))] == brought
        assert (~np.isnan(merged.retrieval_NS[row])).tolist() == brought


def test_the_first_reason_to_drop_a_row_stays_and_counts_add_up():
    c = merge([("a", retrieved([5, 6, 7, 8]))])
    c = c.dropped(np.array([True, False, False, False]), "seen").dropped(
        np.array([True, True, False, False]), "expired"
    )
    assert c.counts() == {"": 2, "seen": 1, "expired": 1}
    assert c.take(c.alive_N).keys_N.tolist() == [7, 8]


def test_columns_are_read_only_after_hand_over():
    c = merge([("a", retrieved([1, 2]))])
    with pytest.raises(ValueError, match="read-only"):
        c.keys_N[0] = 9


def test_an_undeclared_feature_is_refused_by_name():
    with pytest.raises(KeyError, match="declare it in `needs`"):
        merge([("a", retrieved([1]))]).feature("ctr")

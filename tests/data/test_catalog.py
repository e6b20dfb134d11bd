"""The catalog as columns: the newest row of each object as of a time, and never a later one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from feedwell.core.project import Project
from feedwell.data.catalog import catalog_asof

PROJECT = Project.model_validate(
    {
        "project": {"name": "p"},
        "entity": {
            "item": {
                "columns": {"title": "string", "tags": "list", "price": "float", "new": "bool", "maker": "string"},
                "text": ["title", "tags"],
            },
            "maker": {"from": "item.maker"},
        },
    }
)


def put(item, at, maker=-1, **row):
    return {"type": "$item", "item": item, "maker": maker, "available_at": at, "payload": json.dumps(row)}


@pytest.fixture
def view(log_of):
    rows = [
        put(7, 0, title="Red shoes", tags=["Sport", "Kids"], price=3, new=True, maker=2),
        put(3, 0, title="Hat", price=1.5),
        {"type": "view", "item": 7, "user": 1, "available_at": 4},
        put(7, 5, title="Red boots", price=None, maker=4),
        put(9, 8, tags=[], title=None),
        put(3, 8, title="Cap", price=2.0),
        put(3, 8, title="Top hat", price=9.0),
    ]
    return log_of(rows, entities=("user", "item", "maker"))


def test_the_newest_row_as_of_a_time(view):
    then = catalog_asof(view, PROJECT, "item", 5)
    assert then.keys_M.tolist() == [3, 7]
    assert then.at_M.tolist() == [0, 0]
    assert then.text_M == ("Hat", "Red shoes Sport Kids")
    np.testing.assert_array_equal(then.numbers["price"], [1.5, 3.0])
    np.testing.assert_array_equal(then.numbers["new"], [np.nan, 1.0])
    np.testing.assert_array_equal(then.numbers["maker"], [np.nan, 2.0])
    assert "title" not in then.numbers


def test_the_whole_log_and_the_last_of_one_moment(view):
    now = catalog_asof(view, PROJECT, "item")
    assert now.keys_M.tolist() == [3, 7, 9]
    assert now.text_M == ("Top hat", "Red boots", "")
    np.testing.assert_array_equal(now.numbers["price"], [9.0, np.nan, np.nan])
    np.testing.assert_array_equal(now.numbers["maker"], [np.nan, 4.0, np.nan])
    some = now.take(np.array([True, False, True]))
    assert (some.keys_M.tolist(), some.text_M, some.numbers["price"][0]) == ([3, 9], ("Top hat", ""), 9.0)


def test_no_row_at_all(view, log_of):
    for nothing in (catalog_asof(view, PROJECT, "item", 0), catalog_asof(log_of([]), PROJECT, "user")):
        assert len(nothing) == 0
        assert nothing.text_M == ()

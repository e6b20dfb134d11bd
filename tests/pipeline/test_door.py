from __future__ import annotations

from typing import Any

import pytest

from feedwell.core.errors import UsageError

from .conftest import Shop


@pytest.mark.parametrize(
    ("user", "wish", "says"),
    [
        ("", {}, "user_id.*empty"),
        (5, {}, "user_id.*text"),
        ("\udcff", {}, "user_id.*UTF-8"),
        ("ü" * 300, {}, "user_id.*512"),
        ("u1", {"n": 0}, "1 to 1000"),
        ("u1", {"n": -3}, "1 to 1000"),
        ("u1", {"n": 10**7}, "1 to 1000"),
        ("u1", {"n": True}, "whole number"),
        ("u1", {"n": 2.0}, "whole number"),
        ("u1", {"surface": "no spaces"}, "surface"),
        ("u1", {"exclude": [7]}, "exclude.*text"),
        ("u1", {"exclude": ["\ud800"]}, "exclude.*UTF-8"),
        ("u1", {"exclude": ["x"] * 1001}, "at most 1000"),
    ],
)
def test_the_one_door_refuses_with_a_printable_reason(shop: Shop, user: Any, wish: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        shop.ask(user, **wish)
    str(caught.value).encode()

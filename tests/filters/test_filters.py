import numpy as np
import pytest
from pydantic import ValidationError

from feedwell.core import registry
from feedwell.core.candidates import Retrieved, merge
from feedwell.core.clock import DAY
from feedwell.core.needs import ColumnNeed, ObjectsNeed
from feedwell.core.protocols import Setting
from feedwell.core.request import Request, UserSide

Seen, Expired, Blocked = (registry.find("filter", name) for name in ("seen", "expired", "blocked"))
T = 1_800_000_000_000_000
NAN = np.nan


def rows(n=4, **columns):
    made = merge([("a", Retrieved(keys_N=np.arange(n) * 10, scores_N=np.zeros(n)))])
    return made.with_columns(columns={f"item.{name}": np.array(values, float) for name, values in columns.items()})


def ask(objects=None):
    return Request(request_id="", user_id="", t=T, n=5, side=UserSide(objects=objects or {}))


def test_seen_drops_the_objects_of_its_events_alone():
    part = Seen(Seen.Config(events=("buy",)), Setting(name="seen"))
    request = ask({ObjectsNeed(("buy",)): np.array([0, 20, 25]), ObjectsNeed(("view",)): np.array([10])})
    assert part(request, rows()).tolist() == [False, True, False, True]
    assert part.skips(request).tolist() == [0, 20, 25]
    assert part(ask(), rows()).all()


def test_events_must_be_declared():
    for part in (Seen, Blocked):
        with pytest.raises(ValidationError, match="events"):
            part.Config()
        with pytest.raises(ValidationError, match="events"):
            part.Config(events=())


def test_expired_reads_the_roles_that_the_entity_declares():
    setting = Setting(name="expired", extra={"expires_at": "ends", "available": "in_stock"})
    part = Expired(Expired.Config(), setting)
    assert part.needs == (ColumnNeed("item", "ends"), ColumnNeed("item", "in_stock"))
    # A microsecond decides: float32 would not see it.
    assert part(ask(), rows(ends=[T, T + 1, NAN, T + 1], in_stock=[1, 1, NAN, 0])).tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_too_old_is_older_than_max_age_and_unknown_ages_pass():
    part = Expired(Expired.Config(max_age="1d", created_at="born"), Setting(name="expired"))
    assert part.needs == (ColumnNeed("item", "born"),)
    keep = part(ask(), rows(born=[T - DAY, T - DAY - 1, NAN, T + 5]))
    assert keep.tolist() == [True, False, True, True]


def test_expired_without_any_rule_keeps_all_and_needs_nothing():
    part = Expired(Expired.Config(), Setting(name="expired"))
    assert part.needs == ()
    assert part(ask(), rows()).all()


def test_blocked_items():
    part = Blocked(Blocked.Config(events=("hide",)), Setting(name="blocked", group="creator"))
    request = ask({ObjectsNeed(("hide",)): np.array([10])})
    assert part(request, rows()).tolist() == [True, False, True, True]
    assert part.skips(request).tolist() == [10]


def test_blocked_creators_by_the_exact_group_key():
    part = Blocked(Blocked.Config(events=("block",), object="creator"), Setting(name="blocked", group="creator"))
    big = 2**24
    request = ask({ObjectsNeed(("block",), object="creator"): np.array([big + 1])})
    made = rows().with_columns(group_N=np.array([big, big + 1, -1, big + 2]))
    assert part(request, made).tolist() == [True, False, True, True]
    assert part.skips(request).tolist() == []


def test_blocked_objects_of_another_column():
    config = Blocked.Config(events=("block",), object="merchant", column="sold_by")
    part = Blocked(config, Setting(name="blocked", group="creator"))
    need = ObjectsNeed(("block",), object="merchant")
    assert part.needs == (need, ColumnNeed("item", "sold_by"))
    assert part(ask({need: np.array([7])}), rows(sold_by=[7, 8, NAN, 7])).tolist() == [False, True, True, False]

"""Histories: a log that an honest product would have, with the propensities of what it served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from feedwell.core.clock import DAY
from feedwell.data.world import PRESETS, SessionRequest, WorldHistory, preset, simulate_history
from feedwell.data.world.events import EVENTS, ITEMS, SLATES, USERS
from feedwell.data.world.policies import draw_slate

DAYS = 7
UNDOES = {"unlike": "like", "unfollow": "follow"}


@pytest.fixture(scope="module", params=sorted(PRESETS))
def history(request: pytest.FixtureRequest) -> WorldHistory:
    return simulate_history(preset(request.param, 0.3), 1, DAYS)


@pytest.fixture(scope="module")
def rows(history: WorldHistory) -> list[dict[str, object]]:
    found: list[dict[str, object]] = history.events.to_pylist()
    return found


def test_schemas_and_order(history: WorldHistory) -> None:
    assert (history.events.schema, history.items.schema, history.users.schema) == (EVENTS, ITEMS, USERS)
    assert history.slates.schema == SLATES
    ts = history.events["ts"].to_numpy()
    assert np.all(np.diff(ts) >= 0)
    start = PRESETS["social"].start_ts
    assert start <= ts[0] <= ts[-1] < start + DAYS * DAY
    assert len(set(history.events["event_id"].to_pylist())) == history.events.num_rows


def test_every_event_names_what_exists_by_then(history: WorldHistory, rows: list[dict[str, object]]) -> None:
    created = dict(zip(history.items["item_id"].to_pylist(), history.items["created_at"].to_pylist(), strict=True))
    signed_up = dict(zip(history.users["user_id"].to_pylist(), history.users["signup_at"].to_pylist(), strict=True))
    creators = {int(str(c)[1:]) for c in history.items["creator_id"].to_pylist()}
    for row in rows:
        assert signed_up[row["user"]] < row["ts"]
        assert (row["item"] is None) == (row["type"] in ("follow", "unfollow"))
        assert (row["creator"] is None) != (row["item"] is None)
        if row["item"] is not None:
            assert created[row["item"]] < row["ts"]
    assert len(creators) > 1


def test_views_are_the_examined_top_of_the_served_slate(history: WorldHistory, rows: list[dict[str, object]]) -> None:
    served = {(r["request_id"], r["slot"]): r["item"] for r in history.slates.to_pylist()}
    seen: dict[object, list[int]] = {}
    for row in rows:
        if row["slot"] is not None:
            assert served[row["request_id"], row["slot"]] == row["item"] or row["item"] is None
        if row["type"] == "view":
            seen.setdefault(row["request_id"], []).append(int(str(row["slot"])))
    assert all(sorted(slots) == list(range(1, len(slots) + 1)) for slots in seen.values())


def test_deeds_follow_their_view_and_undos_their_deed(rows: list[dict[str, object]]) -> None:
    first: dict[tuple[object, ...], object] = {}
    for row in rows:
        thing = row["item"] or row["creator"]
        first.setdefault((row["user"], thing, row["type"]), row["ts"])
        if row["type"] in UNDOES:
            assert (row["user"], thing, UNDOES[str(row["type"])]) in first
        elif row["type"] != "follow":
            assert (row["user"], thing, "view") in first
    hidden = {key[:2] for key in first if key[2] == "hide"}
    assert hidden.isdisjoint(key[:2] for key in first if key[2] in ("like", "buy"))


def test_the_kinds_of_a_preset_all_occur() -> None:
    """One seed, one preset at demo size: the events of the demo."""
    history = simulate_history(preset("social", 0.6), 2)
    kinds = set(history.events["type"].to_pylist())
    assert kinds == {"view", "click", "like", "share", "hide", "follow", "unlike", "unfollow"}
    assert 30_000 < history.events.num_rows < 80_000


def test_a_seed_gives_one_history(tmp_path: Path) -> None:
    config = preset("news", 0.1)
    one, two, other = (simulate_history(config, s, 3) for s in (1, 1, 2))
    assert one.events == two.events
    assert one.slates == two.slates
    assert one.events != other.events
    one.write(tmp_path / "new")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "events.parquet", "items.parquet", "slates.parquet", "users.parquet",
    ]  # fmt: skip
    assert pq.read_table(tmp_path / "new" / "events.parquet") == one.events


def test_propensities_are_probabilities_with_support(history: WorldHistory) -> None:
    p = history.slates["propensity"].to_numpy()
    assert np.all((p > 0) & (p <= 1))
    # Σ 1/p over the choices at one slot is an unbiased count of what could be chosen: the live items not yet seen.
    first = p[history.slates["slot"].to_numpy() == 1]
    n_live = history.items.num_rows
    assert 0.05 * n_live < np.mean(1 / first) < n_live


def test_drawn_slates_have_the_law_that_their_propensities_say() -> None:
    """Every ordered pair of four items comes as often as the product of its two propensities."""
    weights, rows = np.array([4.0, 2.0, 1.0, 1.0]), np.array([10, 11, 12, 13])
    counts: dict[tuple[int, int], int] = {}
    said: dict[tuple[int, int], float] = {}
    n = 8_000
    for ts in range(n):
        request = SessionRequest(request_id="", session="", user_id="u3", ts=ts, surface="home", n=2)
        chosen = draw_slate(weights, rows, request, root=99)
        pair = (int(chosen.rows_n[0]), int(chosen.rows_n[1]))
        counts[pair] = counts.get(pair, 0) + 1
        said[pair] = float(np.prod(chosen.propensity_n))
    assert len(said) == 12
    assert sum(said.values()) == pytest.approx(1.0)
    for pair, p in said.items():
        assert abs(counts[pair] / n - p) < 4.5 * np.sqrt(p * (1 - p) / n)


def test_no_items_no_slate() -> None:
    request = SessionRequest(request_id="", session="", user_id="u3", ts=5, surface="home", n=2)
    assert len(draw_slate(np.zeros(0), np.zeros(0, np.int64), request, root=99).rows_n) == 0

"""What fold leaves in the state: the same as hydrate, however the log was cut; and what latest makes of it."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedwell.core.clock import DAY, HOUR
from feedwell.core.errors import DataError, Unavailable
from feedwell.core.needs import HistoryNeed, ObjectsNeed, RankingNeed
from feedwell.features import FeatureSet, Fold, StateReader, asof, hydrate, reference
from feedwell.features.statefile import read_head
from feedwell.stores.state import LmdbState, MemoryState
from feedwell.testing.generated import SPAN, START, generate, parity_project
from feedwell.testing.parity import read_row, write_segments

PROJECT = parity_project()
HOT = RankingNeed(by="decayed", events=("view", "click"), half_life_us=HOUR, k=6)
NEW = RankingNeed(by="newest", k=9)
HISTORY = HistoryNeed(events=("view", "buy"), n=7)
FOLLOWED = HistoryNeed(events=("follow",), n=3, object="creator")
LIKED = ObjectsNeed(events=("like", "save"))
FOLLOWS = ObjectsNeed(events=("follow",), object="creator")
NEEDS = (HOT, NEW, HISTORY, FOLLOWED, LIKED, FOLLOWS)
FEATURES = FeatureSet.compile(PROJECT, NEEDS)


def rows(state):
    with state.read() as txn:
        return dict(txn.scan(b""))


def folded(table, cuts=(), features=(FEATURES,)):
    state = MemoryState()
    fold = Fold(features, state)
    edges = [0, *cuts, len(table)]
    for a, b in itertools.pairwise(edges):
        fold.fold(table.slice(a, b - a))
    return state


@pytest.mark.parametrize("seed", range(6))
def test_fold_leaves_the_same_bytes_however_the_log_is_cut_and_so_does_hydrate(seed, tmp_path):
    log = generate(seed, n_logs=8, n_events=60)
    table = log.table(PROJECT)
    rng = np.random.default_rng(seed)
    whole = rows(folded(table))
    assert len(whole) > 100
    cut = rows(folded(table, sorted(rng.integers(0, len(table), 25).tolist())))
    built = MemoryState()
    hydrate(FEATURES, write_segments(table, tmp_path, seed), built, epoch=0, upto_offset=len(table) - 1)
    # A relation begun and ended within one batch leaves no row: it reads as the row of zeros that other cuts leave.
    assert cut | whole == cut
    assert len(cut) - len(whole) < 10
    hydrated = rows(built)
    assert hydrated | whole == hydrated
    assert len(hydrated) - len(whole) < 10


def test_folding_again_changes_nothing(tmp_path):
    table = generate(3, n_logs=5).table(PROJECT)
    state = folded(table, [len(table) // 2])
    before = rows(state)
    fold = Fold([FEATURES], state)
    assert fold.position == len(table) - 1
    fold.fold(table)
    fold.fold(table.slice(len(table) // 3))
    assert rows(state) == before


def test_a_log_that_runs_backwards_is_refused():
    table = generate(3, n_logs=5).table(PROJECT)
    state = folded(table)
    late = table.slice(0, 1).set_column(0, "offset", pa.array([len(table)]))
    with pytest.raises(DataError, match="new epoch"):
        Fold([FEATURES], state).fold(late)
    with pytest.raises(DataError, match="backwards"):
        Fold([FEATURES], MemoryState()).fold(table.take(pa.array([1, 0])))


def test_an_epoch_is_not_mixed_with_another(tmp_path):
    table = generate(3, n_logs=5).table(PROJECT)
    state = folded(table)
    with pytest.raises(Unavailable, match="epoch 0"):
        Fold([FEATURES], state, epoch=1).fold(table)
    with pytest.raises(Unavailable, match="epoch 0"):
        hydrate(FEATURES, write_segments(table, tmp_path, 0), state, epoch=1, upto_offset=3)


def changed_project():
    body = PROJECT.model_dump(by_alias=True)
    body["feature"]["item_views"]["windows"] = ("1h", "2d")
    return type(PROJECT).model_validate(body)


def test_releases_share_what_they_agree_on_and_a_new_view_catches_up(tmp_path):
    log = generate(4, n_logs=6)
    table = log.table(PROJECT)
    half = len(table) // 2
    changed = FeatureSet.compile(changed_project(), NEEDS)
    assert changed.version != FEATURES.version
    shared = {v.digest for v in changed.views} & {v.digest for v in FEATURES.views}
    assert len(shared) == len(FEATURES.views) - 1
    state = folded(table)
    with pytest.raises(Unavailable, match="hydrate it"):
        StateReader.open(changed, state)
    hydrate(changed, write_segments(table.slice(0, half), tmp_path, 0), state, epoch=0, upto_offset=half - 1)
    with pytest.raises(Unavailable, match=f"at {half - 1}"):
        StateReader.open(changed, state)
    both = Fold([FEATURES, changed], state)
    assert both.position == half - 1
    both.fold(table.slice(half))
    expected = folded(table, features=(FEATURES, changed))
    with StateReader.open(changed, state) as one, StateReader.open(changed, expected) as other:
        t, items = SPAN + START, np.arange(20)
        np.testing.assert_array_equal(one.item_side(1, items, t), other.item_side(1, items, t))
    n = len(rows(state))
    assert Fold([changed], state).drop_others() > 0
    assert len(rows(state)) < n
    with pytest.raises(Unavailable, match="absent"):
        StateReader.open(FEATURES, state)
    StateReader.open(changed, state).close()


def test_a_state_of_no_events_reads_as_such():
    with StateReader.open(FEATURES, MemoryState()) as reader:
        assert (reader.state_offset, reader.newest_at) == (-1, 0)
        side, items = reader.user_side(3, START), reader.item_side(3, np.arange(2), START)
        assert reader.catalog_rows("item", [0]) == [None]
        assert reader.item_side(3, np.arange(0), START).shape == (0, len(FEATURES.item_columns))
    assert all(value == 0 or np.isnan(value) for value in side.features.values())
    assert all(value == 0 or np.isnan(value) for value in items.ravel())
    assert not any(len(h.keys_L) for h in side.histories.values())
    assert not any(len(keys) for keys in side.objects.values())
    assert not any(len(r.keys_N) for r in side.rankings.values())


@pytest.mark.parametrize("seed", range(4))
def test_the_users_own_unfolded_events_count_for_the_user_alone(seed):
    log = generate(seed, n_logs=6, n_events=50)
    table = log.table(PROJECT)
    half = len(table) // 2
    state = folded(table.slice(0, half))
    t = int(table.column("available_at")[-1].as_py()) + 1
    plain = {name for name in (c.name for c in FEATURES.columns) if "user" not in FEATURES.column(name).entities}
    with StateReader.open(FEATURES, state) as reader:
        for user in range(24):
            mine = table.filter(pa.array(table.column("user").to_numpy() == user))
            near = reader.with_tail(mine)
            seen = [e for e in log.events if e["offset"] < half]
            own = [e for e in log.events if e["offset"] < half or e["user"] == user]
            row = {"t": t, "user": user, "item": user // 4 * 5 + seed % 3}
            got = read_row(FEATURES, near, row)
            # Which category the item has is the item's side: the state's.
            keys = {e: int(near.derived(e, np.array([row["item"]]))[0]) for e in ("category", "creator")}
            with_own = reference(FEATURES, own, [row | keys])[0]
            without = reference(FEATURES, seen, [row | keys])[0]
            for name, value in got.items():
                want = without[name] if name in plain else with_own[name]
                assert value == pytest.approx(want, rel=1e-9, nan_ok=True), name
            late = mine.column("offset").to_numpy()
            assert near.tail_offset == (late[-1] if len(late) and late[-1] >= half else -1)
        nobody = reader.with_tail(table.slice(0, 0))
        assert nobody is reader


def test_lists_and_relations_equal_a_slow_walk_of_the_log():
    log = generate(11, n_logs=10, n_events=60)
    table = log.table(PROJECT)
    t = int(table.column("available_at")[-1].as_py()) + 1
    users = np.arange(-1, 45)
    with StateReader.open(FEATURES, folded(table)) as reader:
        sides = [reader.user_side(int(user), t) for user in users]
    for need in (HISTORY, FOLLOWED):
        for side, user in zip(sides[1:], users[1:], strict=True):
            mine = [e for e in log.events if e["user"] == user and e[need.object] >= 0 and e["type"] in need.events]
            history = side.histories[need]
            assert history.keys_L.tolist() == [e[need.object] for e in mine[-need.n :]]
            assert history.at_L.tolist() == [e["available_at"] for e in mine[-need.n :]]
            assert [need.events[k] for k in history.type_L] == [e["type"] for e in mine[-need.n :]]
        assert not len(sides[0].histories[need].keys_L)
    for need in (LIKED, FOLLOWS):
        found = [side.objects[need].tolist() for side in sides]
        assert any(len(keys) > 1 for keys in found)
        for keys, user in zip(found, users, strict=True):
            assert keys == standing(log.events, need, user)


def standing(events, need, user):
    """Slowly: the objects whose last do or undo, per type, was a do."""
    undo = {"like": "unlike", "follow": "unfollow"}
    now = set()
    for e in events:
        if e["user"] == user and user >= 0 and e[need.object] >= 0:
            if e["type"] in need.events:
                now.add((e["type"], e[need.object]))
            now -= {(do, e[need.object]) for do in need.events if undo.get(do) == e["type"]}
    return sorted({key for _, key in now})


@pytest.mark.parametrize("seed", range(4))
def test_leaderboards_are_what_counting_all_events_gives(seed):
    log = generate(seed, n_logs=12, n_events=60)
    table = log.table(PROJECT)
    t = int(table.column("available_at")[-1].as_py()) + 1
    rng = np.random.default_rng(seed)
    state = folded(table, sorted(rng.integers(0, len(table), 30).tolist()))
    with StateReader.open(FEATURES, state) as reader:
        hot, new = reader.ranking(HOT, t), reader.ranking(NEW, t)
    score, first = {}, {}
    for e in log.events:
        item = e["item"]
        if item >= 0:
            first.setdefault(
                item, e["payload"].get("created_at", e["available_at"]) if e["type"] == "$item" else e["available_at"]
            )
            if e["type"] in HOT.events:
                score[item] = score.get(item, 0.0) + 2.0 ** (-(t - e["available_at"]) / HOT.half_life_us)
    got = dict(zip(hot.keys_N.tolist(), hot.scores_N.tolist(), strict=True))
    assert len(got) == min(HOT.k, len(score))
    assert list(got.values()) == sorted(got.values(), reverse=True)
    best = sorted(score.values(), reverse=True)[: HOT.k]
    # An event's weight moves in steps of half_life / 512, and one 24 half-lives old weighs nothing.
    for key, value in got.items():
        if score[key] > 2.0**-20:
            assert value == pytest.approx(score[key], rel=0.002)
    recent = [s for s in best if s > 2.0**-20]
    assert list(got.values())[: len(recent)] == pytest.approx(recent, rel=0.002)
    assert new.keys_N.tolist() == sorted(first, key=lambda k: (-first[k], k))[: NEW.k]
    assert new.scores_N.tolist() == [first[k] for k in new.keys_N.tolist()]


def test_catalog_rows_and_derived_keys_are_the_newest():
    log = generate(2, n_logs=4, n_events=60)
    with StateReader.open(FEATURES, folded(log.table(PROJECT))) as reader:
        keys = np.arange(-1, 20)
        found = reader.catalog_rows("item", keys)
        category = reader.derived("category", keys)
        assert reader.catalog_rows("category", [0]) == [None]
    for key, row, derived in zip(keys.tolist(), found, category.tolist(), strict=True):
        changes = [e for e in log.events if e["type"] == "$item" and e["item"] == key and key >= 0]
        assert row == (changes[-1]["payload"] if changes else None)
        assert derived == (changes[-1]["category"] if changes else -1)
    assert any(found)


def test_once_the_projector_caught_up_the_log_is_not_needed(tmp_path):
    log = generate(9, n_logs=6)
    table = log.table(PROJECT)
    segments = write_segments(table, tmp_path, 9)
    state = LmdbState.open(tmp_path / "state" / "s.mdb")
    Fold([FEATURES], state).fold(table)
    t = int(table.column("available_at")[-1].as_py()) + 1
    frame = [{"t": t, "user": u, "item": i} for u in range(24) for i in (0, u // 4 * 5 + 1)]
    want = reference(FEATURES, log.events, frame)
    for path in segments:
        path.unlink()
    state.close()
    state = LmdbState.open(tmp_path / "state" / "s.mdb", create=False)
    with StateReader.open(FEATURES, state) as reader:
        assert (reader.state_offset, reader.newest_at) == (len(table) - 1, t - 1)
        for row, expected in zip(frame, want, strict=True):
            for name, value in read_row(FEATURES, reader, row).items():
                assert value == pytest.approx(expected[name], rel=1e-9, nan_ok=True), name
    state.close()


def test_tiles_behind_the_longest_window_are_let_go():
    project = parity_project()
    kept = FeatureSet.compile(
        type(project).model_validate(
            {**project.model_dump(by_alias=True), "feature": {"v": project.feature["user_views"].model_dump()}}
        )
    )
    table = generate(1).table(PROJECT).slice(0, 0)
    at = START + np.arange(0, 400) * 6 * HOUR
    body = {f.name: pa.nulls(len(at), f.type) for f in table.schema}
    body |= {e: pa.array(np.zeros(len(at), np.int64)) for e in project.entities}
    body |= {"offset": pa.array(np.arange(len(at))), "available_at": pa.array(at), "type": pa.array(["view"] * len(at))}
    state = MemoryState()
    sizes = []
    fold = Fold([kept], state)
    for a in range(0, len(at), 40):
        fold.fold(pa.table(body).slice(a, 40))
        sizes.append(sum(map(len, rows(state).values())))
    assert sizes[-1] == sizes[-2] == sizes[-3], "a hundred days later, a row is no longer than after thirty"
    with StateReader.open(kept, state) as reader:
        assert reader.user_side(0, int(at[-1]) + 1).features["v_30d"] == 30 * DAY // (6 * HOUR) + 1


def test_the_head_names_the_newest_event():
    table = generate(3, n_logs=5).table(PROJECT)
    with folded(table).read() as txn:
        head = read_head(txn)
    assert (head.offset, head.newest_at, head.epoch) == (len(table) - 1, table.column("available_at")[-1].as_py(), 0)


def test_a_sum_beyond_64_bits_is_told_and_never_wraps(tmp_path):
    values = [2**62, 2**62, 2**62]
    table = generate(3, n_logs=5).table(PROJECT).slice(0, 3)
    kind = next(e for f in PROJECT.feature.values() if f.aggregate == "sum" for e in f.events)
    for name, cells in {"type": [kind] * 3, "value_scaled": values, "user": [1] * 3, "item": [1] * 3}.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(cells, table.schema.field(at).type))
    pq.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(DataError, match="64 bits"):
        folded(table, [1, 2])
    with pytest.raises(DataError, match="64 bits"):
        asof(FEATURES, [tmp_path / "log.parquet"], pa.table({"t": [2**61], "user": [1], "item": [1]}))

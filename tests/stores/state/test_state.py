"""Every state store passes the same suite; what only LMDB does follows."""

import multiprocessing
from contextlib import ExitStack

import pytest

from feedwell.core.errors import Unavailable
from feedwell.stores.state import LmdbState, MemoryState, StateDirectory
from feedwell.stores.state import lmdb as lmdb_state


@pytest.fixture(params=["memory", "lmdb"])
def state(request, tmp_path):
    store = MemoryState() if request.param == "memory" else LmdbState.open(tmp_path / "s.mdb", map_size=1 << 20)
    yield store
    store.close()


def put(state, **rows):
    state.update(lambda txn: txn.put_many([(k.encode(), v.encode()) for k, v in rows.items()]))


def test_rows_come_back_in_the_order_asked_with_the_default_where_missing(state):
    put(state, a="1", b="2")
    with state.read() as txn:
        assert txn.get(b"a") == b"1"
        assert txn.get(b"none") is None
        assert txn.get_many([b"b", b"none", b"a"], b"-") == [b"2", b"-", b"1"]


def test_a_reader_sees_one_moment(state):
    put(state, a="1", b="1")
    with state.read() as before:
        put(state, a="2", c="2")
        state.update(lambda txn: txn.delete_many([b"b"]))
        assert before.get(b"a") == b"1"
        assert before.get(b"b") == b"1"
        assert before.get(b"c") is None
    with state.read() as after:
        assert after.get_many([b"a", b"b", b"c"], b"") == [b"2", b"", b"2"]


def test_a_failing_update_leaves_nothing(state):
    put(state, a="1")

    def half(txn):
        txn.put_many([(b"a", b"2"), (b"b", b"2")])
        txn.delete_prefix(b"a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        state.update(half)
    with state.read() as txn:
        assert dict(txn.scan(b"")) == {b"a": b"1"}


def test_an_update_reads_what_it_wrote(state):
    def apply(txn):
        txn.put_many([(b"a", b"1"), (b"b", b"2")])
        txn.delete_many([b"a", b"never"])
        return txn.get(b"a"), txn.get_many([b"b", b"a"], b"-"), list(txn.scan(b"b"))

    assert state.update(apply) == (None, [b"2", b"-"], [(b"b", b"2")])


def test_a_prefix_is_scanned_and_deleted_and_no_more(state):
    put(state, pa="1", pb="2", q="3", o="4")
    with state.read() as txn:
        assert list(txn.scan(b"p")) == [(b"pa", b"1"), (b"pb", b"2")]
        assert list(txn.scan(b"z")) == []
    assert state.update(lambda txn: txn.delete_prefix(b"p")) == 2
    with state.read() as txn:
        assert [key for key, _ in txn.scan(b"")] == [b"o", b"q"]


def test_sorted_rows_may_stand_before_after_and_among_others(state):
    put(state, m="0")
    for rows in ([(b"x", b"1"), (b"y", b"1")], [(b"a", b"2"), (b"n", b"2")], [(b"m", b"3"), (b"z", b"3")], []):
        state.update(lambda txn, rows=rows: txn.put_sorted(rows))
    with state.read() as txn:
        assert b"".join(key + row for key, row in txn.scan(b"")) == b"a2m3n2x1y1z3"


def test_lmdb_grows_when_it_is_full(tmp_path):
    state = LmdbState.open(tmp_path / "s.mdb", map_size=1 << 16)
    rows = [(i.to_bytes(4, "big"), bytes(1000)) for i in range(2000)]
    state.update(lambda txn: txn.put_many(rows))
    with state.read() as txn:
        assert sum(1 for _ in txn.scan(b"")) == 2000
    state.close()


def _read_after(path, grown, answer):
    state = LmdbState.open(path, map_size=1 << 16, create=False)
    with state.read() as txn:
        answer.put(txn.get(b"a"))
    grown.wait(20)
    with state.read() as txn:
        answer.put(sum(1 for _ in txn.scan(b"k")))


def test_another_process_follows_the_growth(tmp_path):
    path = tmp_path / "s.mdb"
    state = LmdbState.open(path, map_size=1 << 16)
    put(state, a="1")
    spawn = multiprocessing.get_context("spawn")
    grown, answer = spawn.Event(), spawn.Queue()
    reader = spawn.Process(target=_read_after, args=(path, grown, answer))
    reader.start()
    assert answer.get(timeout=30) == b"1"
    state.update(lambda txn: txn.put_many([(b"k%d" % i, bytes(1000)) for i in range(1000)]))
    grown.set()
    assert answer.get(timeout=30) == 1000
    reader.join(20)
    state.close()


def test_a_process_maps_a_file_once(tmp_path):
    first = LmdbState.open(tmp_path / "s.mdb")
    second = LmdbState.open(tmp_path / "s.mdb")
    assert first is second
    first.close()
    put(second, a="1")
    second.close()
    with pytest.raises(Unavailable, match="no online state"):
        LmdbState.open(tmp_path / "other.mdb", create=False)


def test_a_state_that_a_power_cut_may_have_torn_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "s.mdb"
    state = LmdbState.open(path)
    put(state, a="1")
    marker = path.with_name("s.mdb.writing")
    left = marker.read_text()
    state.close()
    assert not marker.exists()
    marker.write_text(left)
    killed = LmdbState.open(path, create=False)
    with killed.read() as txn:
        assert txn.get(b"a") == b"1", "a killed process is no power cut: the machine runs on"
    killed.close()
    monkeypatch.setattr(lmdb_state, "_boot_id", lambda: "a later start")
    marker.write_text(left)
    with pytest.raises(Unavailable, match="when the machine stopped"):
        LmdbState.open(path, create=False)
    with ExitStack() as stack:
        fresh = LmdbState.open(path)
        stack.callback(fresh.close)
        with fresh.read() as txn:
            assert txn.get(b"a") is None


def test_a_kill_while_the_marker_is_written_tears_nothing(tmp_path, monkeypatch):
    path = tmp_path / "s.mdb"
    LmdbState.open(path).close()
    state = LmdbState.open(path)

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            put(state, a="1")
    assert not path.with_name("s.mdb.writing").exists()
    put(state, a="1")
    assert path.with_name("s.mdb.writing").read_text() == lmdb_state._boot_id()
    state.close()


def test_an_epoch_is_swapped_whole(tmp_path):
    folder = StateDirectory(tmp_path / "state.lmdb")
    assert folder.epoch == -1
    with pytest.raises(Unavailable):
        folder.open()
    one = folder.fresh(1)
    put(one, a="1")
    one.close()
    folder.swap(1)
    serving = folder.open()
    two = folder.fresh(2)
    put(two, a="2")
    assert folder.epoch == 1
    folder.swap(2)
    with serving.read() as txn:
        assert txn.get(b"a") == b"1", "who has the old epoch open keeps it"
    reopened = folder.open()
    with reopened.read() as txn:
        assert txn.get(b"a") == b"2"
    assert sorted(p.name for p in folder.folder.iterdir()) == ["current", "epoch-2"]
    with pytest.raises(Unavailable, match="being served"):
        folder.fresh(2)
    for state in (serving, two, reopened):
        state.close()

"""Forgetting: at once, in every reader, also in those that had cached the user."""

from __future__ import annotations

import pyarrow as pa
import pytest

from feedwell.stores.log.tombstones import Tombstones


def test_a_forgotten_user_is_gone_from_every_reader(log, open_log, view):
    other = open_log()
    log.append([view("u1"), view("u2"), view("u1")])
    log.seal(0)
    assert other.ids.lookup("user", ["u1"]).tolist() == [0]
    assert other.ids.names("user", [0]) == ["u1"]
    assert log.forget("u1") == 0
    for reader in (log, other, open_log()):
        assert reader.read(-1, 10)["user"].to_pylist() == [1]
        assert reader.user_tail(0, -1).num_rows == 0
        assert reader.ids.lookup("user", ["u1", "u2"]).tolist() == [-1, 1]
        assert reader.ids.names("user", [0, 1]) == [None, "u2"]
        assert reader.forgotten() == {0}
    assert log.read_all(-1, 10).num_rows == 3


def test_who_comes_back_is_somebody_new(log, open_log, view):
    other = open_log()
    other.append([view("u1")])
    log.forget("u1")
    other.append([view("u1")])
    assert other.ids.lookup("user", ["u1"]).tolist() == [1]
    assert log.read(-1, 10)["user"].to_pylist() == [1]


def test_an_unknown_user_is_nothing_to_forget(log):
    assert log.forget("nobody") == -1
    assert log.forgotten() == set()


def test_the_name_is_not_in_the_file_any_more(log, view):
    name = "somebody-with-a-long-and-rare-name"
    log.append([view(name)])
    log.hot.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert name.encode() in log.hot.path.read_bytes()
    log.forget(name)
    log.hot.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert name.encode() not in log.hot.path.read_bytes()


def test_a_crash_before_the_announcement_is_mended_at_opening(log, open_log, view, monkeypatch):
    log.append([view("u1")])
    monkeypatch.setattr(Tombstones, "_announce", lambda self: (_ for _ in ()).throw(OSError("crash")))
    with pytest.raises(OSError, match="crash"):
        log.forget("u1")
    monkeypatch.undo()
    assert open_log().forgotten() == {0}
    assert log.forgotten() == {0}


def _file() -> pa.Table:
    return pa.table(
        {
            "type": ["$user", "view", "view"],
            "ts": [0, 5, 6],
            "available_at": [0, None, None],
            "user": ["u1", "u1", "u2"],
            "item": [None, "i", "i"],
            "payload": ['{"age":3}', None, None],
        }
    )


@pytest.mark.parametrize("load", ["load_history", "load_live"])
def test_the_same_file_does_not_bring_an_id_back(log, load):
    getattr(log, load)([_file()])
    log.forget("u1")
    size = log.ids.size("user")
    assert getattr(log, load)([_file()]).n_new == 0
    assert log.ids.lookup("user", ["u1"]).tolist() == [-1]
    assert log.ids.size("user") == size


def test_ids_of_rows_that_are_not_stored_get_no_key(log, view):
    log.append([view("u1", event_id="one")])
    same = pa.table({"type": ["view"] * 3, "ts": [5] * 3, "user": ["u2", "u3", "u4"], "event_id": ["one", "x", "x"]})
    assert log.load_history([same]).n_new == 1
    assert log.ids.lookup("user", ["u1", "u2", "u3", "u4"]).tolist() == [0, -1, 1, -1]


def test_forgetting_begins_an_epoch_also_after_a_crash(log, open_log, view, monkeypatch):
    log.append([view("u1"), view("u2")])
    epoch = log.epoch
    log.forget("nobody")
    assert log.epoch == epoch
    log.forget("u1")
    assert (log.epoch, open_log().epoch) == (epoch + 1, epoch + 1)
    monkeypatch.setattr("feedwell.stores.log.log.renew_epoch", lambda log: None)
    log.forget("u2")
    assert log.epoch == epoch + 1
    assert open_log().epoch == epoch + 2
    assert log.epoch == epoch + 2

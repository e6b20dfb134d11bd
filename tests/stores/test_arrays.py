import os
import stat

import numpy as np
import pytest

from feedwell.core.errors import CorruptArtifact
from feedwell.stores.arrays import load_arrays, save_arrays


def test_arrays_come_back_as_they_were_and_read_only(tmp_path):
    arrays = {
        "keys": np.array([2, 3, 5]),
        "x": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2],
        "none": np.empty((0, 4)),
    }
    save_arrays(tmp_path / "a.safetensors", arrays)
    loaded = load_arrays(tmp_path / "a.safetensors", ("keys", "x"))
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
        assert not loaded[name].flags.writeable


def test_equal_arrays_give_equal_bytes(tmp_path):
    a, b = np.arange(5), np.ones(3)
    save_arrays(tmp_path / "one", {"a": a, "b": b})
    save_arrays(tmp_path / "two", {"b": b.copy(), "a": a.copy()})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_who_may_read_is_as_for_any_other_file(tmp_path, umask):
    """Safetensors writes for its own user alone: a server under another one could not read a release."""
    before = os.umask(umask)
    try:
        (tmp_path / "other").touch()
        save_arrays(tmp_path / "a", {"a": np.arange(5)})
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "other")]
    assert modes == [0o666 & ~umask] * 2


def test_what_is_missing_or_damaged_is_named(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(CorruptArtifact, match=r"a\.safetensors"):
        load_arrays(path, ())
    save_arrays(path, {"a": np.arange(5)})
    with pytest.raises(CorruptArtifact, match=r"no array 'b'; it has \['a'\]"):
        load_arrays(path, ("a", "b"))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptArtifact, match="train again"):
        load_arrays(path, ("a",))

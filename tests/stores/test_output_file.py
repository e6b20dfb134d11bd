"""Files that a caller names for a result: what cannot be written is told before the work, and links are followed."""

from __future__ import annotations

import errno
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from feedwell.core.errors import UsageError
from feedwell.stores import durable
from feedwell.stores.durable import output_file, write_atomic


def test_a_link_is_followed_to_the_file_it_names_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "kept.html").write_text("old")
    for target in ("kept.html", "new.html"):
        link = tmp_path / f"to {target}"
        link.symlink_to(target)
        write_atomic(output_file(link, "--html"), b"page")
        assert link.is_symlink()
        assert (tmp_path / target).read_bytes() == b"page"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.html", "new.html", "to kept.html", "to new.html"]


def test_what_is_no_plain_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to pipe").symlink_to("pipe")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "to pipe", "round", "folder"):
        with pytest.raises(UsageError, match=f"--html {re.escape(str(tmp_path / name))}: .* not a plain file"):
            output_file(tmp_path / name, "--html")
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_that_is_missing_or_takes_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere" / "x.html", tmp_path / "file" / "x.html"):
        with pytest.raises(UsageError, match=f"there is no folder {re.escape(str(path.parent))}; make it"):
            output_file(path, "--html")
    with pytest.raises(UsageError, match="name another file"):
        output_file(tmp_path / ("x" * 300), "--html")

    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(durable.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UsageError, match=r"takes no new file \(Permission denied\); name a file in another folder"):
        output_file(tmp_path / "x.html", "--html")


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "x.html"
    path.write_text("old")
    monkeypatch.setattr(durable.os, fails, refuse)
    with pytest.raises(OSError, match="No space left on device"):
        write_atomic(path, b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["x.html"]
    assert path.read_text() == "old"


def test_a_file_that_cannot_be_removed_does_not_hide_why_the_write_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(beside: Path, _: Path) -> None:  # the temporary file is gone, as when its folder was removed
        os.remove(beside)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(durable.os, "replace", vanish)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomic(tmp_path / "x.html", b"new")


def test_threads_that_write_one_file_do_not_take_each_others_away(tmp_path: Path) -> None:
    path, begin = tmp_path / "one", Barrier(4)

    def write(n: int) -> None:
        begin.wait(timeout=30)
        for _ in range(20):
            write_atomic(path, b"%d" % n * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert path.read_bytes() in {b"%d" % n * 1000 for n in range(4)}
    assert [p.name for p in tmp_path.iterdir()] == ["one"]

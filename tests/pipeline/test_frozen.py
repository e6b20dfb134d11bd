"""A project's own files belong to a release: changed, broken or gone in the folder, it serves what it was made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import feedwell.workspace as workspace
from feedwell.cli.doctor import _findings
from feedwell.core import registry
from feedwell.core.clock import HOUR, SECOND, ManualClock
from feedwell.core.errors import CorruptArtifact, ProjectError, UsageError
from feedwell.pipeline.frozen import changed_plugins
from feedwell.pipeline.project_folder import load_project
from feedwell.serving.reload import current, load_release
from feedwell.stores.releases import ReleaseStore

START = 1_700_000_000 * SECOND
PROJECT = """
plugins = ["parts/mine.py"]

[project]
name = "own"

[data]
events = "events.jsonl"
exposure = ["view"]

[event.view]

[objective.view]
events = ["view"]

[source.mine]

[slate]
kind = "top_k"
k = 3
explore = { first = 1, last = 0 }
"""
MINE = """
import numpy as np

from feedwell.core.candidates import Retrieved
from feedwell.core.protocols import PartConfig, serve
from feedwell.core.registry import source


@source("mine")
class Mine:
    class Config(PartConfig):
        k: int = serve(3, ge=1)

    def __init__(self, config, setting):
        self.config = config

    needs = ()

    def __call__(self, request):
        keys = np.arange(3, dtype=np.int64) + FIRST
        return Retrieved(keys_N=keys, scores_N=-keys.astype(float))
"""
LEARNS = """
    def fit(self, data):
        pass

    def save(self, folder):
        (folder / "x.json").write_text("{}")

    def load(self, folder):
        pass
"""


def version(first: int, more: str = "") -> str:
    return MINE.replace("FIRST", str(first)) + more


def telling(path: Path) -> str:
    """Code that leaves a file behind when it is run."""
    return f"\nopen({str(path)!r}, 'w').close()\n"


Open = Callable[[], workspace.Workspace]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """A shop whose one source is a file of its own, opened anew at each call, a second later."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/mine.py").write_text(version(0))
    (tmp_path / "feedwell.toml").write_text(PROJECT)
    rows = [{"type": "view", "user": f"u{n % 3}", "item": f"i{n}", "ts": START + n * SECOND} for n in range(9)]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clock = ManualClock(START + HOUR)

    def call() -> workspace.Workspace:
        clock.advance(SECOND)
        return workspace.open(tmp_path, clock=clock)

    with call() as made:
        made.ingest()
    return call


def feed(opened: Open) -> list[str | None]:
    with opened() as made:
        return list(made.recommend("u0").item_ids)


def released(opened: Open) -> str:
    with opened() as made:
        made.train()
        return made.publish(force=True)


def test_a_release_serves_its_own_code_and_a_rollback_brings_the_old_code_back(opened: Open, tmp_path: Path) -> None:
    first = released(opened)
    assert feed(opened) == ["i0", "i1", "i2"]
    (tmp_path / "parts/mine.py").write_text(version(5))
    assert feed(opened) == ["i0", "i1", "i2"]
    second = released(opened)
    assert feed(opened) == ["i5", "i6", "i7"]
    with opened() as made:
        one, other = (load_release(made.releases, i).base.sources["source.mine"] for i in (first, second))
        assert type(one) is not type(other)
        assert type(one).__qualname__ == type(other).__qualname__
        assert made.releases.read(first).project_digest != made.releases.read(second).project_digest
        assert made.rollback() == first
    assert feed(opened) == ["i0", "i1", "i2"]


def test_what_was_run_is_released_though_the_file_changed_meanwhile(opened: Open, tmp_path: Path) -> None:
    with opened() as made:
        (tmp_path / "parts/mine.py").write_text(version(5))
        made.train()
        champion = made.publish(force=True)
        assert changed_plugins(made.releases, made.releases.read(champion), tmp_path)
    assert feed(opened) == ["i0", "i1", "i2"]


def test_a_worker_needs_nothing_of_the_folder(opened: Open, tmp_path: Path) -> None:
    champion = released(opened)
    (tmp_path / "parts/mine.py").write_text("raise ValueError")
    store = ReleaseStore(tmp_path / ".feedwell")
    assert current(store, tmp_path).release_id == champion
    (tmp_path / "parts/mine.py").unlink()
    assert current(store, tmp_path).release_id == champion
    with pytest.raises(ProjectError, match=r"mine\.py is not there"):
        load_project(tmp_path)


def test_a_changed_copy_is_corrupt(opened: Open, tmp_path: Path) -> None:
    champion = released(opened)
    with opened() as made:
        copy, ran = next((made.state_folder / "artifacts/plugin").rglob("mine.py")), tmp_path / "ran"
        copy.write_text(version(7, telling(ran)))
        with pytest.raises(CorruptArtifact, match=r"mine\.py has sha256"):
            load_release(made.releases, champion)
    assert not ran.exists(), "its checksum is looked at before it is run"


def test_the_bytes_that_are_run_are_those_that_were_checked(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, ran = released(opened), tmp_path / "ran"
    checked = ReleaseStore.open_artifact

    def changed_just_after(store: ReleaseStore, reference: str) -> Path:
        folder = checked(store, reference)
        if reference.startswith("plugin/"):
            (folder / "mine.py").write_text(version(7, telling(ran)))
        return folder

    monkeypatch.setattr(ReleaseStore, "open_artifact", changed_just_after)
    with opened() as made, pytest.raises(CorruptArtifact, match=r"mine\.py has sha256"):
        load_release(made.releases, champion)
    assert not ran.exists()


def test_check_and_doctor_tell_what_differs(opened: Open, tmp_path: Path) -> None:
    champion = released(opened)
    told = {f.about: f.text for f in _findings(tmp_path)}
    assert told["plug-ins"] == "1 files, as the champion has them"
    (tmp_path / "parts/mine.py").write_text(version(5))
    told = {f.about: f.text for f in _findings(tmp_path)}
    assert told["plug-ins"].startswith(f"parts/mine.py differs from the copy that release {champion} serves")


def test_changed_code_needs_no_training_where_nothing_was_fitted(opened: Open, tmp_path: Path) -> None:
    released(opened)
    (tmp_path / "parts/mine.py").write_text(version(5))
    with opened() as made:
        made.publish_config()
    assert feed(opened) == ["i5", "i6", "i7"]
    (tmp_path / "parts/mine.py").write_text(version(5, LEARNS))
    released(opened)
    (tmp_path / "parts/mine.py").write_text(version(6, LEARNS))
    with opened() as made, pytest.raises(UsageError, match=r"source\.mine: the file with its code changed"):
        made.publish_config()


def test_an_edit_within_the_same_second_and_of_the_same_size_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "swift.py"
    path.write_text(version(1).replace("mine", "swift"))
    one = registry.load_plugin(path)
    path.write_text(version(2).replace("mine", "swift"))
    other = registry.load_plugin(path)
    assert one.module != other.module
    assert registry.find("source", "swift", [one.module]) is not registry.find("source", "swift", [other.module])
    assert registry.find("source", "swift") is registry.find("source", "swift", [other.module])
    with pytest.raises(UsageError, match="no source is called 'swift'"):
        registry.find("source", "swift", [])


def test_two_files_of_one_project_and_built_in_parts_keep_their_names_apart(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "parts/again.py").write_text(version(5))
    (tmp_path / "parts/popular.py").write_text(version(5).replace("'mine'", "'popular'").replace('"mine"', '"popular"'))
    text = PROJECT.replace('["parts', '["parts/again.py", "parts/popular.py", "parts', 1)
    (tmp_path / "feedwell.toml").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    said = str(caught.value)
    assert "two sources are called 'mine'" in said
    assert "the source 'popular' is there already" in said

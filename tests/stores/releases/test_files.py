"""Artifacts can't be changed unseen, channels move whole, and the way back stays open."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from feedwell.core.artifact import Release
from feedwell.core.clock import SECOND, ManualClock
from feedwell.core.errors import CorruptArtifact, Unavailable, UsageError
from feedwell.stores.releases import ReleaseStore
from feedwell.stores.releases._checked import checked_json
from feedwell.stores.releases.files import GRACE_S


@pytest.fixture
def clock():
    return ManualClock(1_700_000_000 * SECOND)


@pytest.fixture
def store(tmp_path, clock):
    return ReleaseStore(tmp_path / ".feedwell", clock)


def artifact(store, text="weights", name="als", **keywords):
    def fill(folder):
        (folder / "a.bin").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "b.json").write_text("{}")

    return store.write_artifact("source", name, fill, **keywords)


def release(store, *references, text="project"):
    artifacts = {f"source.s{i}": r for i, r in enumerate(references)}
    made = Release(
        release_id=store.new_release_id(artifacts, text),
        created_at=1,
        artifacts=artifacts,
        project_text=text,
        project_digest="d",
        features_version="f",
    )
    store.write_release(made)
    return made.release_id


def releases(store, clock, n):
    out = []
    for i in range(n):
        clock.advance(SECOND)
        out.append(release(store, artifact(store, f"v{i}")))
    return out


def test_equal_content_has_one_name_and_metrics_do_not_change_it(store):
    first = artifact(store, metrics={"ndcg": 0.1}, cost={"cpu_s": 1.0})
    assert first == artifact(store, metrics={"ndcg": 0.2})
    assert first != artifact(store, "other")
    assert first != artifact(store, config={"factors": 8})
    assert store.manifest(first).metrics == {"ndcg": 0.1}
    assert store.open_artifact(first).joinpath("sub/b.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda d: (d / "a.bin").write_text("weightz"), "a.bin has sha256"),
        (lambda d: (d / "a.bin").unlink(), "a.bin is missing"),
        (lambda d: (d / "more").write_text(""), "more is not in its manifest"),
        (lambda d: (d / "manifest.json").write_text("{"), "manifest.json does not begin with its checksum"),
        (
            lambda d: (d / "manifest.json").write_text(
                (d / "manifest.json").read_text().replace('"cpu_s": 1.0', '"cpu_s": 2.0')
            ),
            "manifest.json has checksum",
        ),
        (lambda d: (d / "manifest.json").write_bytes(checked_json({"kind": 3})), "manifest.json is no manifest"),
    ],
)
def test_a_changed_file_is_named(store, harm, said):
    reference = artifact(store, cost={"cpu_s": 1.0})
    made = release(store, reference)
    harm(store.folder / "artifacts" / reference)
    with pytest.raises(CorruptArtifact, match=said):
        store.open_artifact(reference)
    with pytest.raises(CorruptArtifact):
        store.set_channel("champion", made)
    assert store.channel("champion") is None


def flipped(path):
    """The file with each of its bytes changed in turn; the file as it was afterwards."""
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        yield at
    path.write_bytes(whole)


def test_no_byte_of_a_release_or_a_pointer_changes_unseen(store):
    made = release(store, artifact(store))
    store.set_channel("champion", made)
    for at in flipped(store.folder / "channels/champion"):
        with pytest.raises(CorruptArtifact, match="publish RELEASE --force"):
            pytest.fail(f"byte {at} unseen: {store.channel('champion')}")
    for path in (store.folder / f"releases/{made}/release.json", store.folder / "artifacts/source/als"):
        for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
            for at in flipped(file):
                with pytest.raises(CorruptArtifact, match="train again or roll back"):
                    pytest.fail(f"byte {at} of {file} unseen: {store.verify(made)}")
    assert store.verify(made).release_id == store.channel("champion") == made


def test_a_release_of_before_checksums_or_under_another_name_is_refused(store, clock):
    made, other = releases(store, clock, 2)
    path = store.folder / f"releases/{made}/release.json"
    value = json.loads(path.read_bytes())
    del value["sha256"]
    path.write_text(json.dumps(value))
    with pytest.raises(CorruptArtifact, match="earlier version; train again"):
        store.read(made)
    shutil.copy(store.folder / f"releases/{other}/release.json", path)
    with pytest.raises(CorruptArtifact, match=f"is of release {other}"):
        store.read(made)


def test_a_torn_pointer_can_be_written_anew_and_only_on_demand(store):
    made = release(store, artifact(store))
    store.set_channel("champion", made)
    (store.folder / "channels/champion").write_bytes(b'{"stack": ')
    with pytest.raises(CorruptArtifact):
        store.set_channel("champion", made)
    store.set_channel("champion", made, anew=True)
    assert store.history("champion") == (made,)


def test_a_channel_that_somebody_else_moved_stays_where_it_is(store, clock):
    a, b, c = releases(store, clock, 3)
    store.set_channel("champion", a, replacing=None)
    with pytest.raises(Unavailable, match="it was to leave no release, and points to"):
        store.set_channel("champion", b, replacing=None)
    store.set_channel("champion", b, replacing=a)
    with pytest.raises(Unavailable, match="somebody else moved it"):
        store.rollback("champion", replacing=c)
    assert store.history("champion") == (a, b)


def test_an_unreadable_release_stops_neither_prune_nor_loses_an_artifact(store, clock):
    made = releases(store, clock, 4)
    store.set_channel("champion", made[3])
    for folder in (store.folder / "artifacts/source/als").iterdir():
        os.utime(folder, (0, 0))
    (store.folder / f"releases/{made[2]}/release.json").write_text("rot")
    (store.folder / f"releases/{made[0]}/release.json").write_text("rot")
    assert store.prune(keep=2) == [f"releases/{i}" for i in made[:2]]
    (store.folder / f"releases/{made[2]}/release.json").unlink()
    assert store.prune(keep=2) == []
    store.verify(made[3])


def test_an_artifact_that_is_made_again_is_young_again(store):
    reference = artifact(store)
    os.utime(store.folder / "artifacts" / reference, (0, 0))
    assert artifact(store) == reference
    assert store.prune(keep=1) == []
    release(store, reference)


def test_what_is_pruned_while_it_is_opened_is_gone_not_corrupt(store, monkeypatch):
    reference = artifact(store)

    def pruned_first(path):
        shutil.rmtree(store.folder / "artifacts" / reference, ignore_errors=True)
        return open(path, "rb").read()

    monkeypatch.setattr("feedwell.stores.releases.files.sha256_of", pruned_first)
    with pytest.raises(Unavailable, match="removed meanwhile"):
        store.open_artifact(reference)


def test_training_again_mends_a_corrupt_artifact(store):
    reference = artifact(store)
    (store.folder / "artifacts" / reference / "a.bin").write_text("rot")
    assert artifact(store) == reference
    store.open_artifact(reference)


def test_a_failing_fill_leaves_nothing(store):
    with pytest.raises(RuntimeError):
        store.write_artifact("source", "als", lambda folder: (_ for _ in ()).throw(RuntimeError("no")))
    assert list((store.folder / "artifacts/source/als").iterdir()) == []


def test_a_release_needs_its_artifacts_and_never_changes(store):
    with pytest.raises(Unavailable, match="source/als/0000"):
        release(store, "source/als/0000")
    made = release(store, artifact(store))
    assert store.read(made).artifacts == {"source.s0": artifact(store)}
    with pytest.raises(UsageError, match="never changes"):
        store.write_release(store.read(made))
    with pytest.raises(Unavailable, match=made):
        store.read("nope")


def test_channels_move_and_roll_back_all_the_way(store, clock):
    a, b, c = releases(store, clock, 3)
    assert store.release_ids() == [c, b, a]
    for one in (a, b, b, c):
        store.set_channel("champion", one)
    assert store.history("champion") == (a, b, c)
    assert store.rollback("champion") == b
    assert store.rollback("champion") == a
    with pytest.raises(Unavailable, match="no earlier release"):
        store.rollback("champion")
    assert store.channel("champion") == a
    assert [m["why"] for m in store.moves("champion")] == ["publish"] * 3 + ["rollback"] * 2
    assert store.channel("candidate") is None


def test_a_rollback_to_a_corrupt_release_changes_nothing(store, clock):
    a, b = releases(store, clock, 2)
    store.set_channel("champion", a)
    store.set_channel("champion", b)
    (store.folder / "artifacts" / store.read(a).artifacts["source.s0"] / "a.bin").write_text("rot")
    with pytest.raises(CorruptArtifact):
        store.rollback("champion")
    assert store.channel("champion") == b


def test_prune_keeps_what_channels_and_their_way_back_need(store, clock):
    made = releases(store, clock, 7)
    for one in made[:4]:
        store.set_channel("champion", one)
    for folder in (store.folder / "artifacts/source/als").iterdir():
        os.utime(folder, (0, 0))
    removed = store.prune(keep=2)
    assert set(store.release_ids()) == {made[2], made[3], made[5], made[6]}
    assert sum(name.startswith("artifacts/") for name in removed) == 3
    assert store.rollback("champion") == made[2]
    for one in store.release_ids():
        store.verify(one)


def test_prune_spares_fresh_artifacts_of_a_run_that_is_not_done(store, clock):
    orphan = artifact(store, "orphan")
    old = artifact(store, "old")
    os.utime(store.folder / "artifacts" / old, (0, 0))
    dead = store.folder / "artifacts/source/als/.writing-999999999-ab"
    dead.mkdir()
    alive = store.folder / f"artifacts/source/als/.writing-{os.getpid()}-ab"
    alive.mkdir()
    assert GRACE_S > 0
    assert store.prune(keep=1) == sorted([f"artifacts/{old}", "artifacts/source/als/.writing-999999999-ab"])
    store.open_artifact(orphan)
    assert alive.exists()


def test_prune_killed_half_way_leaves_no_half_release(store, clock, monkeypatch):
    made = releases(store, clock, 3)

    def killed(folder):
        (folder / "release.json").unlink(missing_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.prune(keep=2)
    assert [one.release_id for one in store.releases()] == made[:0:-1]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\0b"])
def test_names_stay_inside_the_folder(store, name):
    with pytest.raises(UsageError):
        store.channel(name)

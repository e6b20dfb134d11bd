"""The file backend: everything is written aside, synced and renamed, so that a kill leaves the old or the new."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from feedwell.core.artifact import Manifest, Release, digest_json
from feedwell.core.clock import Clock, SystemClock
from feedwell.core.errors import CorruptArtifact, Unavailable, UsageError
from feedwell.stores.durable import file_lock, write_atomic
from feedwell.stores.releases._checked import checked_json, read_checked, require_sha256
from feedwell.stores.releases._disk import (
    aside,
    is_abandoned,
    move_into_place,
    now_of_disk,
    remove_whole,
    sha256_of,
    sync_tree,
)

MANIFEST = "manifest.json"
_LOCK = "releases.lock"
MOVES_KEPT = 200
ANY = "*"
"""As `replacing`: whatever the channel points to."""
_MEND = "train again or roll back"
GRACE_S = 3600.0
"""Artifacts younger than this are never pruned: a training run may not have written its release yet."""


class ReleaseStore:
    """Artifacts, releases and channels under one folder (`<project>/.feedwell`). Safe to use from several processes."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.folder = Path(folder)
        self._clock = clock or SystemClock()

    # -- artifacts ---------------------------------------------------------------------------------------------------

    def write_artifact(
        self,
        kind: str,
        name: str,
        fill: Callable[[Path], None],
        *,
        config: Mapping[str, Any] | None = None,
        window: tuple[int, int] = (0, 0),
        metrics: Mapping[str, float] | None = None,
        cost: Mapping[str, float] | None = None,
    ) -> str:
        """The reference "kind/name/digest" of what `fill` wrote into an empty folder. Equal content is stored once."""
        parent = self._inside("artifacts", kind, name)
        with aside(parent) as work:
            fill(work)
            files = {p.relative_to(work).as_posix(): sha256_of(p) for p in sorted(work.rglob("*")) if p.is_file()}
            manifest = Manifest(
                kind=kind,
                name=name,
                files=files,
                config=dict(config or {}),
                window=window,
                metrics=dict(metrics or {}),
                cost=dict(cost or {}),
            )
            (work / MANIFEST).write_bytes(checked_json(manifest.model_dump(mode="json")))
            sync_tree(work)
            reference = f"{kind}/{name}/{manifest.digest}"
            with self._locked():
                target = parent / manifest.digest
                if target.exists() and not self._is_sound(reference):
                    shutil.rmtree(target)
                if target.exists():
                    os.utime(target)  # young again: `prune` must not take it before its new release is written
                else:
                    move_into_place(work, target)
        return reference

    def manifest(self, reference: str) -> Manifest:
        """What an artifact says of itself; Unavailable when it is not there, CorruptArtifact when it can't be read."""
        path = self._inside("artifacts", *reference.split("/")) / MANIFEST
        try:
            return Manifest.model_validate(read_checked(path, f"reading artifact {reference}", _MEND))
        except (FileNotFoundError, NotADirectoryError):
            raise Unavailable(f"reading artifact {reference}: {path} is not there; {_MEND}") from None
        except ValidationError as error:
            raise CorruptArtifact(f"reading artifact {reference}: {path} is no manifest: {_told(error)}") from error

    def open_artifact(self, reference: str) -> Path:
        """The artifact's folder, after every file's sha256 was found to be what the manifest says.

        CorruptArtifact names the file that is missing, changed or not in the manifest.
        """
        manifest = self.manifest(reference)
        folder = self._inside("artifacts", *reference.split("/"))
        if manifest.digest != folder.name:
            raise CorruptArtifact(f"opening artifact {reference}: {folder / MANIFEST} was changed after it was written")
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}
        if not (folder / MANIFEST).exists():
            raise Unavailable(f"opening artifact {reference}: it was removed meanwhile")
        for name in sorted(found ^ set(manifest.files)):
            state = "is missing" if name in manifest.files else "is not in its manifest"
            raise CorruptArtifact(f"opening artifact {reference}: {folder / name} {state}")
        for name, expected in manifest.files.items():
            try:
                actual = sha256_of(folder / name)
            except FileNotFoundError:
                raise Unavailable(f"opening artifact {reference}: {folder / name} was removed meanwhile") from None
            require_sha256(f"opening artifact {reference}", folder / name, actual, expected, _MEND)
        return folder

    def read_file(self, reference: str, name: str) -> tuple[Path, bytes]:
        """(path, content) of one file of a sound artifact: the content itself was checked, which is not whatever the
        file holds a moment after `open_artifact`. CorruptArtifact as there, and where the artifact has no such file."""
        path, expected = self.open_artifact(reference) / name, self.manifest(reference).files.get(name, "")
        content = path.read_bytes() if expected else b""
        require_sha256(
            f"opening artifact {reference}",
            path,
            hashlib.sha256(content).hexdigest(),
            expected or "no such file",
            _MEND,
        )
        return path, content

    # -- releases ----------------------------------------------------------------------------------------------------

    def new_release_id(self, artifacts: Mapping[str, str], project_text: str) -> str:
        """A name that sorts by time and tells content apart: `20261121-003131-1f0c9a2b`."""
        at = self._clock.now()
        stamp = datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y%m%d-%H%M%S")
        return f"{stamp}-{digest_json([dict(artifacts), project_text, at])[:8]}"

    def write_release(self, release: Release) -> None:
        """Stores the release; Unavailable when one of its artifacts is not there, UsageError when its id is taken."""
        with self._locked():
            for reference in release.references:
                self.manifest(reference)
            target = self._inside("releases", release.release_id)
            if target.exists():
                raise UsageError(f"a release {release.release_id} is stored already; a release never changes")
            with aside(target.parent) as work:
                (work / "release.json").write_bytes(checked_json(release.model_dump(mode="json")))
                sync_tree(work)
                move_into_place(work, target)

    def read(self, release_id: str) -> Release:
        """A release by its id; Unavailable names the ones there are."""
        path = self._inside("releases", release_id) / "release.json"
        try:
            release = Release.model_validate(read_checked(path, f"reading release {release_id}", _MEND))
        except (FileNotFoundError, NotADirectoryError):
            known = ", ".join(self.release_ids()[:5]) or "none yet: run `feedwell train`"
            raise Unavailable(f"no release is called '{release_id}'; newest first there are: {known}") from None
        except ValidationError as error:
            raise CorruptArtifact(f"reading release {release_id}: {path} is no release: {_told(error)}") from error
        if release.release_id != release_id:
            raise CorruptArtifact(f"reading release {release_id}: {path} is of release {release.release_id}; {_MEND}")
        return release

    def release_ids(self) -> list[str]:
        """All ids, newest first."""
        folder = self.folder / "releases"
        found = [p.name for p in folder.iterdir() if not p.name.startswith(".")] if folder.is_dir() else []
        return sorted(found, reverse=True)

    def releases(self) -> list[Release]:
        """All releases, newest first."""
        return [self.read(release_id) for release_id in self.release_ids()]

    def verify(self, release_id: str) -> Release:
        """The release, after each of its artifacts was opened and found whole."""
        release = self.read(release_id)
        for reference in release.references:
            self.open_artifact(reference)
        return release

    # -- channels ----------------------------------------------------------------------------------------------------

    def channel(self, name: str) -> str | None:
        """The release that a channel points to; None while it points nowhere."""
        stack = self.history(name)
        return stack[-1] if stack else None

    def history(self, name: str) -> tuple[str, ...]:
        """The way back: releases that `rollback` would return to, oldest first; the last one is current."""
        return tuple(self._pointer(name)["stack"])

    def moves(self, name: str) -> tuple[Mapping[str, Any], ...]:
        """Every move of a channel that is still remembered: at (µs), from, to, why."""
        return tuple(self._pointer(name)["moves"])

    def set_channel(
        self, name: str, release_id: str, *, why: str = "publish", replacing: str | None = ANY, anew: bool = False
    ) -> None:
        """Points the channel to a release that was verified just before; nothing changes when that fails.

        Unavailable when the channel does not point to `replacing` (any more). With `anew` a pointer that cannot be read
        is begun again, without a way back.
        """
        with self._locked():
            self.verify(release_id)
            pointer = self._pointer(name, anew=anew)
            current = next(iter(pointer["stack"][-1:]), None)
            _require(name, current, replacing)
            if current != release_id:
                self._move(name, pointer, [*pointer["stack"], release_id], why)

    def rollback(self, name: str, *, replacing: str | None = ANY) -> str:
        """Points the channel to the release before the current one and returns its id; Unavailable without one."""
        with self._locked():
            pointer = self._pointer(name)
            if len(pointer["stack"]) < 2:
                raise Unavailable(f"channel '{name}' has no earlier release to roll back to")
            _require(name, pointer["stack"][-1], replacing)
            self.verify(pointer["stack"][-2])
            self._move(name, pointer, pointer["stack"][:-1], "rollback")
            return str(pointer["stack"][-2])

    def channels(self) -> list[str]:
        folder = self.folder / "channels"
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []

    # -- keeping the disk small --------------------------------------------------------------------------------------

    def retained_ids(self, keep: int) -> list[str]:
        """What a channel or the last `keep` of its way back need, and the `keep` newest; newest first."""
        needed = set(self.release_ids()[:keep])
        for name in self.channels():
            needed |= set(self.history(name)[-keep:])
        return sorted(needed, reverse=True)

    def retained(self, keep: int) -> list[Release]:
        """Those releases; CorruptArtifact or Unavailable when one cannot be read."""
        return [self.read(release_id) for release_id in self.retained_ids(keep)]

    def prune(self, keep: int) -> list[str]:
        """Removes what no retained release needs and returns what was removed. Fresh artifacts stay for an hour.

        While a retained release cannot be read, nobody knows what it needs: all artifacts stay.
        """
        removed: list[str] = []
        with self._locked():
            kept = self.retained_ids(keep)
            for name in self.channels():
                pointer = self._pointer(name)
                stack = [i for i in pointer["stack"] if i in kept]
                if stack != pointer["stack"]:
                    self._write_pointer(name, stack, pointer["moves"])
            for release_id in set(self.release_ids()) - set(kept):
                remove_whole(self._inside("releases", release_id))
                removed.append(f"releases/{release_id}")
            for path in [*self._unneeded_artifacts(kept), *self._abandoned()]:
                remove_whole(path)
                removed.append(path.relative_to(self.folder).as_posix())
        return sorted(removed)

    # -- details -----------------------------------------------------------------------------------------------------

    def _unneeded_artifacts(self, kept: Sequence[str]) -> Iterator[Path]:
        try:
            needed = {reference for release_id in kept for reference in self.read(release_id).references}
        except (CorruptArtifact, Unavailable):
            return
        now = now_of_disk(self.folder / _LOCK)
        for folder in sorted((self.folder / "artifacts").glob("*/*/*")):
            reference = folder.relative_to(self.folder / "artifacts").as_posix()
            hidden = folder.name.startswith(".")
            if not hidden and reference not in needed and now - folder.stat().st_mtime > GRACE_S:
                yield folder

    def _abandoned(self) -> list[Path]:
        """What killed processes were writing or removing."""
        places = ("artifacts/*/*/.*", "releases/.*", "channels/.*")
        return [path for place in places for path in sorted(self.folder.glob(place)) if is_abandoned(path)]

    def _is_sound(self, reference: str) -> bool:
        try:
            self.open_artifact(reference)
        except (CorruptArtifact, Unavailable):
            return False
        return True

    def _pointer(self, name: str, *, anew: bool = False) -> dict[str, Any]:
        path, empty = self._inside("channels", name), dict[str, Any](stack=[], moves=[])
        try:
            pointer = read_checked(
                path, f"reading channel '{name}'", "`feedwell publish RELEASE --force` writes it anew"
            )
        except FileNotFoundError:
            return empty
        except CorruptArtifact:
            if anew:
                return empty
            raise
        return {"stack": [str(i) for i in pointer["stack"]], "moves": list(pointer["moves"])}

    def _move(self, name: str, pointer: Mapping[str, Any], stack: list[str], why: str) -> None:
        before = next(iter(pointer["stack"][-1:]), None)
        moved = {"at": self._clock.now(), "from": before, "to": stack[-1], "why": why}
        self._write_pointer(name, stack, [*pointer["moves"], moved][-MOVES_KEPT:])

    def _write_pointer(self, name: str, stack: list[str], moves: list[Any]) -> None:
        path = self._inside("channels", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, checked_json({"stack": stack, "moves": moves}))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / _LOCK):
            yield

    def _inside(self, *parts: str) -> Path:
        for part in parts:
            if not part or part.startswith(".") or "/" in part or "\\" in part or "\0" in part:
                raise UsageError(f"'{part}' can't name an artifact, a release or a channel: use letters, digits, . _ -")
        return self.folder.joinpath(*parts)


def _require(name: str, current: str | None, replacing: str | None) -> None:
    if replacing not in (ANY, current):
        raise Unavailable(
            f"moving channel '{name}': it was to leave {replacing or 'no release'}, and points to "
            f"{current or 'no release'} by now: somebody else moved it; look at that release and try again"
        )


def _told(error: ValidationError) -> str:
    """One line, without pydantic's link."""
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))

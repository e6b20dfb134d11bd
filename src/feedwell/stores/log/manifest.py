"""`segments.json`: the sealed files that make up the log, its epoch, and the offset up to which hot rows are sealed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson

from feedwell.core.errors import CorruptArtifact
from feedwell.stores.durable import fingerprint, write_atomic

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One immutable Parquet file, in offset order; `catalogs` names the entities whose catalog rows it holds."""

    file: str
    rows: int
    first_offset: int
    last_offset: int
    min_at: int
    max_at: int
    history: bool = False
    catalogs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The sealed log at one moment. Hot rows up to `sealed_upto` are copies that the next seal removes."""

    epoch: int = 0
    sealed_upto: int = -1
    segments: tuple[Segment, ...] = ()
    runs: tuple[str, ...] = ()
    forgets: int = 0
    """How many users had been forgotten when this epoch began: what was folded since leaves them out throughout."""
    format: int = FORMAT

    @property
    def last_offset(self) -> int:
        return max((s.last_offset for s in self.segments), default=-1)

    @property
    def max_at(self) -> int:
        return max((s.max_at for s in self.segments), default=0)

    def adding(self, segments: list[Segment], runs: list[str]) -> Manifest:
        """With more segments, in offset order."""
        return replace(
            self, segments=tuple(sorted((*self.segments, *segments), key=lambda s: s.first_offset)), runs=tuple(runs)
        )

    def dump(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)

    @staticmethod
    def load(content: bytes, path: Path) -> Manifest:
        """CorruptArtifact when the text is not a manifest of a format we know."""
        try:
            found = orjson.loads(content)
            segments = tuple(Segment(**{**s, "catalogs": tuple(s["catalogs"])}) for s in found.pop("segments"))
            manifest = Manifest(**{**found, "segments": segments, "runs": tuple(found["runs"])})
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise CorruptArtifact(f"{path} cannot be read ({error}): restore it from a copy of the log") from error
        if manifest.format != FORMAT:
            raise CorruptArtifact(f"{path} has format {manifest.format}, this version reads {FORMAT}: update feedwell")
        return manifest


@dataclass
class ManifestFile:
    """The current manifest, read again only when the file was replaced (a stat, about 1 µs, otherwise)."""

    path: Path
    _seen: tuple[int, int, int] | None = None
    _manifest: Manifest = field(default_factory=Manifest)

    def current(self) -> Manifest:
        found = fingerprint(self.path)
        if found != self._seen:
            # The fingerprint is taken first: a replacement in between is read twice, never missed.
            self._manifest = Manifest.load(self.path.read_bytes(), self.path) if found else Manifest()
            self._seen = found
        return self._manifest

    def swap(self, manifest: Manifest) -> None:
        write_atomic(self.path, manifest.dump())

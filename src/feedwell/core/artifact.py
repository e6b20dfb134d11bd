"""Artifact, Release, Channel: what training leaves behind and what serving reads, as plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

CHAMPION = "champion"
CANDIDATE = "candidate"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Manifest(_Frozen):
    """`manifest.json` of an artifact directory; its digest names the directory.

    `files` maps each file's relative path to its sha256; `window` is the data it was fitted on, `(from, until)` µs on
    the `available_at` axis; `metrics` and `cost` (cpu_s, wall_s, peak_mb) are what the run saw.
    """

    kind: str
    name: str
    files: Mapping[str, str]
    config: Mapping[str, Any] = Field(default_factory=dict)
    window: tuple[int, int] = (0, 0)
    metrics: Mapping[str, float] = Field(default_factory=dict)
    cost: Mapping[str, float] = Field(default_factory=dict)
    format_version: int = 1

    @property
    def digest(self) -> str:
        """16 hex digits over everything but the metrics and the cost: equal content has an equal name."""
        return digest_json(self.model_dump(mode="json", exclude={"metrics", "cost"}))


class Release(_Frozen):
    """The artifacts that serve together, with the project as it was: whole or absent."""

    release_id: str
    created_at: int
    artifacts: Mapping[str, str]
    """part ("source.als", "ranker") → "kind/name/digest" under `artifacts/`."""
    plugins: Mapping[str, str] = Field(default_factory=dict)
    """The project's own files as they were: path → "plugin/name/digest" under `artifacts/`."""
    project_text: str
    environment: str | None = None
    """The `[environment.<name>]` of that text that it was made under."""
    project_digest: str
    features_version: str
    watermark: int = 0
    """Newest `available_at` that training could see, µs."""
    log_window: tuple[int, int] = (0, 0)
    gates: tuple[Mapping[str, Any], ...] = ()
    judged_against: str | None = None
    """The champion at training, with the digest of its recipe (its project); None: there was none."""
    judged_recipe: str = ""
    metrics: Mapping[str, float] = Field(default_factory=dict)
    parent: str | None = None
    format_version: int = 1

    @property
    def references(self) -> tuple[str, ...]:
        """Every artifact that it needs."""
        return (*self.artifacts.values(), *self.plugins.values())


def digest_json(value: Any) -> str:
    """The first 16 hex digits of sha256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

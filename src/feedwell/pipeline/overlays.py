"""Overlays: a surface or an arm is a whole pipeline of its own, compiled once; what it leaves as it is, is shared.

What overlays set of parts that learn is fitted too: each distinct setting of `fit` keys is one artifact of the release.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

from feedwell.core.artifact import digest_json
from feedwell.core.project import Project
from feedwell.core.protocols import learns
from feedwell.features.definition import FeatureSet
from feedwell.pipeline.compile import (
    Pipeline,
    compile_features,
    compile_pipeline,
    declared_as,
    kind_of,
    make_part,
    part_names,
    variants,
)
from feedwell.pipeline.project_file import variant
from feedwell.pipeline.validation import Finding
from feedwell.pipeline.validation import Path as Place

OUTCOME = ("kind", "events", "where", "within", "after", "given")
"""What an objective's labels are made of; weight, direction and margins are read at serving."""

_WARMED = 200
"""Pipelines of several arms together that are made before the first request."""


class Compiled:
    """One release: its pipelines by overlay, each compiled on first use and kept.

    A part is loaded once for all overlays that declare it alike, so that an arm costs no second copy.
    """

    def __init__(
        self,
        project: Project,
        parts_folder: Mapping[str, Path],
        features: FeatureSet | None = None,
        *,
        release_id: str = "",
        allow_untrained: bool = False,
    ) -> None:
        self.project = project
        self.release_id = release_id
        self.features = features or compile_features(project)
        self._folders = parts_folder
        self._allow_untrained = allow_untrained
        self._lock = threading.Lock()
        self._by_overlay: dict[tuple[str, tuple[tuple[str, str], ...]], Pipeline] = {}
        self._loaded: dict[tuple[str, str], Any] = {}
        self.base = self.pipeline("", {})

    def pipeline(self, surface: str, assignments: Mapping[str, str]) -> Pipeline:
        """The pipeline of that surface and those arms; an undeclared one is the base."""
        arms = {e: a for e, a in assignments.items() if e in self.project.experiment}
        key = (surface if surface in self.project.surface else "", tuple(sorted(arms.items())))
        with self._lock:
            if key not in self._by_overlay:
                self._by_overlay[key] = self._compile(variant(self.project, surface=key[0] or None, assignments=arms))
            return self._by_overlay[key]

    @property
    def followers(self) -> Mapping[str, Any]:
        """artifact → source or ranker, of all overlays compiled so far: one artifact for any `serve` keys."""
        with self._lock:
            pipelines = list(self._by_overlay.values())
        return {name: part for pipeline in reversed(pipelines) for name, part in pipeline.followers.items()}

    def warm(self) -> int:
        """Compiles every surface and arm now, and what arms of several experiments make together up to a bound, so that
        no request pays for it; how many there are."""
        arms = [[(name, arm) for arm in section.arms] for name, section in self.project.experiment.items()]
        together = math.prod(map(len, arms)) * (1 + len(self.project.surface))
        for surface in ("", *self.project.surface):
            self.pipeline(surface, {})
            for one in (one for of in arms for one in of):
                self.pipeline(surface, dict([one]))
            for each in product(*arms) if together <= _WARMED else ():
                self.pipeline(surface, dict(each))
        return len(self._by_overlay)

    def _compile(self, project: Project) -> Pipeline:
        names = {name: artifact_name(self.project, project, name) for name in part_names(project)}
        keys = {name: (kept, declared_as(project, name)) for name, kept in names.items()}
        pipeline = compile_pipeline(
            project,
            {name: self._folders[kept] for name, kept in names.items() if kept in self._folders},
            self.features,
            release_id=self.release_id,
            project_digest=self.project.digest,
            allow_untrained=self._allow_untrained,
            shared={name: self._loaded[key] for name, key in keys.items() if key in self._loaded},
            kept_as={name: kept for name, kept in names.items() if kept != name},
        )
        last = {name: getattr(pipeline, name) for name in ("light", "ranker", "calibration", "value", "slate")}
        for name, part in {**pipeline.sources, **pipeline.filters, **last}.items():
            if part is not None:
                self._loaded[keys[name]] = part
        return pipeline


def artifact_name(base: Project, overlaid: Project, name: str) -> str:
    """What a release calls the artifact of an overlay's part: as the base's, whose it is, unless `fit` keys differ."""
    made_of = _made_of(overlaid, name)
    if name in part_names(base) and _made_of(base, name) == made_of:
        return name
    return f"{name}@{digest_json(made_of)[:8]}"


def fit_config(part: Any) -> dict[str, Any]:
    """The part's `fit` keys and values: what its artifact was made with, and what changed `serve` keys leave alone."""
    kept = {name for name, field in type(part.config).model_fields.items() if _when(field) == "fit"}
    values: dict[str, Any] = part.config.model_dump(mode="json", include=kept)
    return values


def overlaid_artifacts(project: Project) -> dict[str, tuple[Project, str]]:
    """artifact name → (the overlay that needs it, the part's name): all that the base does not have."""
    found: dict[str, tuple[Project, str]] = {}
    for overlaid in variants(project):
        for name in part_names(overlaid):
            kept = artifact_name(project, overlaid, name)
            if kept != name and learns(make_part(overlaid, name)):
                found.setdefault(kept, (overlaid, name))
    return found


def parts_of_all(project: Project, names: Collection[str]) -> Iterator[Any]:
    """The parts of those names as the base and each overlay declare them; equal ones once."""
    made = {
        (name, digest_json(_made_of(p, name))): p for p in variants(project) for name in names if name in part_names(p)
    }
    for (name, _), overlaid in made.items():
        yield make_part(overlaid, name)


def overlay_findings(project: Project) -> Iterator[Finding]:
    """What surfaces and arms may not set: what labels are made of, a ranker that the base does not have, and `fit` keys
    of a part of which another that may meet them sets some too."""
    layers = list(_layers(project))
    for at, _, overlaid in layers:
        if project.ranker is None and overlaid.ranker is not None:
            yield Finding((*at, "ranker"), "the base has no [ranker], so there are no rows to fit one on", "a [ranker]")
        for name, objective in overlaid.objective.items():
            base = project.objective.get(name)
            changed = [k for k in OUTCOME if base is None or getattr(base, k) != getattr(objective, k)]
            if changed:
                told = f"sets {', '.join(changed)}: labels are the same for all who are compared"
                yield Finding((*at, "objective", name), told, "weight, direction or margins")
    for (at, one_sees, one), (other_at, other_sees, other) in combinations(layers, 2):
        if not one_sees.keys() & other_sees.keys():
            both = variant(project, surface=(one_sees | other_sees).pop("", None), assignments=one_sees | other_sees)
            for name in (name for name in part_names(both) if name != "calibration"):  # follows from its ranker's
                apart = {artifact_name(project, p, name) for p in (project, one, other) if name in part_names(p)}
                if artifact_name(project, both, name) not in apart and learns(make_part(both, name)):
                    told = f"sets `fit` keys of {name}, and so does {'.'.join(map(str, at))}, which may meet it"
                    yield Finding(other_at, told, "one of the two")


def _layers(project: Project) -> Iterator[tuple[Place, dict[str, str], Project]]:
    """(where it stands, experiment → arm, "" → surface; the project under it)."""
    for surface in project.surface:
        yield ("surface", surface), {"": surface}, variant(project, surface=surface)
    for name, section in project.experiment.items():
        for arm in section.arms:
            yield ("experiment", name, "arms", arm), {name: arm}, variant(project, assignments={name: arm})


def _made_of(project: Project, name: str) -> list[Any]:
    """Kind, code and `fit` keys; a calibration is also made of the ranker whose predictions it was fitted on."""
    names = ("ranker", name) if name == "calibration" else (name,)
    parts = [(make_part(project, n), kind_of(project, n)) for n in names]
    return [[kind, type(part).__module__, fit_config(part)] for part, kind in parts]


def _when(field: Any) -> str:
    extra = field.json_schema_extra
    return str(extra.get("when", "")) if isinstance(extra, dict) else ""

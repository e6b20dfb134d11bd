"""How a part is found: by kind and name, in its folder, in a plug-in file, or through an entry point.

    @source("popular")
    class Popular: ...

There is no list of parts: `names("source")` scans the folder `feedwell/sources`, `find("source", "popular")` imports
`feedwell.sources.popular`. A user's own file is read once with `load_plugin(path)`; packages register under the
entry-point group `feedwell.plugins`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from feedwell.core.errors import UsageError

Part = TypeVar("Part", bound=type)
FOLDERS = {
    "source": "feedwell.sources",
    "filter": "feedwell.filters",
    "scorer": "feedwell.scorers",
    "slate": "feedwell.slates",
    "metric": "feedwell.metrics",
    "aggregate": "feedwell.features.aggregates",
    "embedder": "feedwell.embedders",
    "dataset": "feedwell.data.datasets",
}
_parts: dict[tuple[str, str], type] = {}
_entry_points_read = False


def register(kind: str, name: str) -> Callable[[Part], Part]:
    """The decorator that files a class under a kind and a name; two classes of one name are an error."""

    def file(part: Part) -> Part:
        known = _parts.get((kind, name))
        if kind in ("source", "filter", "scorer", "slate", "embedder") and not hasattr(part, "Config"):
            raise UsageError(f"the {kind} '{name}' has no Config: write `class Config(PartConfig)` inside it")
        if known is not None and (known.__module__, known.__qualname__) != (part.__module__, part.__qualname__):
            raise UsageError(f"two {kind}s are called '{name}': {known.__module__} and {part.__module__}; rename one")
        _parts[kind, name] = part
        type.__setattr__(part, "kind", kind)
        type.__setattr__(part, "name", name)
        return part

    return file


class _Register:
    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __call__(self, name: str) -> Callable[[Part], Part]:
        return register(self._kind, name)


source, filter, scorer, slate, metric, aggregate, embedder, dataset = map(_Register, FOLDERS)


def names(kind: str) -> list[str]:
    """All names of a kind, sorted; built-in ones are named by their files and not imported."""
    _read_entry_points()
    folder = importlib.util.find_spec(FOLDERS[kind])
    found = {name for k, name in _parts if k == kind}
    if folder is not None and folder.submodule_search_locations:
        found |= {m.name for m in pkgutil.iter_modules(folder.submodule_search_locations) if not m.name.startswith("_")}
    return sorted(found)


def find(kind: str, name: str) -> type:
    """The class filed under that kind and name, imported on first use; UsageError names the nearest."""
    _read_entry_points()
    if (kind, name) not in _parts and name.isidentifier() and importlib.util.find_spec(FOLDERS[kind]) is not None:
        module = f"{FOLDERS[kind]}.{name}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    if (kind, name) in _parts:
        return _parts[kind, name]
    near = difflib.get_close_matches(name, names(kind), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"no {kind} is called '{name}'; there are {', '.join(names(kind)) or 'none'}{hint}")


def load_plugin(path: Path) -> None:
    """Runs a user's own file once, so that its decorators register."""
    module_name = f"feedwell_plugin_{path.stem}_{abs(hash(str(path.resolve())))}"
    if module_name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageError(f"plugins: cannot load {path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


def _read_entry_points() -> None:
    global _entry_points_read
    if not _entry_points_read:
        _entry_points_read = True
        for point in importlib.metadata.entry_points(group="feedwell.plugins"):
            point.load()

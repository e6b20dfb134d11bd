"""How a part is found: by kind and name, in its folder, in a plug-in file, or through an entry point.

    @source("popular")
    class Popular: ...

There is no list of parts: `names("source")` scans the folder `feedwell/sources`, `find("source", "popular")` imports
`feedwell.sources.popular`. Packages register under the entry-point group `feedwell.plugins`. A user's own file is read
with `load_plugin(path)`, once for each content: its module is named by its sha256, its parts are seen by those who name
that module, so that the versions of a file that two releases froze live side by side.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
_PLUGIN = "feedwell_plugin_"
_parts: dict[tuple[str, str], type] = {}
_plugins: dict[str, Plugin] = {}
_entry_points_read = False


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A user's own file as it was run: the name of its module, its bytes, and what it registered."""

    module: str
    source: bytes
    parts: dict[tuple[str, str], type]


def register(kind: str, name: str) -> Callable[[Part], Part]:
    """The decorator that files a class under a kind and a name; two classes of one name are an error."""

    def file(part: Part) -> Part:
        plugin = _plugins.get(part.__module__)
        table = _parts if plugin is None else plugin.parts
        known = table.get((kind, name))
        if kind in ("source", "filter", "scorer", "slate", "embedder") and not hasattr(part, "Config"):
            raise UsageError(f"the {kind} '{name}' has no Config: write `class Config(PartConfig)` inside it")
        if known is not None and (known.__module__, known.__qualname__) != (part.__module__, part.__qualname__):
            raise UsageError(f"two {kind}s are called '{name}': {known.__module__} and {part.__module__}; rename one")
        table[kind, name] = part
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


def names(kind: str, plugins: Iterable[str] | None = None) -> list[str]:
    """All names of a kind, sorted; built-in ones are named by their files and not imported.

    `plugins` are the modules of a project's own files; None: of every file that was loaded.
    """
    return sorted(_built_in(kind) | {name for own in _seen(plugins) for k, name in own.parts if k == kind})


def find(kind: str, name: str, plugins: Iterable[str] | None = None) -> type:
    """The class filed under that kind and name, imported on first use; UsageError names the nearest.

    `plugins` as in `names`; of several files the one that was loaded last.
    """
    for own in reversed(_seen(plugins)):
        if (kind, name) in own.parts:
            return own.parts[kind, name]
    _read_entry_points()
    if (kind, name) not in _parts and name.isidentifier() and importlib.util.find_spec(FOLDERS[kind]) is not None:
        module = f"{FOLDERS[kind]}.{name}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    if (kind, name) in _parts:
        return _parts[kind, name]
    known = names(kind, plugins)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"no {kind} is called '{name}'; there are {', '.join(known) or 'none'}{hint}")


def load_plugin(path: Path, source: bytes | None = None) -> Plugin:
    """Runs a user's own file, so that its decorators register; once for each name and content.

    `source`: the bytes to run, of a copy that was checked; None: what the file holds now.
    """
    if source is None:
        if not path.is_file():
            raise UsageError(f"plugins: cannot load {path}: expected a Python file")
        source = path.read_bytes()
    stem = re.sub(r"\W", "_", path.stem)
    module_name = f"{_PLUGIN}{stem}_{hashlib.sha256(source).hexdigest()[:16]}"
    if module_name in _plugins:
        return _plugins[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None:
        raise UsageError(f"plugins: cannot load {path}: expected a file that ends in .py")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    plugin = _plugins[module_name] = Plugin(module=module_name, source=source, parts={})
    try:
        # Not by the spec's loader: that reads the file again, or bytecode cached under the same second and size.
        exec(compile(source, str(path), "exec"), module.__dict__)
        _require_own_names(plugin)
    except BaseException:
        del sys.modules[module_name], _plugins[module_name]
        raise
    return plugin


def source_of(module: str) -> bytes:
    """The bytes that were run as that plug-in."""
    return _plugins[module].source


def require_apart(plugins: Iterable[str]) -> None:
    """UsageError when two files of one project register a part of the same name."""
    owner: dict[tuple[str, str], str] = {}
    for plugin in _seen(plugins):
        for kind, name in plugin.parts:
            other = owner.setdefault((kind, name), plugin.module)
            if other != plugin.module:
                raise UsageError(f"two {kind}s are called '{name}': in {other} and {plugin.module}; rename one")


def _require_own_names(plugin: Plugin) -> None:
    for kind, name in plugin.parts:
        if name in _built_in(kind):
            raise UsageError(f"the {kind} '{name}' is there already, built in or of a package; rename yours")


def _seen(plugins: Iterable[str] | None) -> list[Plugin]:
    return list(_plugins.values()) if plugins is None else [_plugins[module] for module in plugins]


def _built_in(kind: str) -> set[str]:
    _read_entry_points()
    folder = importlib.util.find_spec(FOLDERS[kind])
    found = {name for k, name in _parts if k == kind}
    if folder is not None and folder.submodule_search_locations:
        found |= {m.name for m in pkgutil.iter_modules(folder.submodule_search_locations) if not m.name.startswith("_")}
    return found


def _read_entry_points() -> None:
    global _entry_points_read
    if not _entry_points_read:
        _entry_points_read = True
        for point in importlib.metadata.entry_points(group="feedwell.plugins"):
            point.load()

"""pydantic's errors in our words: one finding for each place, with what was expected and the nearest known key."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

Path = tuple[str | int, ...]
FILE = {"file": True}
"""Validation context of values that come from a project file: a duration needs its unit."""
_OUR_WORDS = (
    ("Input should be |Value error, |a valid (?=string|integer|number|boolean)|, unable to parse.*", ""),
    (r"a valid (dictionary|mapping)( or .*)?|a dictionary or an instance of .*", "a table"),
    ("a valid (tuple|list|array)", "a list"),
    (r"^(string|integer|number|boolean)$", r"a \1"),
    (r"(Dictionary|Tuple|List) should have at least (\d+) items?.*", r"at least \2"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A problem at a path of keys, not yet at a line."""

    path: Path
    message: str
    expected: str = ""
    nearest: str = ""
    is_missing: bool = False


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that looks most like it, or ""."""
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return found[0] if found else ""


def one_of(known: Iterable[str], otherwise: str = "") -> str:
    return f"one of {listed}" if (listed := ", ".join(sorted(known))) else otherwise


def findings_in(
    error: ValidationError, data: Any, model: type, at: Path = (), also: Iterable[str] = ()
) -> Iterator[Finding]:
    """One finding per place; branches of a union come as one. `also`: keys known at the top beside the model's own."""
    by_place: dict[Path, list[Finding]] = {}
    for one in error.errors(include_url=False):
        path = _path_in(data, one["loc"])
        known = [*_keys_at(model, path[:-1]), *(also if len(path) == 1 else ())]
        by_place.setdefault(path, []).append(_finding(one, path, known))
    for path, found in by_place.items():
        expected = " or ".join(dict.fromkeys(f.expected for f in found if f.expected))
        yield dataclasses.replace(found[0], path=(*at, *path), expected=expected)


def _finding(one: Any, path: Path, known: list[str]) -> Finding:
    kind, context = one["type"], one.get("ctx", {})
    if kind == "missing":
        return Finding(path, "is missing", "this key", is_missing=True)
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        near = nearest(path[-1], known)
        return Finding(path, "unknown key", "" if near else one_of(known), near)
    if kind == "value_error":
        return Finding(path, str(context["error"]))
    near = nearest(one["input"], context["expected"].replace("'", " ").split()) if kind == "literal_error" else ""
    expected = one["msg"]
    for theirs, ours in _OUR_WORDS:
        expected = re.sub(theirs, ours, expected)
    return Finding(path, f"{one['input']!r:.100} does not fit", expected.replace("a integer", "an integer"), near)


def _path_in(data: Any, loc: tuple[str | int, ...]) -> Path:
    """The part of pydantic's location that is keys of the data: branches of unions and "[key]" marks are left out."""
    path: list[str | int] = []
    for i, step in enumerate(loc):
        steps: Any = data if isinstance(data, Mapping) else range(len(data)) if isinstance(data, list) else ()
        if step in steps:
            path.append(step)
            data = data[step]
        elif i == len(loc) - 1 and isinstance(data, Mapping) and step != "[key]":
            path.append(step)
    return tuple(path)


def _keys_at(model: Any, path: Path) -> list[str]:
    """Known keys of the table at a path below a type: a model, a dataclass, or a mapping to one."""
    for step in (*path, None):
        model = next(
            (a for a in typing.get_args(model) if dataclasses.is_dataclass(a) or hasattr(a, "model_fields")), model
        )
        fields = {f.alias or name: f.annotation for name, f in getattr(model, "model_fields", {}).items()}
        if step is None:
            return list(fields or getattr(model, "__dataclass_fields__", {}))
        model = fields.get(str(step), model)
    return []

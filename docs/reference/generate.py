"""Writes `feedwell.toml.md` from the typed configuration: run it as a script. A test keeps the page current."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from feedwell.core import project, registry
from feedwell.core.durations import format_duration
from feedwell.core.slate import Explore

TARGET = Path(__file__).parent / "feedwell.toml.md"
HEAD = """\
# Reference: feedwell.toml

Generated from the typed configuration by `docs/reference/generate.py`; don't edit. Durations are text with a unit
(`"36h"`). Unknown keys are refused. `${NAME}` in a text is filled from the environment.
A changed *fit* key needs a new artifact (`feedwell train`), a changed *serve* key only a release (`feedwell publish`).
"""
PARTS = (
    ("source", "Sources", "`[source.<name>]`, with `kind` where the name is your own"),
    ("filter", "Filters", "`[filter.<name>]`, with `kind` where the name is your own"),
    ("scorer", "Scorers", "`[ranker]`, `[calibration]` and `[value]`, by `kind`"),
    ("slate", "Slates", "`[slate]`, by `kind`"),
    (
        "embedder",
        "Embedders",
        "`[embedder.<name>]`, with `kind` where the name is your own; a part's key `embed` names one",
    ),
    ("aggregate", "Aggregates", "`[feature.<name>]`, by `aggregate`"),
)


def reference() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections(), *_explore(), *_parts()])


def _sections() -> Iterator[str]:
    yield "## Sections\n"
    for name, info in project.Project.model_fields.items():
        model, named = _model(info.annotation)
        if model is None:
            described = _docs(project.Project).get(name, "")
            kind = (
                "a text list"
                if name == "plugins"
                else f"`[{name}.<name>]`: dotted or nested keys that overlay the project"
            )
            yield f"### `{name}`\n\n{described or kind}\n"
            continue
        yield f"### `[{name}{'.<name>' if named else ''}]`\n"
        if model.__doc__ and model.__doc__ != BaseModel.__doc__:
            yield f"{_flat(model.__doc__)}\n"
        yield from _table(model)


def _explore() -> Iterator[str]:
    yield "### `[slate] explore`\n"
    yield (
        f"{_flat(Explore.__doc__ or '')} Its keys: "
        + ", ".join(f"`{f.name}` ({f.type}, {f.default})" for f in fields(Explore))
        + ".\n"
    )


def _parts() -> Iterator[str]:
    for kind, title, where in PARTS:
        yield f"## {title}\n\n{where}.\n"
        for name in registry.names(kind):
            found: Any = registry.find(kind, name)
            module = inspect.getmodule(found)
            yield f"### `{name}`\n\n{_flat((module.__doc__ or '').split(chr(10) * 2)[0] if module else '')}\n"
            yield from _table(found.Config)


def _table(model: type[BaseModel]) -> Iterator[str]:
    docs = _docs(model)
    rows = [_row(name, info, docs.get(name, "")) for name, info in model.model_fields.items()]
    if not rows:
        return
    yield "| key | type | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _row(name: str, info: FieldInfo, doc: str) -> str:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    when = f"*{extra['when']}*" if "when" in extra else ""
    cells = [f"`{info.alias or name}`", _type(info), _default(info), " ".join(filter(None, [when, _bounds(info), doc]))]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _bounds(info: FieldInfo) -> str:
    names = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [f"{sign} {getattr(m, key)}" for m in info.metadata for key, sign in names.items() if hasattr(m, key)]
    return ", ".join(found) + ("." if found else "")


def _type(info: FieldInfo) -> str:
    if _is_duration(info):
        return "duration"
    text = info.annotation.__name__ if isinstance(info.annotation, type) else str(info.annotation)
    text = re.sub(r"\b(?:typing|collections\.abc|feedwell\.[\w.]+|builtins)\.", "", text)
    text = re.sub(r"Annotated\[int, BeforeValidator.*?when_used='json'\)\]", "duration", text)
    text = re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace(", ", " or "), text)
    text = re.sub(r"tuple\[(\w+), \.\.\.\]", r"list of \1", text).replace(" | None", "").replace(" | ", " or ")
    return re.sub(r"Mapping\[str, (.*)\]", r"table of \1", text)


def _is_duration(info: FieldInfo) -> bool:
    return any("_from_file_or_code" in repr(m) for m in info.metadata)


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "" if info.default_factory is None else "{}"
    if info.default is None:
        return "none"
    if _is_duration(info) and isinstance(info.default, int):
        return f'`"{format_duration(info.default)}"`'
    if isinstance(info.default, str | int | float | bool | tuple):
        return f"`{json.dumps(info.default)}`"
    return "below"


def _model(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """(the section's model, whether it is one of several named ones)"""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    named = isinstance(origin, type) and issubclass(origin, Mapping)
    for argument in reversed(arguments):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument, named
    return None, named


def _docs(model: type) -> dict[str, str]:
    """Field → the text that stands below it in the source, its bases' included."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
            body = tree.body if isinstance(tree, ast.ClassDef) else []
            for line, below in pairwise(body):
                if (
                    isinstance(line, ast.AnnAssign)
                    and isinstance(below, ast.Expr)
                    and isinstance(below.value, ast.Constant)
                ):
                    found[ast.unparse(line.target)] = _flat(str(below.value.value))
    return found


def _flat(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")

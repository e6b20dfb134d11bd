"""Sections of a project file that say what a world's tables and actions are: the same whoever writes the project."""

from __future__ import annotations

from feedwell.data.world.config import Action, WorldConfig

_UNITS = {"dwell": ("s", 1000), "price": ("money", 100)}
"""What an action's value is → (unit, scale of the exact integer)"""


def tables(config: WorldConfig, folder: str, *, expires: bool = False) -> str:
    """`[data]` and the entities, for the four files under `folder` (escaped for TOML); `expires`: the items say when
    they end."""
    more = 'expires_at = "time"\n' if expires else ""
    return _TABLES.format(
        name=config.name,
        folder=folder,
        expires='expires_at = "expires_at"\n' if expires else "",
        columns=more + ('price = "float"\n' if config.price_median is not None else ""),
    )


def events(config: WorldConfig) -> str:
    """The event types: what was seen, and each action."""
    return "".join(["\n[event.view]\n", *map(_event, config.actions)])


def objective(action: Action, within: str) -> str:
    """The outcome that an action is, `within` that long of having been shown, weighed as the world weighs it."""
    lines = [f"\n[objective.{action.name}]", f'events = ["{action.name}"]', f'within = "{within}"']
    if action.after != "view":
        lines.append(f'given = "{action.after}"')
    if action.weight < 0:
        lines.append('direction = "down"')
    return "\n".join([*lines, f"weight = {abs(action.weight)}"]) + "\n"


def has_follows(config: WorldConfig) -> bool:
    """Whether people act on creators too."""
    return any(action.object == "creator" for action in config.actions)


def _event(action: Action) -> str:
    lines = [f"\n[event.{action.name}]"]
    if action.object != "item":
        lines.append(f'object = "{action.object}"')
    if action.undone_by:
        lines.append(f'undone_by = "{action.undone_by}"')
    if action.value in _UNITS:
        unit, scale = _UNITS[action.value]
        lines += [f'unit = "{unit}"', f"value_scale = {scale}"]
    return "\n".join(lines) + "\n"


_TABLES = """\
# A simulated world: no person and no item of it is real. Written by feedwell; every key may be changed.

[project]
name = "{name}"

[data]
events = "{folder}/events.parquet"
ts_unit = "us"
exposure = ["view"]              # what counts as shown, until our own slates say it

[entity.user]
path = "{folder}/users.parquet"
columns = {{ age_group = "string", country = "string", signup_at = "time" }}
valid_from = "signup_at"
ts_unit = "us"

[entity.creator]                 # a key taken from the item's row; people follow it
from = "item.creator_id"

[entity.category]
from = "item.category"

[entity.item]
path = "{folder}/items.parquet"
valid_from = "created_at"        # an item is not known before it is made
created_at = "created_at"
{expires}group = "creator_id"
text = ["title"]
ts_unit = "us"

[entity.item.columns]
title = "string"
category = "string"
creator_id = "string"
created_at = "time"
{columns}"""

"""A project file for data that nobody has described: each guess with what it was made from, how sure it is, and what
else it might have been. `propose` looks at the data and writes the text; `propose_parts` has what is learnt and served.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from feedwell.core import columns
from feedwell.data.behaviour import Behaviour, entity_name, observe
from feedwell.data.catalogs import Catalog, find_catalogs
from feedwell.data.datasets._text import quoted
from feedwell.data.profile import Table, profile_folder
from feedwell.data.proposal import Found, comment, key, outcomes, said
from feedwell.data.propose_parts import parts
from feedwell.data.roles import event_table, find_roles
from feedwell.data.words import weight_of

_MOST_LEVELS = 11
"""As of a rating from 0 to 10, or by half stars."""
_MOST_HINTS = 3
_RESERVED = frozenset(v for k, v in vars(columns).items() if k.isupper()) | {"user", "item"}


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The text of a project file; `n_left_out` files of the events' form lie beside the one that was named."""

    text: str
    n_left_out: int


def propose(source: Path, project: Path, name: str, given: Mapping[str, str] | None = None) -> Proposal:
    """A project file in folder `project` that reads the events of `source` where they lie.

    DataError where no table of events is found, or a role of its columns is missing or ambiguous: it names the key.
    """
    tables, unread = profile_folder(source)
    events = event_table(tables, None if source.is_dir() else str(source), unread)
    roles = find_roles(events, given or {})
    behaviour = observe(events, roles)
    catalogs, unused = find_catalogs(tables, events, roles)
    found = Found(
        events=events,
        roles=roles,
        behaviour=behaviour,
        catalogs=catalogs,
        outcomes=tuple(outcomes(behaviour)),
        derived=_derived(behaviour, catalogs),
    )
    sections = [
        _head(found, source, name),
        _data(found, project),
        *(_catalog(found, catalog, project) for catalog in catalogs.values()),
        *(_notes(unused + unread)),
        *_entities(found),
        *_events(found),
        *_objectives(found),
        *parts(found),
    ]
    text = "\n\n".join(section.strip("\n") for section in sections if section) + "\n"
    return Proposal(text=text, n_left_out=events.n_left_out)


def left_out(n: int, source: Path) -> str:
    """What to say of files of the same form beside the one that was named."""
    more = "1 more file of its form lies" if n == 1 else f"{n:,} more files of its form lie"
    return f"{more} beside {source.name} and {'is' if n == 1 else 'are'} left out: name the folder to take them all"


def _head(found: Found, source: Path, name: str) -> str:
    b = found.behaviour
    alone = f"\n{comment(left_out(n, source))}" if (n := found.events.n_left_out) else ""
    return f"""
# Proposed by feedwell from {said(source.resolve().name)}: every guess says what it was made from and how sure it is.
# {b.n_events:,} events of {b.n_users:,} users and {b.n_items:,} items over {b.days:.1f} days. Change what you know
# better; `feedwell check` tells every problem at once, docs/reference/feedwell.toml.md has every key.{alone}

[project]
name = {quoted(name)}
timezone = "UTC"                 # of times that do not say theirs; and of days in reports
"""


def _data(found: Found, project: Path) -> str:
    table, roles, b = found.events, found.roles, found.behaviour
    lines = ["[data]", f"events = {_paths(table, project)}", *_form(table)]
    lines += [comment(f"{role}: {guess}") for role, guess in roles.columns.items()]
    pairs = {role: guess.column for role, guess in roles.columns.items()}
    for name in b.other_objects:
        if column := _object_column(table, name):
            pairs[name] = column
            lines.append(comment(f"{name}: likely: it is filled where rows name no item"))
    lines.append(f"columns = {{ {', '.join(f'{key(ours)} = {quoted(theirs)}' for ours, theirs in pairs.items())} }}")
    if roles.type_name is not None:
        lines += ["# type: no column tells one event from another, so all are one", f"type = {quoted(roles.type_name)}"]
    if roles.ts_unit in ("s", "ms", "us"):
        lines.append(f'ts_unit = "{roles.ts_unit}"                    # sure: its numbers are times of our day in it')
    lines += _exposure(found)
    unused = [c for c in table.columns if c not in pairs.values()]
    if unused:
        lines.append(comment(f"not used: {', '.join(unused)}; a column can be typed context: [event.TYPE] context"))
    lines += [comment(text) for text in islice(_ratings(found, unused), _MOST_HINTS)]
    return "\n".join(lines)


def _ratings(found: Found, unused: Sequence[str]) -> Iterator[str]:
    """What may be the events' value, though its name does not say so: numbers of few levels, one on nearly each row."""
    table = found.events
    for name in unused if found.roles.column("value") is None else ():
        told = table.columns[name]
        few = told.kind in ("int", "float") and len(told.values) in range(3, _MOST_LEVELS + 1)
        if few and told.n >= 0.9 * table.n_rows:
            levels = f"numbers of {len(told.values)} levels from {told.low:g} to {told.high:g}"
            yield f"{name}: {levels}: if they say how much somebody liked the item, tell it by --column value={name}"


def _exposure(found: Found) -> Iterator[str]:
    b = found.behaviour
    if b.shown is None:
        yield '# exposure: no event type says "this was shown"; what our sources retrieve and nobody chose stands in'
        return
    others = ", ".join(o.type.name for o in found.outcomes)
    share = b.precedes(b.shown)
    sure = "sure" if share >= 0.9 else ("likely" if share >= 0.5 else "a guess")
    yield comment(f"exposure: {sure}: frequent and passive; {share:.0%} of {others} come after one on the same item")
    yield f"exposure = [{quoted(b.shown.name)}]"


def _form(table: Table) -> Iterator[str]:
    if table.delimiter not in (None, ","):
        yield f"delimiter = {quoted(table.delimiter or ',')}"
    if table.header:
        yield f"header = [{', '.join(map(quoted, table.header))}]   # the files have no header line"


def _paths(table: Table, project: Path) -> str:
    home = project.resolve()

    def told(path: Path) -> str:
        whole = path.resolve()
        return str(whole.relative_to(home) if whole.is_relative_to(home) else whole)

    paths = [file.path for file in table.files]
    suffix = glob.escape(paths[0].suffix)
    beside = sorted(p for p in paths[0].parent.glob(f"*{suffix}") if not p.name.startswith("."))
    if len(paths) > 3 and beside == sorted(paths):
        return quoted(glob.escape(told(paths[0].parent)) + f"/*{suffix}")
    return quoted(told(paths[0])) if len(paths) == 1 else f"[{', '.join(quoted(told(p)) for p in paths)}]"


def _catalog(found: Found, catalog: Catalog, project: Path) -> str:
    entity = catalog.entity
    lines = [
        f"[entity.{entity}]",
        comment(
            f"likely: {catalog.table.name}, {catalog.why['rows']}: {catalog.why['id']}; types by what nearly all cells "
            "are"
        ),
        *_misfits(catalog),
        f"path = {_paths(catalog.table, project)}",
        *_form(catalog.table),
        f"id = {quoted(catalog.id)}",
    ]
    renamed = {ours: theirs for ours, (theirs, _) in catalog.columns.items() if ours != theirs}
    if renamed:
        lines.append(f"rename = {{ {', '.join(f'{o} = {quoted(t)}' for o, t in renamed.items())} }}")
    typed = ", ".join(f'{ours} = "{kind}"' for ours, (_, kind) in catalog.columns.items())
    if typed:
        lines.append(f"columns = {{ {typed} }}")
    if catalog.text:
        lines.append(f"text = [{', '.join(map(quoted, catalog.text))}]   # several words a cell")
    if catalog.group:
        lines.append(f"group = {quoted(catalog.group)}   # a guess by its name: what slates are made diverse by")
    for name in ("created_at", "expires_at", "available"):
        if value := getattr(catalog, name):
            lines.append(f"{name} = {quoted(value)}   # a guess by its name")
    if catalog.valid_from:
        why = catalog.why.get("since", "ids come several times: since when each of their rows holds")
        lines.append(f"valid_from = {quoted(catalog.valid_from)}   # {why}")
    if catalog.ts_unit in ("s", "ms", "us"):
        lines.append(f'ts_unit = "{catalog.ts_unit}"')
    return "\n".join(lines)


def _misfits(catalog: Catalog) -> Iterator[str]:
    """Whose cells will send their rows to quarantine."""
    for ours, (theirs, kind) in catalog.columns.items():
        column = catalog.table.columns[theirs]
        if column.n_misfits and kind != "string":
            rows = "1 cell is" if column.n_misfits == 1 else f"{column.n_misfits:,} cells are"
            yield comment(f'{ours}: {rows} no {kind}: quarantine, row and all; "string" would let them in as text')


def _notes(told: Sequence[str]) -> Iterator[str]:
    if told:
        yield "\n".join(comment(f"not used: {text}") for text in told)


def _derived(behaviour: Behaviour, catalogs: Mapping[str, Catalog]) -> dict[str, str]:
    """The entities that the item's catalog names: a category, a maker."""
    item = catalogs.get("item")
    made: dict[str, str] = {}
    for column in dict.fromkeys((item.group, item.category) if item else ()):
        if column is not None:
            name = entity_name(column)
            name = f"item_{name}" if name in _RESERVED else name
            if name not in made:
                made[name] = column
    return made


def _entities(found: Found) -> Iterator[str]:
    for name, column in found.derived.items():
        yield f"[entity.{name}]                   # a key of its own, so that features and caps can count by it\n" + (
            f'from = "item.{column}"'
        )
    for name in found.behaviour.other_objects:
        if name not in found.derived:
            yield f"[entity.{name}]                   # what some events are about in place of an item"


def _object_column(table: Table, entity: str) -> str | None:
    return next((name for name in table.columns if entity_name(name) == entity), None)


def _events(found: Found) -> Iterator[str]:
    b = found.behaviour
    for event in b.types.values():
        lines = [f"[event.{key(event.name)}]                   # {event.n:,} of {event.n_users:,} users"]
        if event.object != "item":
            lines.append(f"object = {quoted(event.object)}   # its rows name no item")
        if event.name in b.undone_by:
            undo = b.undone_by[event.name]
            share = b.after(event.name, undo).share
            told = f", and {share:.0%} come after one" if event.object == "item" else ""
            lines.append(f"undone_by = {quoted(undo)}   # likely: by its name{told}")
        if event.n_values and event.decimals:
            lines.append(
                f"value_scale = {10**event.decimals}   # values have up to {event.decimals} decimals: kept exactly"
            )
        yield "\n".join(lines)


def _objectives(found: Found) -> Iterator[str]:
    for outcome in found.outcomes:
        lines = [f"[objective.{outcome.name}]", f"events = [{quoted(outcome.type.name)}]"]
        if outcome.where:
            lines.append(f"where = {quoted(outcome.where)}")
        lines.append(f'within = "{outcome.within}"   # {said(outcome.why)}')
        if outcome.down:
            lines.append('direction = "down"   # likely: its name is of something unwelcome')
        why = "usual for its name" if weight_of(outcome.type.name) is not None else "rarer counts more"
        lines.append(f"weight = {outcome.weight:g}   # a guess, {why}: in the slate's value; yours to say")
        yield "\n".join(lines)

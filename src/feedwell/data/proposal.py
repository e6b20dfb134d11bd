"""What a proposed project is made from: everything seen of the data, and the outcomes that follow from it."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from feedwell.data.behaviour import Behaviour, EventType
from feedwell.data.catalogs import Catalog
from feedwell.data.datasets._text import quoted
from feedwell.data.profile import Table
from feedwell.data.roles import Roles
from feedwell.data.words import is_down, weight_of

_STEPS = ("10m", "30m", "1h", "6h", "1d", "3d", "7d", "14d", "30d")
_STEP_S = (600, 1800, 3600, 21600, 86400, 259200, 604800, 1209600, 2592000)
_MOST_OUTCOMES = 8
_LEAST_EVENTS = 20


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An objective to be: the event type, its condition, window and weight, and why."""

    name: str
    type: EventType
    where: str
    within: str
    weight: float
    down: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that was seen, and what follows from it for more than one section."""

    events: Table
    roles: Roles
    behaviour: Behaviour
    catalogs: Mapping[str, Catalog]
    outcomes: tuple[Outcome, ...]
    derived: Mapping[str, str]
    """entity → the item's catalog column that it comes from, ours"""

    @property
    def relevant(self) -> Outcome:
        """What is judged by: the most frequent outcome that is welcome."""
        return next((o for o in self.outcomes if not o.down), self.outcomes[0])


def outcomes(b: Behaviour) -> Iterator[Outcome]:
    """An objective for each event type on items that shows what people want, or do not."""
    usable = [t for t in b.outcomes if t.n >= min(_LEAST_EVENTS, b.n_events)] or list(b.types.values())
    plain = {part_name(event.name) for event in usable}
    taken: set[str] = set()
    for event in usable[:_MOST_OUTCOMES]:
        down = is_down(event.name)
        where, told = _threshold(event) if not down else ("", "")
        if b.shown is not None:
            follows = b.after(b.shown.name, event.name)
            within = at_least(follows.most_s, b)
            half, most = span(follows.half_s), span(follows.most_s)
            why = f"of those after a {b.shown.name} half came within {half}, 95 % within {most}"
        elif len(usable) == 1:
            within, why = "1s", "the event says it at once"
        else:
            within, why = at_least(86400, b), "a guess: nothing says what was shown, so no delay is seen"
        name = part_name(event.name)
        wanted = [n for n in ("like", f"{name}_high") if n not in plain] if where else [name]
        name = _unused([*wanted, name], taken)
        taken.add(name)
        yield Outcome(
            name=name,
            type=event,
            where=where,
            within=within,
            weight=_weight(event, b),
            down=down,
            why="; ".join(filter(None, [told, why])),
        )


def _unused(wanted: Sequence[str], taken: set[str]) -> str:
    """The first that is free; else the last, numbered."""
    numbered = (f"{wanted[-1]}_{n}" for n in itertools.count(2))
    return next(name for name in itertools.chain(wanted, numbered) if name not in taken)


def _threshold(event: EventType) -> tuple[str, str]:
    """For a value of few levels (stars): the condition that about the upper half meets."""
    if len(event.levels) < 3 or event.n_values < 0.9 * event.n or event.high - event.low > 100:
        return "", ""
    above = sum(n for _, n in event.levels)
    for value, n in event.levels:
        if above <= 0.62 * event.n_values and above >= 0.05 * event.n_values:
            return (
                f"value >= {value:g}",
                f"values go from {event.low:g} to {event.high:g}, {above / event.n_values:.0%} are that high",
            )
        above -= n
    return "", ""


def _weight(event: EventType, b: Behaviour) -> float:
    known = weight_of(event.name)
    if known is not None:
        return known
    most = max(t.n for t in b.types.values())
    rare = (most / event.n) ** 0.5
    return max(w for w in (1.0, 2.0, 5.0, 10.0, 20.0) if w <= max(1.0, rare))


def key(name: str) -> str:
    """A name as a TOML key."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


def part_name(text: str) -> str:
    """A text as the name of an objective or a feature: letters, digits and _, no digit first."""
    clean = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_").lower()
    return clean if clean and not clean[0].isdigit() else f"type_{clean}"


def said(text: str) -> str:
    """A text that may stand in a comment."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


def comment(text: str) -> str:
    """A text as lines of comment."""
    return "\n".join(f"# {line}" for line in textwrap.wrap(said(text), 116))


def at_least(seconds: float, behaviour: Behaviour) -> str:
    """The first step that is that long, but at most a tenth of the data's time: later outcomes could not be judged."""
    most = max(600.0, behaviour.days * 8640)
    fits = [step for step, s in zip(_STEPS, _STEP_S, strict=True) if s >= seconds]
    short = [step for step, s in zip(_STEPS, _STEP_S, strict=True) if s <= most]
    return fits[0] if fits and fits[0] in short else short[-1]


def span(seconds: float) -> str:
    """A time for people to read: `1.3 d`, `47 s`."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"

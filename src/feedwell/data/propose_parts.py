"""The learnt and served half of a proposed project: features, sources, filters, ranker, slate, split, evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feedwell.data.behaviour import Behaviour, EventType
from feedwell.data.datasets._text import quoted
from feedwell.data.proposal import Found, comment, part_name, span
from feedwell.data.words import is_shown

_COUNTED = 5
"""So many types, the most frequent, are counted as features: each is a column per window."""
_FEW_REPEATS = 0.05
_SHORT_LIFE_S = 6 * 3600
_LEAST_WARM = 100
_DENSE = 0.1


def parts(found: Found) -> Iterator[str]:
    """The sections from the features on."""
    yield "# What is known at a time, in three readings that agree: for training, online, and rebuilt from history."
    for feature in _features(found):
        yield str(feature)
    yield "# Where candidates come from."
    yield from _sources(found)
    yield from _filters(found)
    yield _ranker(found)
    yield _slate(found)
    yield _split(found.behaviour)
    yield "[train]\nmax_requests = 6000              # moments that the ranker learns from; more takes longer"
    yield _evaluate(found)
    yield '[serving]\nfallback = ["popular"]'


@dataclass(frozen=True, kw_only=True)
class _Feature:
    name: str
    entity: tuple[str, ...]
    aggregate: str
    keys: tuple[str, ...] = ()
    sparse: bool = False

    def __str__(self) -> str:
        entity = quoted(self.entity[0]) if len(self.entity) == 1 else f"[{', '.join(map(quoted, self.entity))}]"
        lines = [f"[feature.{self.name}]", f"entity = {entity}", f"aggregate = {quoted(self.aggregate)}", *self.keys]
        if self.sparse:
            lines.append("allow_sparse = true              # few have any at a time: not a mistake")
        return "\n".join(lines)


def _features(found: Found) -> Iterator[_Feature]:
    b = found.behaviour
    undoing = set(b.undone_by.values())
    counted = [t for t in b.types.values() if t.object == "item" and t.name not in undoing][:_COUNTED]
    for event in counted:
        yield from _counts(event, b)
    for outcome in found.outcomes:
        if b.shown is not None and outcome.type in counted:
            yield _rate("item", outcome.type, b.shown, b)
            yield _rate("user", outcome.type, b.shown, b)
    for event in counted:
        if event.levels and event.n_values > 0.9 * event.n:
            for entity in ("item", "user"):
                yield _Feature(
                    name=part_name(f"{entity}_{event.name}_mean"),
                    entity=(entity,),
                    aggregate="mean",
                    keys=(_of(event),),
                )
    yield from _times(found)
    yield from _of_catalogs(found)
    yield from _pairs(found, counted)


def _counts(event: EventType, b: Behaviour) -> Iterator[_Feature]:
    for entity, n in (("item", b.n_items), ("user", event.n_users)):
        windows = _windows(b)
        sparse = event.n / max(1, n) * _days(windows[0]) / max(b.days, 0.01) < _DENSE
        name = part_name(f"{entity}_{event.name}")
        yield _Feature(
            name=f"{name}_n", entity=(entity,), aggregate="count", keys=(_of(event), _in(windows)), sparse=sparse
        )
        if b.life_s < _SHORT_LIFE_S:
            ever = event.n < _DENSE * b.n_events
            yield _Feature(name=f"{name}_ever", entity=(entity,), aggregate="count", keys=(_of(event),), sparse=ever)


def _rate(entity: str, outcome: EventType, shown: EventType, b: Behaviour) -> _Feature:
    keys = (_of(shown), f"numerator = [{quoted(outcome.name)}]", _in(_windows(b)[-1:]))
    name = part_name(f"{entity}_{outcome.name}_rate")
    return _Feature(name=name, entity=(entity,), aggregate="rate", keys=keys, sparse=True)


def _times(found: Found) -> Iterator[_Feature]:
    item = found.catalogs.get("item")
    since = ('since = "catalog"',) if item is not None and item.valid_from and item.created_at else ()
    yield _Feature(name="item_age", entity=("item",), aggregate="age", keys=since)
    busiest = next(t for t in found.behaviour.types.values() if t.object == "item")
    yield _Feature(name="user_idle", entity=("user",), aggregate="time_since_last", keys=(_of(busiest),))


def _of_catalogs(found: Found) -> Iterator[_Feature]:
    for entity, catalog in found.catalogs.items():
        for column in catalog.numbers():
            filled = catalog.table.columns[catalog.columns[column][0]].n / max(1, catalog.table.n_rows)
            key = (f"column = {quoted(column)}",)
            name = part_name(f"{entity}_{column}")
            yield _Feature(name=name, entity=(entity,), aggregate="column", keys=key, sparse=filled < _DENSE)


def _pairs(found: Found, counted: Sequence[EventType]) -> Iterator[_Feature]:
    b = found.behaviour
    windows = _in(_windows(b)[-2:])
    first = found.relevant.type
    for entity in found.derived:
        name = part_name(f"user_{entity}_{first.name}")
        keys = (_of(first), windows)
        yield _Feature(name=f"{name}_n", entity=("user", entity), aggregate="count", keys=keys, sparse=True)
        if b.shown is not None:
            over = (_of(b.shown), f"numerator = [{quoted(first.name)}]", _in(_windows(b)[-1:]))
            yield _Feature(name=f"{name}_rate", entity=("user", entity), aggregate="rate", keys=over, sparse=True)
    for event in counted[:2]:
        if b.after(event.name, event.name).share > _FEW_REPEATS:
            name = part_name(f"pair_{event.name}_n")
            keys = (_of(event), windows)
            yield _Feature(name=name, entity=("user", "item"), aggregate="count", keys=keys, sparse=True)
    for event in b.types.values():
        if event.object in found.derived and event.name in b.undone_by:
            name = part_name(f"user_{event.name}_{event.object}")
            pair = ("user", event.object)
            yield _Feature(name=name, entity=pair, aggregate="is_active", keys=(_of(event),), sparse=True)


def _sources(found: Found) -> Iterator[str]:
    b = found.behaviour
    item = found.catalogs.get("item")
    chosen = ""
    if b.shown is not None and (is_shown(b.shown.name) or b.precedes(b.shown) >= 0.95):
        liked = [o.type.name for o in found.outcomes if not o.down]
        events = ", ".join(map(quoted, liked))
        chosen = f"\nevents = [{events}]   # not {b.shown.name}: nearly all else follows one, nobody chose it"
    half_life = "30d" if b.days >= 180 else "7d" if b.days >= 45 else "1d" if b.days >= 5 else "6h"
    spanned = f"a guess from the {b.days:.0f} days that the events span"
    yield f'[source.popular]\nk = 100{chosen}\nhalf_life = "{half_life}"   # {spanned}'
    if item is not None and item.created_at:
        yield "[source.fresh]                   # the catalog says when items came\nk = 100"
    yield f"[source.transitions]             # what people touched soon after\nk = 150{chosen}"
    told = "matrix factorisation; a newcomer is folded in at once"
    yield f"[source.als]                     # {told}\nk = 150\nembedding_dim = 32{chosen}"
    yield (
        f"[source.item_knn]                # what goes with what one has\nk = 100{chosen}\n"
        "# [source.ease] is often better and needs 4 bytes x items x items of memory while it is fitted"
    )
    if item is not None:
        told = "a network over histories and what the catalog says: docs/two_tower.md"
        yield _hint(f"[source.two_tower]               # {told}\nk = 100{chosen}")


def _hint(section: str) -> str:
    """A section that holds once its `# ` are taken off."""
    return "\n".join(f"# {line}" for line in section.split("\n"))


def _ranker(found: Found) -> str:
    trees = '[ranker]                         # trees need no scaling and take missing values\nkind = "xgboost"'
    item = found.catalogs.get("item")
    if item is None:
        return trees
    network = 'kind = "mmoe"                  # in place of xgboost: a network that reads histories: docs/mmoe.md'
    if item.text:
        network += '\nembed = "text"                 # with it: an item is known by its words too'
    return f"{trees}\n{_hint(network)}"


def _filters(found: Found) -> Iterator[str]:
    b = found.behaviour
    wanted = found.relevant.type
    done = []
    for outcome in found.outcomes:
        again = b.after(outcome.type.name, wanted.name).share
        if outcome.down or again <= _FEW_REPEATS:
            done.append((outcome.type.name, again))
    if done:
        told = ", ".join(f"{again:.0%} after {name}" for name, again in done)
        names = ", ".join(quoted(name) for name, _ in done)
        why = f"of {wanted.name} events on an item come {told} on it: then it need not be shown again"
        yield f"[filter.seen]\n{comment(why)}\nevents = [{names}]"
    else:
        yield comment(f"no filter on what was seen: {wanted.name} often follows any event on the same item")
    item = found.catalogs.get("item")
    if item is not None and (item.expires_at or item.available):
        yield "[filter.expired]                 # by the catalog's columns of its end or its stock"


def _slate(found: Found) -> str:
    lines = ["[slate]", 'kind = "dpp"', "k = 10", "diversity = 0.1"]
    item = found.catalogs.get("item")
    if item is not None and item.group and item.group != item.category:
        lines += [
            f"cap = {{ per_group = 2 }}          # a guess: no {item.group} more than twice in ten",
            'relax = ["cap"]',
        ]
    lines.append("explore = { first = 6, last = 10, pool = 50, temperature = 0.2, epsilon = 0.05 }   # slots from 1")
    return "\n".join(lines)


def _split(b: Behaviour) -> str:
    seen = f"users stay {span(b.life_s)} in the median; {b.n_warm:,} of {b.n_late:,} late users have earlier events"
    if b.life_s < _SHORT_LIFE_S or b.n_warm < min(_LEAST_WARM, 0.1 * b.n_users):
        why = "too few are known before a cut in time, so people are divided: not causal across users"
        return f'[split]\n{comment(f"{seen}: {why}")}\nby = "user"'
    return f'[split]\n{comment(seen)}\nby = "time"'


def _evaluate(found: Found) -> str:
    relevant = found.relevant
    others = ", ".join(o.name for o in found.outcomes if not o.down and o is not relevant)
    also = f"; or {others}" if others else ""
    lines = [
        "[evaluate]",
        "k = 10",
        f"relevant = {quoted(relevant.name)}   # a guess: the most frequent welcome outcome{also}",
    ]
    if found.behaviour.shown is not None:
        longest = max((relevant.within, _windows(found.behaviour)[-2]), key=_days)
        lines.append(f'horizon = "{longest}"   # outcomes up to this long after a request count')
    return "\n".join(lines)


def _windows(b: Behaviour) -> list[str]:
    if b.days >= 60:
        return ["1d", "7d", "30d"]
    if b.days >= 14:
        return ["6h", "2d", "7d"]
    return ["1h", "6h", "1d"] if b.days >= 3 else ["5m", "30m", "2h"]


def _days(window: str) -> float:
    return float(window[:-1]) * {"m": 1 / 1440, "h": 1 / 24, "d": 1.0, "s": 1 / 86400}[window[-1]]


def _of(event: EventType) -> str:
    return f"events = [{quoted(event.name)}]"


def _in(windows: Sequence[str]) -> str:
    return f"windows = [{', '.join(map(quoted, windows))}]"

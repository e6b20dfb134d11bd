"""What an incoming event or catalog row must look like; what does not is told why, never dropped.

One checker for HTTP and for catalog files; event files are checked by the same rules written as SQL (`ingest_sql`).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from feedwell.core.event import (
    CATALOG_PREFIX,
    EXACT_BELOW,
    MAX_ID_BYTES,
    MAX_PAYLOAD_BYTES,
    SERVED,
    RawEvent,
    catalog_type,
    id_text,
    plain_id,
)
from feedwell.core.project import ColumnType, EntitySection, Project

MAX_TYPE_LENGTH = 64
MAX_VALUE = 2.0**48
"""Of a scaled value: any sum of 32 thousand such, and of ever more that are smaller, is exact in 64 bits."""
_TOO_DEEP = "the row cannot be kept as JSON: it is nested too deeply, or has broken Unicode or a huge number"
_SERVED = (
    "type 'served' is what the server itself appends for each slot of its answers: no client may claim an impression;"
    " send what a user saw as a type of its own, such as 'view'"
)
_TEXT_FIELDS = ("unit", "session", "device", "request_id", "surface")
_PLAIN = frozenset({"type", "ts", "event_id", "value", "slot", "context", *_TEXT_FIELDS})
_SECONDS_BELOW, _MILLIS_BELOW, _MICROS_BELOW = 1e11, 1e14, 1e17
_FACTORS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_BOOLEANS = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}
ISO_TIME = (
    r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?\s*$"
)
"""The texts that are read as times, by HTTP and in files alike; whatever else one of the two knows is refused."""
_NUMBER = re.compile(r"^\s*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?\s*$")


class EventContract:
    """Checks live events of one project; about 3 µs each."""

    def __init__(self, project: Project) -> None:
        self._entities = project.entities
        self._fields = _PLAIN | set(project.entities)
        self._unit, self._zone = project.data.ts_unit, project.project.timezone
        self._max_future = project.data.max_future
        self._context = {name: dict(section.context) for name, section in project.event.items()}
        self._scales = {name: section.value_scale for name, section in project.event.items()}

    def __call__(self, row: Mapping[str, Any], now: int) -> RawEvent | str:
        """The event, or why it is refused. `ts` may be left out: then it happened now."""
        try:
            return self._read(row, now)
        except ValueError as error:
            return str(error)
        except RecursionError:
            return _TOO_DEEP

    def _read(self, row: Mapping[str, Any], now: int) -> RawEvent:
        kind = row.get("type")
        if kind is None or kind == "":
            raise ValueError("type is missing")
        if not isinstance(kind, str):
            raise ValueError(f"type must be a text, not {kind!r:.60}")
        if kind[0] == CATALOG_PREFIX or len(kind) > MAX_TYPE_LENGTH:
            raise ValueError(f"type must not begin with {CATALOG_PREFIX} nor exceed {MAX_TYPE_LENGTH} characters")
        if kind == SERVED:
            raise ValueError(_SERVED)
        if not row.keys() <= self._fields:
            raise ValueError(f"unknown field {min(row.keys() - self._fields)!r}; typed extras belong in 'context'")
        ids = {name: read_id(name, row[name]) for name in self._entities if row.get(name) is not None}
        if "user" not in ids:
            raise ValueError("user is missing")
        event_id, slot, context = row.get("event_id"), row.get("slot"), row.get("context")
        if slot is not None and (type(slot) is not int or not 0 <= slot < 2**31):
            raise ValueError(f"slot must be a whole number from 0 on, not {slot!r}")
        return RawEvent(
            type=kind,
            ts=self._ts(row.get("ts"), now),
            ids=ids,
            event_id=None if event_id is None else read_id("event_id", event_id, plain=False),
            value=None if row.get("value") is None else self._value(kind, row["value"]),
            unit=_text(row, "unit"),
            session=_text(row, "session"),
            device=_text(row, "device"),
            request_id=_text(row, "request_id"),
            slot=slot,
            surface=_text(row, "surface"),
            payload=self._read_context(kind, context) if context else {},
        )

    def _ts(self, cell: Any, now: int) -> int:
        if cell is None:
            return now
        ts = read_time(cell, self._unit, self._zone)
        if ts > now + self._max_future:
            raise ValueError(f"ts is {(ts - now) // 1_000_000} s ahead of the clock")
        return ts

    def _value(self, kind: str, cell: Any) -> float:
        if isinstance(cell, bool) or not isinstance(cell, int | float):
            raise ValueError(f"value must be a number, not {cell!r:.60}")
        if not abs(cell) * self._scales.get(kind, 1) < MAX_VALUE:
            raise ValueError(f"value is not finite or too large: {cell!r:.60}")
        return float(cell)

    def _read_context(self, kind: str, context: Any) -> dict[str, Any]:
        declared = self._context.get(kind, {})
        if not isinstance(context, Mapping):
            raise ValueError(f"context must be an object, not {context!r:.60}")
        if unknown := sorted(context.keys() - declared.keys()):
            known = f"it may have {', '.join(sorted(declared))}" if declared else "it declares none"
            raise ValueError(f"context of '{kind}' has {unknown[0]!r:.60}, and {known} ([event.{kind}] context)")
        cells = {name: (declared[name], cell) for name, cell in context.items() if cell is not None}
        return {name: read_cell(name, cell, kind_, self._unit, self._zone) for name, (kind_, cell) in cells.items()}


class RowContract:
    """Checks catalog rows of one entity: whole rows, typed as declared; other columns are kept for display."""

    def __init__(self, project: Project, entity: str) -> None:
        self.entity, self._type = entity, catalog_type(entity)
        self.section = project.entity.get(entity, EntitySection())
        self._max_future = project.data.max_future
        self._zone, self._unit = project.project.timezone, self.section.ts_unit
        self.types = declared_types(self.section)
        self._theirs = {self.section.rename.get(name, name): name for name in self.types}
        self._theirs |= {theirs: ours for ours, theirs in self.section.rename.items()}
        self._id_names = id_names(self.section, entity)
        self.id_name = self._id_names[0]  # as documents and answers name it
        sources = [section.source or "" for section in project.entity.values()]
        named = {*self.section.text, self.section.group, self.section.valid_from}
        named |= {source.partition(".")[2] for source in sources if source.startswith(f"{entity}.")}
        self._declared = {*self._theirs, *self.types, *self.section.rename, *self._id_names, *named}

    def __call__(self, row: Mapping[str, Any], now: int, *, dated: bool = True) -> RawEvent | str:
        """The catalog event, or why the row is refused. `dated`: available since `valid_from`, or 0 without one."""
        try:
            return self._read(row, now, dated)
        except ValueError as error:
            return str(error)
        except RecursionError:
            return _TOO_DEEP

    def _read(self, row: Mapping[str, Any], now: int, dated: bool) -> RawEvent:
        id_name = next((name for name in self._id_names if row.get(name) not in (None, "")), None)
        if id_name is None:
            raise ValueError(self._no_id(row))
        since = 0
        if dated and self.section.valid_from:
            cell = row.get(self.section.valid_from)
            since = read_time(cell, self._unit, self._zone) if cell not in (None, "") else 0
            if since > now + self._max_future:
                raise ValueError(
                    f"{self.section.valid_from} is ahead of the clock: {cell!r:.60}; load the row again once it holds"
                )
        skip = {id_name} if self.section.valid_from in self._theirs else {id_name, self.section.valid_from}
        payload = {}
        for theirs, cell in row.items():
            if theirs not in skip and cell is not None and cell != "":
                ours = self._theirs.get(theirs, theirs)
                kind = self.types.get(ours)
                payload[ours] = _display(cell) if kind is None else read_cell(ours, cell, kind, self._unit, self._zone)
        try:
            size = len(orjson.dumps(payload))
        except TypeError:  # its own limit of depth, a lone surrogate, a whole number of more than 64 bits
            raise ValueError(_TOO_DEEP) from None
        if size > MAX_PAYLOAD_BYTES:
            raise ValueError(f"the row is larger than {MAX_PAYLOAD_BYTES} bytes")
        return RawEvent(
            type=self._type,
            ts=since if dated else now,
            available_at=since if dated else None,
            ids={self.entity: read_id(id_name, row[id_name])},
            payload=payload,
        )

    def _no_id(self, row: Mapping[str, Any]) -> str:
        """That a row has no id; and which of its keys looks like one, under a name that is not declared."""
        wanted = self.id_name
        usual = {f"{self.entity}_id", "id", self.entity}
        near = [name for name in row if name in usual - set(self._id_names)]
        near += difflib.get_close_matches(wanted, [name for name in row if name not in self._theirs], n=1, cutoff=0.7)
        if any(name in row for name in self._id_names) or not near:
            return f"{wanted} is missing"
        return f"{wanted} is missing: the row has {near[0]!r:.60} in its place, but the id's key is '{wanted}'"

    def undeclared(self, row: Mapping[str, Any]) -> set[str]:
        """The keys of a row that the project declares no column for: kept for display as they came."""
        return {name for name, cell in row.items() if cell is not None and name not in self._declared}


def declared_types(section: EntitySection) -> dict[str, ColumnType]:
    """Our column → type: what `columns` says, and what the section's other keys imply."""
    implied: dict[str, ColumnType] = {name: "time" for name in (section.created_at, section.expires_at) if name}
    if section.available:
        implied[section.available] = "bool"
    return {**implied, **section.columns}


def id_names(section: EntitySection, entity: str) -> tuple[str, ...]:
    """Their possible names of the id column."""
    return (section.id,) if section.id else (f"{entity}_id", "id", entity)


def read_id(name: str, cell: Any, *, plain: bool = True) -> str:
    """An outside id; ValueError says why a cell cannot be one. `plain`: texts in their one spelling (ids of things)."""
    if type(cell) is str:
        text: str | None = plain_id(cell) if plain else cell
    else:
        text = None if isinstance(cell, bool) else id_text(cell)
    if not text:
        if isinstance(cell, float) and EXACT_BELOW <= abs(cell) < math.inf:
            raise ValueError(f"{name} is not exact as a number: {cell!r}; send such an id as a text")
        raise ValueError(f"{name} is missing" if cell in ("", None) else f"{name} cannot be read: {cell!r:.60}")
    if len(text) > MAX_ID_BYTES // 4 or not text.isascii():
        try:
            n_bytes = len(text.encode())
        except UnicodeEncodeError:
            raise ValueError(f"{name} is not valid Unicode: {text!a:.60}") from None
        if n_bytes > MAX_ID_BYTES:
            raise ValueError(f"{name} is longer than {MAX_ID_BYTES} bytes")
    return text


def read_time(cell: Any, unit: str = "auto", zone: str = "UTC") -> int:
    """µs UTC of a number (its unit by size when `auto`), an ISO text, a datetime or a date (its midnight in `zone`);
    ValueError when it is none."""
    if isinstance(cell, str):
        if unit == "iso" or not _NUMBER.match(cell):
            return _read_iso(cell, zone)
        cell = int(cell) if cell.strip().lstrip("+-").isdigit() else float(cell)
    if isinstance(cell, date) and not isinstance(cell, datetime):
        cell = datetime.combine(cell, time())
    if isinstance(cell, datetime):
        if cell.tzinfo:
            return _micros(cell)
        # A clock that is set back shows a time twice: the later one counts, as in files. One that it skips: as before.
        return max(_micros(cell.replace(tzinfo=ZoneInfo(zone), fold=fold)) for fold in (0, 1))
    if isinstance(cell, bool) or not isinstance(cell, int | float) or not math.isfinite(cell):
        raise ValueError(f"ts cannot be read: {cell!r:.60}")
    ts = _scale_time(cell, unit)
    if not 0 <= ts < 2**62:
        raise ValueError(f"ts is before 1970 or out of range: {cell!r:.60}")
    return ts


def read_cell(name: str, cell: Any, kind: ColumnType, unit: str = "auto", zone: str = "UTC") -> Any:
    """A catalog or context cell as its declared type; ValueError names the column, the cell and the type."""
    try:
        if kind == "float":
            return _finite(float(cell))
        if kind == "int":
            return _whole(cell)
        if kind == "bool":
            return cell if isinstance(cell, bool) else _BOOLEANS[str(cell).strip().lower()]
        if kind == "time":
            return read_time(cell, unit, zone)
        return read_list(cell) if kind == "list" else _read_text(cell)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise ValueError(f"column {name}: {cell!r:.60} cannot be read as {kind}") from None


def read_list(cell: Any) -> list[str]:
    """A list's parts: JSON, or a text divided by the first of | ; , or blank that it contains.

    >>> read_list("Animation|Children's"), read_list("a b")
    (['Animation', "Children's"], ['a', 'b'])
    """
    if isinstance(cell, str):
        if cell.lstrip().startswith("["):
            return read_list(orjson.loads(cell))
        divider = next((mark for mark in "|;," if mark in cell), None)
        return [part.strip() for part in cell.split(divider) if part.strip()]
    return [str(part) for part in cell]


def _read_text(cell: Any) -> str:
    text = cell if isinstance(cell, str) else id_text(cell)
    if text is None:
        raise ValueError
    text.encode()
    return text


def _display(cell: Any) -> Any:
    if isinstance(cell, datetime):
        return cell.isoformat()
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return cell if isinstance(cell, str | int | float | bool | list) else str(cell)


def _text(row: Mapping[str, Any], name: str) -> str | None:
    cell = row.get(name)
    return None if cell is None or cell == "" else read_id(name, cell, plain=False)


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError
    return number


def _whole(cell: Any) -> int:
    if isinstance(cell, float) or (isinstance(cell, str) and not cell.strip().lstrip("+-").isdigit()):
        number = float(cell)
        if not number.is_integer():
            raise ValueError
        return int(number)
    return int(cell)


def _scale_time(number: float, unit: str) -> int:
    if unit in _FACTORS:
        factor = _FACTORS[unit]
    elif abs(number) < _SECONDS_BELOW:
        factor = 1_000_000
    elif abs(number) < _MILLIS_BELOW:
        factor = 1_000
    elif abs(number) < _MICROS_BELOW:
        factor = 1
    else:
        return int(number) // 1_000
    return number * factor if isinstance(number, int) else round(number * factor)


def _read_iso(text: str, zone: str) -> int:
    try:
        if not re.match(ISO_TIME, text):
            raise ValueError
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"ts cannot be read: {text!r:.60}") from None
    return read_time(found, "iso", zone)


def _micros(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    ts = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if ts < 0:
        raise ValueError(f"ts is before 1970: {moment.isoformat()}")
    return ts

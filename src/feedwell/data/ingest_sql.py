"""Raw event batches in our columns: which of theirs is which, and one SQL statement that types and judges every row.

The rules are those of `contracts.EventContract`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import duckdb
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from feedwell.core import columns as c
from feedwell.core.durations import format_duration
from feedwell.core.errors import DataError
from feedwell.core.event import CATALOG_PREFIX, EXACT_BELOW, MAX_ID_BYTES
from feedwell.core.project import ColumnType, Project
from feedwell.data.contracts import ISO_TIME, MAX_TYPE_LENGTH, MAX_VALUE, read_list
from feedwell.data.ingest_files import SourceFile

REASON = "_reason"
_ALIASES = {c.TS: ("timestamp",), c.TYPE: ("event_type",)}
_TEXT = (c.SESSION, c.DEVICE, c.REQUEST_ID, c.UNIT, c.SURFACE)
_WHOLE = r"^(-?(?:0|[1-9][0-9]*))\.0+$"
"""What `core.event.plain_id` shortens, for DuckDB."""
_CASTS: dict[ColumnType, str] = {
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "string": "VARCHAR",
}


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """Our column → theirs, in one file."""

    columns: Mapping[str, str]
    entities: tuple[str, ...]

    @property
    def ids(self) -> dict[str, str]:
        """Those of `columns` that hold ids: of things, and of the event, its session, its request ..."""
        names = (*self.entities, c.EVENT_ID, *_TEXT)
        return {name: self.columns[name] for name in names if name in self.columns}


class _Context(NamedTuple):
    """A declared context column of one event type."""

    event: str
    name: str
    kind: ColumnType

    @property
    def raw(self) -> str:
        return f"_raw_{self.event}_{self.name}"

    @property
    def typed(self) -> str:
        return f"_context_{self.event}_{self.name}"


def map_columns(project: Project, file: SourceFile) -> Mapped:
    """Which of the file's columns is which of ours; DataError names the file, what it has and lacks, the mend."""
    present = set(file.columns)
    declared = dict(project.data.columns)
    absent = sorted(f"{ours} = '{theirs}'" for ours, theirs in declared.items() if theirs not in present)
    found = {ours: theirs for ours, theirs in declared.items() if theirs in present}
    contexts = {name for section in project.event.values() for name in section.context}
    ours = (c.TYPE, c.TS, c.AVAILABLE_AT, c.EVENT_ID, c.SLOT, c.VALUE, *_TEXT, *project.entities, *contexts)
    for name in ours:
        ids = (f"{name}_id",) if name in project.entities else ()
        candidates = (name, *ids, *_ALIASES.get(name, ()))
        if name not in declared and (theirs := next((x for x in candidates if x in present), None)):
            found[name] = theirs
    needed = [c.USER, c.TS] + ([] if project.data.type else [c.TYPE])
    missing = [name for name in needed if name not in found]
    objects = {project.objects_of(kind) for kind in project.event} | {c.ITEM}
    if not objects & (found.keys() - {c.USER}):
        missing.append(c.ITEM)
    if file.columns and (missing or absent):
        raise DataError(_wrong_header(file, missing, absent))
    if file.format == "jsonl":
        # Only the first lines were looked at: what comes later under our own names is read too.
        found = {**{name: name for name in ours if name != c.TYPE or not project.data.type}, **found}
    return Mapped(columns=found, entities=tuple(project.entities))


class Normaliser:
    """Types and judges batches; one DuckDB connection, in the project's time zone for times without one."""

    def __init__(self, project: Project, now: int, *, delay: int = 0) -> None:
        """`delay` (µs): what `available_at` is assumed to come after `ts` where a row does not say."""
        self._project, self._limit, self._delay = project, now + project.data.max_future, delay
        self._lists = {n for s in project.event.values() for n, kind in s.context.items() if kind == "list"}
        self._db = duckdb.connect()
        self._db.execute(f"SET TimeZone = {_literal(project.project.timezone)}")

    def close(self) -> None:
        self._db.close()

    def __call__(self, table: pa.Table, mapped: Mapped) -> tuple[pa.Table, pa.Table]:
        """(good rows in our columns, their place `_row` and `_reason` of the others)."""
        table = table.append_column("_row", pa.array(range(table.num_rows), pa.int64()))
        for name in self._lists & mapped.columns.keys():
            table = table.append_column(_list_column(name), _as_lists(table[mapped.columns[name]]))
        self._db.register("incoming", table)
        typed = self._db.execute(self._statement(table.schema, mapped)).to_arrow_table()
        self._db.unregister("incoming")
        if typed[REASON].null_count == typed.num_rows:
            return typed.drop_columns([REASON, "_row"]), typed.select(["_row", REASON]).slice(0, 0)
        bad = pc.is_valid(typed[REASON])
        good = typed.filter(pc.invert(bad)).drop_columns([REASON, "_row"])
        return good, typed.filter(bad).select(["_row", REASON])

    def _statement(self, schema: pa.Schema, mapped: Mapped) -> str:
        cells = {name: _cell(theirs, schema.field(theirs).type) for name, theirs in mapped.columns.items()}
        types = {name: schema.field(theirs).type for name, theirs in mapped.columns.items()}
        typed = {c.TYPE: cells.get(c.TYPE, _literal(self._project.data.type or ""))}
        typed[c.TS] = self._time(cells[c.TS], types[c.TS])
        if c.AVAILABLE_AT in cells:
            typed[c.AVAILABLE_AT] = self._time(cells[c.AVAILABLE_AT], types[c.AVAILABLE_AT])
        if c.VALUE in cells:
            typed[c.VALUE] = f"TRY_CAST({cells[c.VALUE]} AS DOUBLE)"
        if c.SLOT in cells:
            typed[c.SLOT] = _whole(cells[c.SLOT], "INTEGER")
        for name in mapped.ids:
            typed[name] = _id(cells[name], types[name], plain=name in self._project.entities)
        raw = {f"_raw_{name}": cells[name] for name in (c.TS, c.AVAILABLE_AT, c.VALUE, c.SLOT) if name in cells}
        odd = {name: types[name] for name in mapped.ids if _may_be_odd(types[name])}
        raw |= {f"_raw_{name}": cells[name] for name in odd}
        contexts = self._contexts(cells)
        raw |= {one.typed: self._cast(one, cells[one.name], types[one.name]) for one in contexts}
        raw |= {one.raw: cells[one.name] for one in contexts}
        inner = ", ".join(f"{text} AS {_quoted(name)}" for name, text in {**typed, **raw}.items())
        payload = self._payload(contexts)
        outer = [*(_quoted(name) for name in typed), *([f"{payload} AS {c.PAYLOAD}"] if payload else [])]
        return (
            f"SELECT {', '.join(outer)}, _row, CASE {' '.join(self._reasons(typed, contexts, odd))} END AS {REASON}"
            f" FROM (SELECT _row, {inner} FROM incoming)"
        )

    def _reasons(
        self, typed: Mapping[str, str], contexts: Sequence[_Context], odd: Mapping[str, pa.DataType]
    ) -> list[str]:
        ids = [name for name in (*self._project.entities, c.EVENT_ID, *_TEXT) if name in typed]
        rules = [
            (f"coalesce({c.TYPE}, '') = ''", "'type is missing'"),
            (
                f"starts_with({c.TYPE}, '{CATALOG_PREFIX}') OR length({c.TYPE}) > {MAX_TYPE_LENGTH}",
                f"'type must not begin with {CATALOG_PREFIX} nor exceed {MAX_TYPE_LENGTH} characters'",
            ),
            *[_odd_id(name, kind) for name, kind in odd.items()],
            ('"user" IS NULL', "'user is missing'"),
            *[
                (f"strlen({_quoted(name)}) > {MAX_ID_BYTES}", f"'{name} is longer than {MAX_ID_BYTES} bytes'")
                for name in ids
            ],
            ("_raw_ts IS NULL", "'ts is missing'"),
            *self._time_rules(c.TS),
        ]
        if c.AVAILABLE_AT in typed:
            rules += [
                (f"_raw_{c.AVAILABLE_AT} IS NOT NULL AND ({test})", r) for test, r in self._time_rules(c.AVAILABLE_AT)
            ]
        if self._delay:
            unsaid = f"_raw_{c.AVAILABLE_AT} IS NULL AND " if c.AVAILABLE_AT in typed else ""
            rules.append(
                (
                    f"{unsaid}{c.TS} > {self._limit - self._delay}",
                    f"'{c.AVAILABLE_AT}, assumed as ts + {format_duration(self._delay)}, is ahead of the clock: ' ||"
                    " _raw_ts::VARCHAR || '; load the row again once it is not, or lower [data] assumed_delay'",
                )
            )
        if c.VALUE in typed:
            rules += [
                ("_raw_value IS NOT NULL AND value IS NULL", "'value must be a number, not: ' || _raw_value::VARCHAR"),
                (
                    f"NOT abs(value) * {self._scale()} < {MAX_VALUE!r}",
                    "'value is not finite or too large: ' || value::VARCHAR",
                ),
            ]
        if c.SLOT in typed:
            rules.append(
                (
                    "_raw_slot IS NOT NULL AND coalesce(slot, -1) < 0",
                    "'slot must be a whole number: ' || _raw_slot::VARCHAR",
                )
            )
        for one in contexts:
            raw, typed_as = _quoted(one.raw), _quoted(one.typed)
            rules.append(
                (
                    f"{c.TYPE} = {_literal(one.event)} AND {raw} IS NOT NULL AND {typed_as} IS NULL",
                    f"'column {one.name}: ' || {raw}::VARCHAR || ' cannot be read as {one.kind}'",
                )
            )
        return [f"WHEN {test} THEN {reason}" for test, reason in rules]

    def _time_rules(self, name: str) -> list[tuple[str, str]]:
        return [
            (f"{name} IS NULL", f"'{name} cannot be read: ' || _raw_{name}::VARCHAR"),
            (f"{name} < 0", f"'{name} is before 1970: ' || _raw_{name}::VARCHAR"),
            (f"{name} > {self._limit}", f"'{name} is ahead of the clock: ' || _raw_{name}::VARCHAR"),
        ]

    def _scale(self) -> str:
        scales = {name: s.value_scale for name, s in self._project.event.items() if s.value_scale != 1}
        cases = " ".join(f"WHEN {_literal(name)} THEN {scale}" for name, scale in scales.items())
        return f"CASE {c.TYPE} {cases} ELSE 1 END" if cases else "1"

    def _contexts(self, cells: Mapping[str, str]) -> list[_Context]:
        return [
            _Context(event, name, kind)
            for event, section in self._project.event.items()
            for name, kind in section.context.items()
            if name in cells
        ]

    def _payload(self, contexts: Sequence[_Context]) -> str:
        pairs: dict[str, list[str]] = {}
        for one in contexts:
            pairs.setdefault(one.event, []).append(f"{_literal(one.name)}, {_quoted(one.typed)}")
        # A merge patch leaves out nulls.
        cases = [
            f"WHEN {_literal(event)} THEN json_merge_patch('{{}}', json_object({', '.join(cells)}))"
            for event, cells in pairs.items()
        ]
        return f"nullif(CASE {c.TYPE} {' '.join(cases)} END::VARCHAR, '{{}}')" if cases else ""

    def _cast(self, one: _Context, cell: str, theirs: pa.DataType) -> str:
        if one.kind == "time":
            return self._time(cell, theirs)
        if one.kind == "list":
            return f"{_quoted(_list_column(one.name))}::JSON"
        return _whole(cell, "BIGINT") if one.kind == "int" else f"TRY_CAST({cell} AS {_CASTS[one.kind]})"

    def _time(self, cell: str, kind: pa.DataType) -> str:
        unit = self._project.data.ts_unit
        if pa.types.is_timestamp(kind) and kind.tz:
            return f"epoch_us({cell})"
        if pa.types.is_temporal(kind):
            return f"epoch_us({cell}::TIMESTAMP::TIMESTAMPTZ)"
        if unit == "iso" and not _is_text(kind):
            return f"epoch_us(TRY_CAST({cell} AS TIMESTAMPTZ))"
        # DuckDB wants the seconds.
        whole = f"regexp_replace({cell}, '^(\\s*[0-9-]+[T ][0-9]+:[0-9]+)([Z+\\s-]|$)', '\\1:00\\2')"
        known = f"regexp_matches({cell}, {_literal(ISO_TIME)})"
        iso = f"CASE WHEN {known} THEN epoch_us(TRY_CAST({whole} AS TIMESTAMPTZ)) END"
        if unit == "iso":
            return iso
        if pa.types.is_integer(kind):
            return _scaled(f"{cell}::HUGEINT", unit, whole=True)
        number = f"TRY_CAST({cell} AS DOUBLE)"
        broken = _scaled(f"CASE WHEN isfinite({number}) THEN {number} END", unit, whole=False)
        if not _is_text(kind):
            return broken
        # DuckDB reads '3.7' as the BIGINT 4: only text without a point is a whole number.
        plain = f"NOT contains({cell}, '.') AND NOT contains(lower({cell}), 'e')"
        digits = f"CASE WHEN {plain} THEN TRY_CAST({cell} AS BIGINT)::HUGEINT END"
        return f"coalesce({_scaled(digits, unit, whole=True)}, {broken}, {iso})"


def _list_column(name: str) -> str:
    return f"_list_{name}"


def _as_lists(cells: pa.ChunkedArray) -> pa.Array:
    """Each cell's parts as a JSON text, by `contracts.read_list` itself: null where there is no cell, or no list."""

    def text(cell: Any) -> str | None:
        try:
            return None if cell in (None, "") else orjson.dumps(read_list(cell)).decode()
        except (ValueError, TypeError):
            return None

    return pa.array([text(cell) for cell in cells.to_pylist()], pa.string())


def _scaled(number: str, unit: str, *, whole: bool) -> str:
    """A number as µs; whole numbers stay exact, others round half to even, as `contracts.read_time` does."""
    times = [f"{number} * {factor}" for factor in (1_000_000, 1_000, 1)]
    seconds, millis, micros = times if whole else [f"round_even({text}, 0)" for text in times]
    if unit != "auto":
        return f"TRY_CAST({ {'s': seconds, 'ms': millis, 'us': micros}[unit] } AS BIGINT)"
    nanos = f"{number} // 1000" if whole else f"floor({number} / 1000)"
    return (
        f"TRY_CAST(CASE WHEN abs({number}) < 1e11::BIGINT THEN {seconds}"
        f" WHEN abs({number}) < 1e14::BIGINT THEN {millis}"
        f" WHEN abs({number}) < 1e17::BIGINT THEN {micros} ELSE {nanos} END AS BIGINT)"
    )


def _whole(cell: str, kind: str) -> str:
    # DuckDB casts '1.5' to 2: only what has no fraction is a whole number.
    number = f"TRY_CAST({cell} AS DOUBLE)"
    return f"CASE WHEN {number} = floor({number}) THEN TRY_CAST({cell} AS {kind}) END"


def _cell(theirs: str, kind: pa.DataType) -> str:
    """Their cell, empty text as null."""
    return f"nullif({_quoted(theirs)}, '')" if _is_text(kind) else _quoted(theirs)


def _may_be_odd(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _odd_id(name: str, kind: pa.DataType) -> tuple[str, str]:
    """(test, reason) for what `contracts.read_id` refuses in columns that are not text."""
    raw = _quoted(f"_raw_{name}")
    if pa.types.is_boolean(kind):
        return f"{raw} IS NOT NULL", f"'{name} cannot be read: ' || {raw}::VARCHAR"
    exact = f"isfinite({raw}) AND abs({raw}) >= {EXACT_BELOW!r}"
    return exact, f"'{name} is not exact as a number: ' || {raw}::VARCHAR || '; send such an id as a text'"


def _id(cell: str, kind: pa.DataType, *, plain: bool) -> str:
    """A cell as an outside id: whole numbers without a point, in full, and where `plain` those that stand as text."""
    if pa.types.is_floating(kind):
        return (
            f"CASE WHEN abs({cell}) < {EXACT_BELOW!r} THEN CASE WHEN {cell} = floor({cell})"
            f" THEN ({cell}::BIGINT)::VARCHAR ELSE {cell}::VARCHAR END END"
        )
    text = f"{cell}::VARCHAR"
    if _is_text(kind) and not plain:
        return text
    if not (_is_text(kind) or pa.types.is_decimal(kind)):
        return text
    # The suffix first: a regular expression on every id would cost a third of the load.
    short = rf"CASE WHEN regexp_matches({text}, '^-0\.0+$') THEN '0' ELSE regexp_replace({text}, '{_WHOLE}', '\1') END"
    return f"CASE WHEN suffix({text}, '.0') OR suffix({text}, '00') THEN {short} ELSE {text} END"


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))


def _wrong_header(file: SourceFile, missing: list[str], absent: list[str]) -> str:
    parts = [f"no column for {', '.join(missing)}"] if missing else []
    parts += [f"no column as in {', '.join(absent)}"] if absent else []
    example = (missing or [c.USER])[0]
    return (
        f"{file.path}: {' and '.join(parts)}. Found: {', '.join(file.columns) or 'nothing'}. Expected: user, item, ts"
        " and type (or <entity>_id), or whatever [data] columns says. Name theirs in feedwell.toml, for example"
        f' [data] columns = {{ {example} = "<their name>" }}; a constant type goes into [data] type, the names of a'
        " file without a header line into [data] header"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

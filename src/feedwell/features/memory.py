"""How much memory a batch reading will need, told before it begins: it holds the events it reads, and does not spill.

The bound is by structure: every array that lives at once, events and rows apart. `benchmarks/bench_features_asof.py`
prints it beside the measured peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from feedwell.core.errors import Unavailable
from feedwell.engines import Engine
from feedwell.features.measures import ActiveTally
from feedwell.features.scan import count_events, entities_of, needs_values, selections_of
from feedwell.features.views import Facts, View

_AXIS, _TYPE, _KEY, _VALUE, _MASK = 16, 2, 8, 9, 1
_PROBE, _SUM, _PACKED = 40, 8, 96
_ROW, _EDGE = 96, 16
BASE = 150_000_000
"""Of the process itself, and of what DuckDB keeps beside a scan's result."""
_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def asof_bytes(views: Sequence[View], n_events: int, n_rows: int, n_columns: int) -> int:
    """At most so much for `n_rows` of a frame against `n_events` that the views name: about 160 bytes an event."""
    return BASE + n_events * (_read(views) + _probed(views)) + n_rows * (_ROW + _EDGE * 12 + 8 * n_columns)


def hydrate_bytes(views: Sequence[View], n_events: int) -> int:
    """At most so much to build the views: the log, one view's order, and its packed rows."""
    return BASE + n_events * (_read(views) + _probed(views) + _PACKED)


def require_memory(what: str, engine: Engine, segments: Sequence[Path], views: Sequence[View], **rows: int) -> None:
    """Unavailable, before anything is read, when the reading would not fit what is free now.

    `rows`: `n_rows` and `n_columns` of the frame for as-of features; none for hydrate.
    """
    free = free_bytes()
    if free is None or not segments:
        return
    n_events = count_events(engine, segments, views)
    need = asof_bytes(views, n_events, **rows) if rows else hydrate_bytes(views, n_events)
    if need > free:
        raise Unavailable(
            f"{what}: {n_events:,} events need about {need / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
            " here; nothing was begun. Declare fewer features, keep a shorter log, or use a machine with more memory"
        )


def free_bytes() -> int | None:
    """What may be taken now, by the machine and by the limit of the container; None where nobody tells."""
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - used))


def _read(views: Sequence[View]) -> int:
    """Bytes an event as it is read, twice: the engine's table, and its columns in order."""
    wheres = {s.where for s in selections_of(views) if s.where}
    columns = _AXIS + _TYPE + _KEY * len(entities_of(views)) + _MASK * len(wheres)
    return 2 * (columns + (_VALUE if needs_values(views) else 0))


def _probed(views: Sequence[View]) -> int:
    """Bytes an event while the widest key tuple is read: its packed order, one cumulative sum a tally, its moves."""
    facts = [view for view in views if isinstance(view, Facts)]
    moves = {r.event for view in facts for r in view.relations}
    widest = max(
        (len([t for t in v.tallies if not isinstance(t, ActiveTally)]) + len(v.cells) for v in facts), default=1
    )
    return _PROBE + _SUM * (widest + len(moves))

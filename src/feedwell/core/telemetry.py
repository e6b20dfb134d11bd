"""Counts and durations, kept by the runner and never by a component: cheap, in process, mergeable."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

_BUCKETS_MS = (0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


class Telemetry:
    """Counters by (name, labels) and histograms of milliseconds; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
        self._gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._histograms: dict[tuple[str, tuple[tuple[str, str], ...]], np.ndarray] = {}

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += n

    def gauge(self, name: str, value: float, **labels: str) -> None:
        with self._lock:
            self._gauges[name, tuple(sorted(labels.items()))] = value

    def observe_ms(self, name: str, ms: float, **labels: str) -> None:
        key = name, tuple(sorted(labels.items()))
        with self._lock:
            row = self._histograms.setdefault(key, np.zeros(len(_BUCKETS_MS) + 2))
            row[bisect_left(_BUCKETS_MS, ms)] += 1
            row[-1] += ms

    def value(self, name: str, **labels: str) -> float:
        """A counter's or gauge's value; 0 when nothing was counted."""
        key = name, tuple(sorted(labels.items()))
        with self._lock:
            return self._gauges[key] if key in self._gauges else self._counts.get(key, 0.0)

    def prometheus(self, constant: Mapping[str, str] | None = None) -> str:
        """Everything in Prometheus' text format."""
        with self._lock:
            counts, gauges = dict(self._counts), dict(self._gauges)
            histograms = {k: v.copy() for k, v in self._histograms.items()}
        lines: list[str] = []
        for kind, table in (("counter", counts), ("gauge", gauges)):
            for name in sorted({n for n, _ in table}):
                suffix = "_total" if kind == "counter" else ""
                lines.append(f"# TYPE feedwell_{name}{suffix} {kind}")
                lines += [
                    f"feedwell_{name}{suffix}{_label_text(lab, constant)} {v:g}"
                    for (n, lab), v in sorted(table.items())
                    if n == name
                ]
        for name in sorted({n for n, _ in histograms}):
            lines.append(f"# TYPE feedwell_{name}_ms histogram")
            for (n, lab), row in sorted(histograms.items(), key=lambda kv: kv[0]):
                if n == name:
                    lines += _histogram_lines(name, lab, row, constant)
        return "\n".join(lines) + "\n"


def _histogram_lines(
    name: str, labels: tuple[tuple[str, str], ...], row: np.ndarray, constant: Mapping[str, str] | None
) -> list[str]:
    total = np.cumsum(row[:-1])
    bounds = [*(f"{b:g}" for b in _BUCKETS_MS), "+Inf"]
    lines = [
        f"feedwell_{name}_ms_bucket{_label_text((*labels, ('le', b)), constant)} {c:g}"
        for b, c in zip(bounds, total, strict=True)
    ]
    text = _label_text(labels, constant)
    return [*lines, f"feedwell_{name}_ms_sum{text} {row[-1]:g}", f"feedwell_{name}_ms_count{text} {total[-1]:g}"]


def _label_text(labels: tuple[tuple[str, str], ...], constant: Mapping[str, str] | None) -> str:
    pairs = [*(constant or {}).items(), *labels]
    escape = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return "{" + ",".join(f'{k}="{v.translate(escape)}"' for k, v in pairs) + "}" if pairs else ""

"""/metrics over all processes: each writes its own text beside the others, and whoever is asked puts them together."""

from __future__ import annotations

import os
from pathlib import Path

from feedwell.core.clock import SECOND, SystemClock
from feedwell.core.telemetry import Telemetry

_STALE_S = 30.0


class MetricsBoard:
    """One small file per process under `.feedwell/metrics`; a process that died is left out after half a minute."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / "metrics"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._own = self._folder / f"{name}.prom"

    def publish(self, telemetry: Telemetry) -> None:
        beside = self._own.with_name(f".{self._own.name}.{os.getpid()}")
        beside.write_text(telemetry.prometheus({"process": self._own.stem}))
        beside.replace(self._own)

    def collected(self) -> str:
        """All processes' lines, each metric's together under one TYPE line, as the format asks."""
        now = SystemClock().now() / SECOND
        texts = [p.read_text() for p in sorted(self._folder.glob("*.prom")) if now - p.stat().st_mtime < _STALE_S]
        return merged(texts)

    def withdraw(self) -> None:
        self._own.unlink(missing_ok=True)


def merged(texts: list[str]) -> str:
    """Several texts in Prometheus' format as one.

    >>> merged(["# TYPE a counter\\na 1\\n", "# TYPE a counter\\na 2\\n"])
    '# TYPE a counter\\na 1\\na 2\\n'
    """
    blocks: dict[str, list[str]] = {}
    for text in texts:
        head = ""
        for line in text.splitlines():
            if line.startswith("# TYPE"):
                head = line
                blocks.setdefault(head, [])
            elif line:
                blocks.setdefault(head, []).append(line)
    return "".join("\n".join([head, *lines] if head else lines) + "\n" for head, lines in blocks.items())

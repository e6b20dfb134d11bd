"""What measurements of sources on files share: reading lines, making the source, its requests, time and memory."""

from __future__ import annotations

import gc
import platform
import re
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from pydantic import ValidationError

from feedwell.core import registry
from feedwell.core.candidates import Float
from feedwell.core.errors import DataError, UsageError
from feedwell.core.needs import HistoryNeed
from feedwell.core.protocols import Setting, learns
from feedwell.core.request import History, Keys, Request, UserSide
from feedwell.pipeline.validation import findings_in

EVENT = "interaction"
PEAK = "peak_mb = peak resident memory of the process while the source was fitted and evaluated"
_WORD = re.compile(r"[^ \t\r\n\v\f]+")


class Meter:
    """Seconds of wall clock for fitting and for evaluating; the process's peak memory over both, MB."""

    fit_s = 0.0
    eval_s = 0.0
    peak_mb = 0.0

    def __init__(self) -> None:
        self._begin = perf_counter()

    def fitted(self) -> None:
        """To be called between the two."""
        self.fit_s = perf_counter() - self._begin

    def stop(self) -> None:
        self.eval_s = perf_counter() - self._begin - self.fit_s
        self.peak_mb = _peak_mb()


@contextmanager
def metered() -> Iterator[Meter]:
    """A meter that runs over the block, from a peak started anew."""
    gc.collect()
    _reset_peak()
    meter = Meter()
    yield meter
    meter.stop()


@dataclass(frozen=True, kw_only=True)
class Result:
    """One source's figures at k; times in seconds of wall clock."""

    source: str
    n_users: int
    k: int
    recall: float
    recall_se: float
    ndcg: float
    mrr: float
    fit_s: float
    eval_s: float
    peak_mb: float

    @staticmethod
    def of(source: str, k: int, meter: Meter, *, recall_U: Float, ndcg: float, mrr: float) -> Result:
        """From the recall of every user; its standard error is over users."""
        n = len(recall_U)
        return Result(
            source=source,
            n_users=n,
            k=k,
            recall=float(recall_U.mean()),
            recall_se=float(recall_U.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"),
            ndcg=ndcg,
            mrr=mrr,
            fit_s=meter.fit_s,
            eval_s=meter.eval_s,
            peak_mb=meter.peak_mb,
        )

    def to_dict(self) -> dict[str, Any]:
        named = {f"recall@{self.k}": self.recall, f"recall@{self.k}_se": self.recall_se, f"ndcg@{self.k}": self.ndcg}
        timed = {"fit_s": round(self.fit_s, 4), "eval_s": round(self.eval_s, 4), "peak_mb": round(self.peak_mb, 1)}
        return {"source": self.source, "n_users": self.n_users, **named, "mrr": self.mrr, **timed}


def read_words(path: Path, expected: str) -> list[tuple[int, list[str]]]:
    """(line number, its words) of every line that has any; DataError names the file and what each line should be."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"reading sequences from {path}: {error}; expected a UTF-8 text file") from error
    # Blanks of ASCII only: an id may hold any other.
    words = [(number, _WORD.findall(line)) for number, line in enumerate(lines, 1) if _WORD.search(line)]
    if not words:
        raise DataError(f"reading sequences from {path}: no line with an item; expected '{expected}' on each line")
    return words


def make_source(bench: str, name: str, k: int, seed: int, options: Mapping[str, Any] | None = None) -> Any:
    """The source of that name, not fitted; UsageError where its keys are wrong or it cannot take part."""
    part: Any = registry.find("source", name)
    config = _config(bench, name, part.Config, k, options or {})
    try:
        made = part(config, Setting(name=name, seed=seed, event_types=(EVENT,)))
    except ValueError as error:
        raise UsageError(f"{bench}: source '{name}' with k = {k}: {error}") from error
    if not (learns(made) and hasattr(made, "batch")):
        why = "does not learn from sequences, or has no `batch`"
        raise UsageError(f"{bench}: source '{name}' {why}; try popular, als, item_knn")
    return made


def _config(bench: str, name: str, model: Any, k: int, options: Mapping[str, Any]) -> Any:
    """The source's keys: those of the options, and what the measurement itself decides."""
    fixed: dict[str, Any] = {"k": k, "live": False} if "live" in model.model_fields else {"k": k}
    if "k" in options:
        raise UsageError(f"{bench}: '{name}.k' is the length of the lists, the same for every source: say it with --k")
    if decided := sorted(fixed.keys() & options.keys()):
        raise UsageError(f"{bench}: '{name}.{decided[0]}' cannot be set: there is no log to follow here")
    data = {**fixed, **options}
    try:
        return model.model_validate(data)
    except ValidationError as error:
        told = [
            f"'{name}.{'.'.join(map(str, one.path))}' {one.message}"
            + (f"; expected {one.expected}" if one.expected else "")
            + (f"; did you mean '{one.nearest}'?" if one.nearest else "")
            for one in findings_in(error, data, model)
        ]
        raise UsageError(f"{bench}: {'. '.join(told)}") from None


def request_of(history: Keys, needs: Sequence[HistoryNeed], k: int) -> Request:
    """One user's request: the last items of the history for each need, all of it not to be recommended again."""
    histories = {}
    for need in needs:
        keys_L = history[-need.n :]
        n = len(keys_L)
        histories[need] = History(keys_L=keys_L, at_L=np.zeros(n, np.int64), type_L=np.zeros(n, np.int16))
    return Request(request_id="", user_id="", t=1, n=k, skip=np.unique(history), side=UserSide(histories=histories))


def _reset_peak() -> None:
    """Starts the peak of resident memory anew, where the system lets us (Linux); elsewhere it only grows."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float:
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    unit = 1 << 20 if platform.system() == "Darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

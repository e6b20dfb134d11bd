"""Next-item evaluation of sources on a file of sequences: the protocol that papers on sequence models report.

U users, E events, B requests of one chunk, k list length
"""

from __future__ import annotations

import gc
import platform
import re
import resource
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feedwell.core import registry
from feedwell.core.errors import DataError, UsageError
from feedwell.core.needs import HistoryNeed
from feedwell.core.protocols import Interactions, Setting, learns
from feedwell.core.request import History, Keys, Request, UserSide

Format = Literal["sequences", "user-item"]
EVENT = "interaction"
_CHUNK = 4096
_LEAST = 3
_PROTOCOL = (
    "leave-one-out: the last item of each user with at least {least} is the test item, the one before it the "
    "validation item; fitted on all but these two; {question}; ranked over all items, those of the user's history "
    "filtered, so an answer that repeats one counts as missed; lists of {k} made by Source.batch, mrr counts places "
    "beyond as 0; se = standard error over users; peak_mb = peak resident memory of the process while the source was "
    "fitted and evaluated"
)
_QUESTION = {
    "test": "the answer is the test item, its history includes the validation item, and nothing was chosen on either",
    "validation": "the answer is the validation item, and the test item is not used at all",
}


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Users' items in time order as one column: user u's are `item_E[indptr[u] : indptr[u + 1]]`.

    Keys number the ids in order of first appearance; `item_ids` are the ids as they stand in the file.
    """

    item_E: Keys
    indptr: NDArray[np.int64]
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.indptr)


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

    def to_dict(self) -> dict[str, Any]:
        named = {f"recall@{self.k}": self.recall, f"recall@{self.k}_se": self.recall_se, f"ndcg@{self.k}": self.ndcg}
        timed = {"fit_s": round(self.fit_s, 4), "eval_s": round(self.eval_s, 4), "peak_mb": round(self.peak_mb, 1)}
        return {"source": self.source, "n_users": self.n_users, **named, "mrr": self.mrr, **timed}


_WORD = re.compile(r"[^ \t\r\n\v\f]+")


def read_sequences(path: Path, form: Format = "sequences") -> Sequences:
    """The sequences of a text file: `user item item ...` a line, or `user item` a line in time order.

    DataError names the file, the line and what was expected. A user on several lines of the first form is refused: the
    order of their parts is anyone's guess.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"reading sequences from {path}: {error}; expected a UTF-8 text file") from error
    # Blanks of ASCII only: an id may hold any other.
    words = [(number, _WORD.findall(line)) for number, line in enumerate(lines, 1) if _WORD.search(line)]
    if not words:
        raise DataError(f"reading sequences from {path}: no line with an item; expected '{_LINE[form]}' on each line")
    by_user = _read_lists(path, words) if form == "sequences" else _read_pairs(path, words)
    numbers: dict[str, int] = {}
    item_E = np.array([numbers.setdefault(i, len(numbers)) for items in by_user.values() for i in items], np.int64)
    indptr = np.zeros(len(by_user) + 1, np.int64)
    np.cumsum([len(items) for items in by_user.values()], out=indptr[1:])
    return Sequences(item_E=item_E, indptr=indptr, user_ids=tuple(by_user), item_ids=tuple(numbers))


def evaluate_next_item(
    sequences: Sequences, source_names: Sequence[str], k: int = 10, *, seed: int = 0, on: str = "test"
) -> tuple[str, list[Result]]:
    """(the protocol in words, one result per source). `on="validation"` leaves the test items out altogether and ranks
    the validation items: choose settings there. UsageError for a source that has nothing to learn from sequences."""
    if on not in _QUESTION:
        raise UsageError(f"evaluating on '{on}': expected 'test' or 'validation'")
    if not source_names:
        raise UsageError("next-item: no source given; name some, as in --sources popular,transitions")
    task = _Task.of(sequences, on)
    results = [_evaluate(name, _make(name, k, seed), task, k) for name in source_names]
    return _PROTOCOL.format(least=_LEAST, question=_QUESTION[on], k=k), results


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What is fitted on, and a question per user: the history of `user_U` up to `until_U`, where the answer stands."""

    sequences: Sequences
    data: Interactions
    user_U: NDArray[np.intp]
    until_U: NDArray[np.int64]

    @staticmethod
    def of(sequences: Sequences, on: str) -> _Task:
        behind = 1 if on == "test" else 2
        lengths = sequences.lengths
        asked = lengths >= _LEAST
        if not asked.any():
            raise DataError(f"next-item: no user has {_LEAST} items or more; expected train, validation and test items")
        place_E = np.arange(len(sequences.item_E)) - np.repeat(sequences.indptr[:-1], lengths)
        fit_E = place_E < np.repeat(np.where(asked, lengths - 2, lengths), lengths)
        return _Task(
            sequences=sequences,
            data=Interactions(
                user_E=np.repeat(np.arange(len(lengths)), lengths)[fit_E],
                item_E=sequences.item_E[fit_E],
                # A file of sequences has an order and no times: all at once, so that no decay tells events apart.
                at_E=np.zeros(int(fit_E.sum()), np.int64),
                type_E=np.zeros(int(fit_E.sum()), np.int16),
                types=(EVENT,),
            ),
            user_U=np.flatnonzero(asked),
            until_U=(sequences.indptr[1:] - behind)[asked],
        )

    def history(self, u: int) -> Keys:
        return self.sequences.item_E[self.sequences.indptr[self.user_U[u]] : self.until_U[u]]

    @property
    def answer_U(self) -> Keys:
        return self.sequences.item_E[self.until_U]


def _make(name: str, k: int, seed: int) -> Any:
    part: Any = registry.find("source", name)
    options = {"live": False} if "live" in part.Config.model_fields else {}
    try:
        made = part(part.Config(k=k, **options), Setting(name=name, seed=seed, event_types=(EVENT,)))
    except ValueError as error:
        raise UsageError(f"next-item: source '{name}' with k = {k}: {error}") from error
    if not (learns(made) and hasattr(made, "batch")):
        why = "does not learn from sequences, or has no `batch`"
        raise UsageError(f"next-item: source '{name}' {why}; try popular, transitions, als")
    return made


def _evaluate(name: str, part: Any, task: _Task, k: int) -> Result:
    gc.collect()
    _reset_peak()
    begin = perf_counter()
    part.fit(task.data)
    fitted = perf_counter()
    answer_U = task.answer_U
    rank_U = np.concatenate(
        [
            _ranks(part.batch(requests), answer_U[at : at + len(requests)], k)
            for at, requests in _requests(task, part.needs, k)
        ]
    )
    hit_U = (rank_U <= k).astype(np.float64)
    return Result(
        source=name,
        n_users=len(rank_U),
        k=k,
        recall=float(hit_U.mean()),
        recall_se=float(hit_U.std(ddof=1) / np.sqrt(len(hit_U))) if len(hit_U) > 1 else float("nan"),
        ndcg=float((hit_U / np.log2(rank_U + 1)).mean()),
        mrr=float((hit_U / rank_U).mean()),
        fit_s=fitted - begin,
        eval_s=perf_counter() - fitted,
        peak_mb=_peak_mb(),
    )


def _requests(task: _Task, needs: Sequence[Any], k: int) -> Iterator[tuple[int, list[Request]]]:
    """(first user, requests) in chunks, so that memory does not grow with the number of users."""
    wanted = [need for need in needs if isinstance(need, HistoryNeed)]
    for at in range(0, len(task.user_U), _CHUNK):
        yield at, [_request(task.history(u), wanted, k) for u in range(at, min(at + _CHUNK, len(task.user_U)))]


def _request(history: Keys, needs: Sequence[HistoryNeed], k: int) -> Request:
    histories = {}
    for need in needs:
        keys_L = history[-need.n :]
        n = len(keys_L)
        histories[need] = History(keys_L=keys_L, at_L=np.zeros(n, np.int64), type_L=np.zeros(n, np.int16))
    return Request(request_id="", user_id="", t=1, n=k, skip=np.unique(history), side=UserSide(histories=histories))


def _ranks(retrieved: Sequence[Any], answer_B: Keys, k: int) -> NDArray[np.float64]:
    """The place of each answer in its list, counted from 1; infinity where it is not there."""
    keys_Bk = np.full((len(retrieved), k), -1, np.int64)
    for b, one in enumerate(retrieved):
        keys_Bk[b, : len(one.keys_N)] = one.keys_N[:k]
    hit_Bk = keys_Bk == answer_B[:, None]
    return np.where(hit_Bk.any(axis=1), hit_Bk.argmax(axis=1) + 1.0, np.inf)


_LINE = {"sequences": "user item item ...", "user-item": "user item"}


def _read_lists(path: Path, words: list[tuple[int, list[str]]]) -> dict[str, list[str]]:
    by_user: dict[str, list[str]] = {}
    for number, line in words:
        if len(line) < 2:
            raise DataError(f"{path}:{number}: '{line[0]}' stands alone; expected '{_LINE['sequences']}'")
        if line[0] in by_user:
            raise DataError(
                f"{path}:{number}: user '{line[0]}' has an earlier line; expected one line a user. For one event a "
                "line use --format user-item"
            )
        by_user[line[0]] = line[1:]
    return by_user


def _read_pairs(path: Path, words: list[tuple[int, list[str]]]) -> dict[str, list[str]]:
    by_user: dict[str, list[str]] = {}
    for number, line in words:
        if len(line) != 2:
            raise DataError(f"{path}:{number}: {len(line)} words; expected '{_LINE['user-item']}'")
        by_user.setdefault(line[0], []).append(line[1])
    return by_user


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

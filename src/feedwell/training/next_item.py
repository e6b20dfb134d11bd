"""Next-item evaluation of sources on a file of sequences: the protocol that papers on sequence models report.

U users, E events, B requests of one chunk, k list length
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feedwell.core.errors import DataError, UsageError
from feedwell.core.needs import HistoryNeed
from feedwell.core.protocols import Interactions
from feedwell.core.request import Keys, Request
from feedwell.training.source_bench import EVENT, Result, make_source, metered, read_words, request_of

Format = Literal["sequences", "user-item"]
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


def read_sequences(path: Path, form: Format = "sequences") -> Sequences:
    """The sequences of a text file: `user item item ...` a line, or `user item` a line in time order.

    DataError names the file, the line and what was expected. A user on several lines of the first form is refused: the
    order of their parts is anyone's guess.
    """
    words = read_words(path, _LINE[form])
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
    results = [_evaluate(name, make_source("next-item", name, k, seed), task, k) for name in source_names]
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


def _evaluate(name: str, part: Any, task: _Task, k: int) -> Result:
    with metered() as meter:
        part.fit(task.data)
        meter.fitted()
        answer_U = task.answer_U
        rank_U = np.concatenate(
            [
                _ranks(part.batch(requests), answer_U[at : at + len(requests)], k)
                for at, requests in _requests(task, part.needs, k)
            ]
        )
    hit_U = (rank_U <= k).astype(np.float64)
    ndcg, mrr = float((hit_U / np.log2(rank_U + 1)).mean()), float((hit_U / rank_U).mean())
    return Result.of(name, k, meter, recall_U=hit_U, ndcg=ndcg, mrr=mrr)


def _requests(task: _Task, needs: Sequence[Any], k: int) -> Iterator[tuple[int, list[Request]]]:
    """(first user, requests) in chunks, so that memory does not grow with the number of users."""
    wanted = [need for need in needs if isinstance(need, HistoryNeed)]
    for at in range(0, len(task.user_U), _CHUNK):
        yield at, [request_of(task.history(u), wanted, k) for u in range(at, min(at + _CHUNK, len(task.user_U)))]


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

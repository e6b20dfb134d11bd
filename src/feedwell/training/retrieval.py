"""Retrieval over the full catalog from two files of lists: the protocol that papers on graph models report.

U users, E events, B requests of one chunk, k list length
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.errors import DataError, UsageError
from feedwell.core.needs import HistoryNeed
from feedwell.core.protocols import Interactions
from feedwell.core.request import NO_KEYS, Keys
from feedwell.core.rng import stream
from feedwell.metrics._lists import Lists
from feedwell.metrics.ranking import ranking_values
from feedwell.training.source_bench import EVENT, PEAK, Result, make_source, metered, read_words, request_of

Options = Mapping[str, Mapping[str, Any]]
"""source → its own keys; what is not named keeps its default"""
_CHUNK = 4096
_LINE = "user item item ..."
_PROTOCOL = (
    "every user with {answers}; fitted on {fitted}; ranked over all items, those of the user's train line filtered; "
    "lists of {k} made by Source.batch; recall = found / all of the user's answers, ndcg against the best order of at "
    "most {k} of them, mrr = 1 / place of the first, 0 beyond {k}; means over users, se = standard error over users; "
    "the order of a line is taken as its order in time, so figures of a source that counts order (transitions, and "
    'two_tower without context = "others") mean nothing where lines have none; ' + PEAK
)
_ASKED = {
    "test": ("an item on the test line", "the whole train file, and nothing was chosen on the test file"),
    "validation": (
        "5 train items or more, a fifth of them by chance being the answers",
        "the other train items; the test file is not used at all",
    ),
}
_LEAST, _SHARE = 5, 0.2


@dataclass(frozen=True, kw_only=True)
class Answers:
    """How many answers there are, each an item of one user, and how many of them no list can hold."""

    n: int
    n_on_train_line: int
    """Items of the user's own train line, which are filtered."""
    n_not_in_train: int
    n_items_not_in_train: int
    """Different items of theirs that no train line has, so that nothing was learnt of them."""

    @staticmethod
    def of(lists: TrainTest) -> Answers:
        own = [np.isin(lists.answers_of(u), lists.train_of(u)).sum() for u in range(len(lists.user_ids))]
        strange_E = lists.answer_E[~np.isin(lists.answer_E, lists.train_E)]
        return Answers(
            n=len(lists.answer_E),
            n_on_train_line=int(sum(own)),
            n_not_in_train=len(strange_E),
            n_items_not_in_train=len(np.unique(strange_E)),
        )

    def __str__(self) -> str:
        return (
            f"of {self.n:,} answers {self.n_on_train_line:,} stand on their user's own train line, and"
            f" {self.n_not_in_train:,} are of {self.n_items_not_in_train:,} items that no train line has: none of them"
            " can be found, and all count as missed"
        )


@dataclass(frozen=True, kw_only=True)
class TrainTest:
    """Two files of lists over one numbering of users and items: user u's are `[indptr[u] : indptr[u + 1]]`.

    Keys number the ids in order of first appearance, train before test; answers are distinct.
    """

    train_E: Keys
    train_indptr: NDArray[np.int64]
    answer_E: Keys
    answer_indptr: NDArray[np.int64]
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]

    def train_of(self, u: int) -> Keys:
        return self.train_E[self.train_indptr[u] : self.train_indptr[u + 1]]

    def answers_of(self, u: int) -> Keys:
        return self.answer_E[self.answer_indptr[u] : self.answer_indptr[u + 1]]


def read_train_test(train: Path, test: Path) -> TrainTest:
    """Both files, `user item item ...` a line; DataError names the file, the line and what was expected.

    A line may hold a user alone, who then has no item there. A user with two lines in a file is refused, and so are
    files that share no user or no item: then ids were written differently.
    """
    lists = [_read_lists(path) for path in (train, test)]
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    for by_user in lists:
        for user, line in by_user.items():
            users.setdefault(user, len(users))
            for item in line:
                items.setdefault(item, len(items))
    for noun, sides in (
        ("user", [set(x) for x in lists]),
        ("item", [{i for v in x.values() for i in v} for x in lists]),
    ):
        if not sides[0] & sides[1]:
            examples = ", ".join(repr(min(side)) for side in sides)
            raise DataError(
                f"{train} and {test} have no {noun} in common ({examples} ...): expected the same ids in both files"
            )
    keys = [[np.array([items[i] for i in by_user.get(user, [])], np.int64) for user in users] for by_user in lists]
    return _train_test(keys[0], keys[1], tuple(users), tuple(items))


def answers_on(lists: TrainTest, on: str, seed: int) -> Answers:
    """What `evaluate_retrieval` asks for, counted."""
    return Answers.of(validation_of(lists, seed) if on == "validation" else lists)


def evaluate_retrieval(
    lists: TrainTest,
    source_names: Sequence[str],
    k: int = 20,
    *,
    seed: int = 0,
    on: str = "test",
    options: Options | None = None,
) -> tuple[str, list[Result]]:
    """(the protocol in words, one result per source). `on="validation"` leaves the test file out altogether and asks
    for a fifth of the train items: choose settings there. UsageError for a source that cannot take part."""
    if on not in _ASKED:
        raise UsageError(f"evaluating on '{on}': expected 'test' or 'validation'")
    if not source_names:
        raise UsageError("retrieval: no source given; name some, as in --sources popular,als,item_knn")
    if on == "validation":
        lists = validation_of(lists, seed)
    asked_U = np.flatnonzero(np.diff(lists.answer_indptr))
    if not len(asked_U):
        raise DataError(f"retrieval: no user has an answer; expected at least one with {_ASKED[on][0]}")
    parts = [(name, make_source("retrieval", name, k, seed, (options or {}).get(name))) for name in source_names]
    results = [evaluate_source(name, part, lists, asked_U, k) for name, part in parts]
    answers, fitted = _ASKED[on]
    return _PROTOCOL.format(answers=answers, fitted=fitted, k=k), results


def validation_of(lists: TrainTest, seed: int) -> TrainTest:
    """The train file alone, divided: a fifth of the distinct items of each user with 5 or more are the answers."""
    train, answers = [], []
    for u in range(len(lists.user_ids)):
        items = lists.train_of(u)
        distinct = np.unique(items)
        n = int(len(distinct) * _SHARE) if len(distinct) >= _LEAST else 0
        chosen = stream(seed, "retrieval", lists.user_ids[u]).permutation(distinct)[:n]
        train.append(items[~np.isin(items, chosen)])
        answers.append(chosen)
    return _train_test(train, answers, lists.user_ids, lists.item_ids)


def evaluate_source(name: str, part: Any, lists: TrainTest, asked_U: NDArray[np.intp], k: int) -> Result:
    """The part fitted and asked for each of those users."""
    with metered() as meter:
        part.fit(interactions_of(lists))
        meter.fitted()
        values_UM = np.concatenate(list(_values(part, lists, asked_U, k)))
    recall_U, ndcg_U, mrr_U, _ = values_UM.T
    return Result.of(name, k, meter, recall_U=recall_U, ndcg=float(ndcg_U.mean()), mrr=float(mrr_U.mean()))


def interactions_of(lists: TrainTest) -> Interactions:
    """The train lists as events. They have no times: all at once, so that no decay tells them apart."""
    n = len(lists.train_E)
    lengths = np.diff(lists.train_indptr)
    return Interactions(
        user_E=np.repeat(np.arange(len(lengths)), lengths),
        item_E=lists.train_E,
        at_E=np.zeros(n, np.int64),
        type_E=np.zeros(n, np.int16),
        types=(EVENT,),
    )


def _values(part: Any, lists: TrainTest, asked_U: NDArray[np.intp], k: int) -> Iterator[NDArray[np.float64]]:
    """value_BM in the order of `metrics.ranking.NAMES`, chunk by chunk, so that memory does not grow with the users."""
    needs = [need for need in part.needs if isinstance(need, HistoryNeed)]
    for at in range(0, len(asked_U), _CHUNK):
        users = asked_U[at : at + _CHUNK].tolist()
        retrieved = part.batch([request_of(lists.train_of(u), needs, k) for u in users])
        answers = [lists.answers_of(u) for u in users]
        yield ranking_values(Lists.of(users, [one.keys_N for one in retrieved], answers, k), k)


def _train_test(
    train: Sequence[Keys], answers: Sequence[Keys], user_ids: tuple[str, ...], item_ids: tuple[str, ...]
) -> TrainTest:
    distinct = [np.unique(keys) for keys in answers]
    return TrainTest(
        train_E=np.concatenate([NO_KEYS, *train]),
        train_indptr=np.cumsum([0, *map(len, train)], dtype=np.int64),
        answer_E=np.concatenate([NO_KEYS, *distinct]),
        answer_indptr=np.cumsum([0, *map(len, distinct)], dtype=np.int64),
        user_ids=user_ids,
        item_ids=item_ids,
    )


def _read_lists(path: Path) -> dict[str, list[str]]:
    by_user: dict[str, list[str]] = {}
    for number, line in read_words(path, _LINE):
        if line[0] in by_user:
            raise DataError(
                f"{path}:{number}: user '{line[0]}' has an earlier line; expected one line a user, '{_LINE}'"
            )
        by_user[line[0]] = line[1:]
    if not any(by_user.values()):
        raise DataError(f"{path}: every line holds a user alone; expected '{_LINE}' on each line")
    return by_user

"""latest: the serving reading. One transaction and the requester's unfolded events; nothing but state is touched.

N candidates, F features
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from feedwell.core import columns as c
from feedwell.core.errors import Unavailable
from feedwell.core.event import NO_KEY
from feedwell.core.needs import HistoryNeed, ObjectsNeed, RankingNeed
from feedwell.core.request import NO_KEYS, History, Keys, Ranking, UserSide
from feedwell.features.definition import FeatureSet
from feedwell.features.fold import fold_tail
from feedwell.features.forward_decay import decayed_at
from feedwell.features.layout import (
    LEADERBOARD_TOP,
    NO_OBJECTS,
    TYPE_BITS,
    catalog_layout,
    join_words,
    row_key,
    row_keys,
)
from feedwell.features.measures import Active, CatalogNumber
from feedwell.features.plan import PlanGroup, ReadPlan, plan_of
from feedwell.features.rows import Column, read_rows
from feedwell.features.statefile import Head, read_head, view_offset
from feedwell.features.views import CatalogRows
from feedwell.stores.state import ReadTxn, StateStore

Float = NDArray[np.float64]


class StateReader:
    """One moment of the online state. Open it with `with StateReader.open(features, state) as reader`."""

    def __init__(self, features: FeatureSet, txn: ReadTxn, head: Head, tail_offset: int = -1) -> None:
        self.features = features
        self.epoch, self.state_offset, self.newest_at = head.epoch, head.offset, head.newest_at
        self.tail_offset = tail_offset
        """Newest offset of the user's own events that were read beyond the state; -1: none were."""
        self._head, self._txn = head, txn
        self._open = ExitStack()
        self._objects: dict[tuple[str, int], Keys] = {}

    @staticmethod
    def open(features: FeatureSet, state: StateStore) -> StateReader:
        """A reader whose transaction opens now; Unavailable when the state does not keep these features whole."""
        stack = ExitStack()
        txn = stack.enter_context(state.read())
        try:
            head = read_head(txn) or Head()
            for view in features.views:
                at = view_offset(txn, view)
                if at != (head.offset if head.offset >= 0 else at):
                    raise Unavailable(
                        f"the state is at offset {head.offset}, but a feature view of version {features.version} "
                        f"is {'absent' if at is None else f'at {at}'}: hydrate it before its release serves"
                    )
        except BaseException:
            stack.close()
            raise
        reader = StateReader(features, txn, head)
        reader._open = stack
        return reader

    def __enter__(self) -> StateReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def with_tail(self, tail: pa.Table) -> StateReader:
        """The same moment with one user's own unfolded events in what is the user's: features, pairs, lists.

        Those that the state has seen already are skipped. The reader that was opened stays the one to close.
        """
        tail = tail.slice(int(np.searchsorted(tail.column(c.OFFSET).to_numpy(), self.state_offset, side="right")))
        if len(tail) == 0:
            return self
        overlay = _Overlay(self._txn)
        fold_tail(self.features.views, tail, overlay)
        newest = Head(
            epoch=self.epoch,
            offset=self.state_offset,
            newest_at=max(self.newest_at, int(tail.column(c.AVAILABLE_AT)[-1].as_py())),
        )
        return StateReader(self.features, overlay, newest, int(tail.column(c.OFFSET)[-1].as_py()))

    def user_side(self, user: int, t: int) -> UserSide:
        """Everything the features and needs say about a user; -1 reads as a user without events."""
        values = self._columns(plan_of(self.features).user, user, np.full(1, NO_KEY, np.int64), t)[0].tolist()
        return UserSide(
            features={column.name: value for column, value in zip(self.features.user_columns, values, strict=True)},
            histories={need: self._history(need, user) for need in self.features.histories},
            objects={need: self.objects(need, user) for need in self.features.needs if isinstance(need, ObjectsNeed)},
            rankings={need: self.ranking(need, t) for need in self.features.leaderboards},
        )

    def item_side(self, user: int, keys_N: Keys, t: int) -> Float:
        """[N, F] in the order of `features.item_columns`: items, what derives from them, and pairs with the user."""
        return self._columns(plan_of(self.features).item, user, np.asarray(keys_N, np.int64), t)

    def objects(self, need: ObjectsNeed, user: int) -> Keys:
        """The objects that the user stands in relation to, sorted."""
        lists = [self._related(event, user) for event in need.events]
        return lists[0] if len(lists) == 1 else np.unique(np.concatenate([NO_KEYS, *lists]))

    def ranking(self, need: RankingNeed, t: int) -> Ranking:
        view = self.features.leaderboards[need]
        words = np.frombuffer(self._txn.get(view.prefix + LEADERBOARD_TOP) or b"", "<i8")
        n = len(words) // 2
        keys, order = words[:n].astype(np.int64), words[n:].view(np.float64)
        return Ranking(keys_N=keys, scores_N=decayed_at(order, t, view.half_life) if view.by == "decayed" else order)

    def catalog_rows(self, entity: str, keys: Sequence[int] | Keys) -> list[dict[str, Any] | None]:
        """The newest catalog row of each key as it came; None where there is none."""
        prefix = CatalogRows(entity).prefix
        found = self._txn.get_many(row_keys(prefix, [np.asarray(keys, np.int64)]), b"")
        return [orjson.loads(raw) if raw else None for raw in found]

    def derived(self, entity: str, keys: Keys) -> Keys:
        """The keys of a derived entity for keys of the entity that it comes from (`derived("category", items)`)."""
        origin, _ = self.features.project.derived_entities[entity]
        names = [name for name, _ in self.features.catalogs[origin].derived]
        return self._catalog(origin, keys)[:, names.index(entity)]

    def _history(self, need: HistoryNeed, user: int) -> History:
        raw = self._txn.get(row_key(self.features.histories[need].prefix, user)) if user >= 0 else None
        words = np.frombuffer(raw or b"", "<i8").reshape(-1, 2)[-need.n :]
        return History(
            keys_L=words[:, 0].astype(np.int64),
            at_L=words[:, 1] >> TYPE_BITS,
            type_L=(words[:, 1] & ((1 << TYPE_BITS) - 1)).astype(np.int16),
        )

    def _related(self, event: str, user: int) -> Keys:
        if (event, user) not in self._objects:
            view = self.features.relations[event]
            raw = self._txn.get(row_key(view.prefix, user)) if user >= 0 else None
            self._objects[event, user] = np.frombuffer(raw or NO_OBJECTS, "<i8").astype(np.int64, copy=False)
        return self._objects[event, user]

    def _catalog(self, entity: str, keys: Keys) -> NDArray[np.int64]:
        view = self.features.catalogs[entity]
        rows = self._txn.get_many(row_keys(view.prefix, [keys]), catalog_layout(view).empty)
        return join_words(rows)[0].reshape(len(keys), -1)

    def _columns(self, plan: ReadPlan, user: int, keys_N: Keys, t: int) -> Float:
        # Columns are written one by one and mostly read one by one: let each lie together in memory.
        out = np.empty((len(keys_N), plan.n_columns), order="F")
        if len(keys_N) == 0:
            return out
        read = _Candidates(self, user, keys_N, t)
        t_N = np.full(len(keys_N), t, np.int64)
        for group in plan.groups:
            values = read.measure(group)
            for at, column, wanted in group.columns:
                out[:, at] = column.aggregate.finish([values[i] for i in wanted], t_N)
        return out


class _Candidates:
    """The measures of one user and N items; each entity's keys and catalog rows are read once."""

    def __init__(self, reader: StateReader, user: int, keys_N: Keys, t: int) -> None:
        self._reader, self._features, self._t = reader, reader.features, t
        self._keys: dict[str, Keys] = {"user": np.full(len(keys_N), user, np.int64), "item": keys_N}
        self._catalogs: dict[str, NDArray[np.int64]] = {}

    def measure(self, group: PlanGroup) -> list[Column]:
        """One column per measure of the group: kept ones first, then catalog numbers and relations."""
        values = self._facts(group) if group.rows is not None else []
        return [*values, *(self._beside(measure) for measure in group.beside)]

    def _beside(self, measure: CatalogNumber | Active) -> Column:
        return self._number(measure) if isinstance(measure, CatalogNumber) else self._active(measure)

    def _facts(self, group: PlanGroup) -> list[Column]:
        keys = [self.key(entity) for entity in group.entities]
        inverse = None
        if group.shared is not None:
            # Many candidates share a category or a creator: each distinct row is read once.
            distinct, inverse = np.unique(keys[group.shared], return_inverse=True)
            keys = [distinct if i == group.shared else k[: len(distinct)] for i, k in enumerate(keys)]
        assert group.rows is not None
        names = row_keys(group.rows.layout.view.prefix, keys)
        columns = read_rows(group.rows, self._reader._txn.get_many(names, group.rows.layout.empty), self._t)
        return columns if inverse is None else [column[inverse] for column in columns]

    def key(self, entity: str) -> Keys:
        if entity not in self._keys:
            origin = self._features.project.derived_entities.get(entity)
            if origin is None:
                self._keys[entity] = np.full(len(self._keys["item"]), NO_KEY, np.int64)
            else:
                names = [name for name, _ in self._features.catalogs[origin[0]].derived]
                self._keys[entity] = self._catalog(origin[0])[:, names.index(entity)]
        return self._keys[entity]

    def _catalog(self, entity: str) -> NDArray[np.int64]:
        if entity not in self._catalogs:
            self._catalogs[entity] = self._reader._catalog(entity, self.key(entity))
        return self._catalogs[entity]

    def _number(self, measure: CatalogNumber) -> Float:
        view, words = self._features.catalogs[measure.entity], self._catalog(measure.entity)
        for i, (_, column) in enumerate(view.derived):
            if column == measure.column:
                return np.where(words[:, i] < 0, np.nan, words[:, i].astype(np.float64))
        at = len(view.derived) + view.columns.index(measure.column)
        return np.ascontiguousarray(words[:, at]).view(np.float64)

    def _active(self, measure: Active) -> NDArray[np.int64]:
        keys_N, user = self.key(measure.object), int(self._keys["user"][0])
        standing = np.zeros(len(keys_N), np.bool_)
        for event in measure.events:
            objects = self._reader._related(event, user)
            at = np.searchsorted(objects, keys_N)
            standing |= np.append(objects, NO_KEY)[at] == keys_N
        return (standing & (keys_N >= 0)).astype(np.int64)


class _Overlay:
    """A write transaction in memory over a read transaction: the tail's rows, everything else as stored."""

    def __init__(self, base: ReadTxn) -> None:
        self._base = base
        self._changed: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._changed[key] if key in self._changed else self._base.get(key)

    def get_many(self, keys: Sequence[bytes], default: bytes) -> list[bytes]:
        found = self._base.get_many(keys, default)
        for i, key in enumerate(keys):
            if key in self._changed:
                row = self._changed[key]
                found[i] = default if row is None else row
        return found

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._base.scan(prefix)

    def put_many(self, items: Any) -> None:
        self._changed.update(items)

    def put_sorted(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        self._changed.update(items)

    def delete_many(self, keys: Any) -> None:
        self._changed.update((key, None) for key in keys)

    def delete_prefix(self, prefix: bytes) -> int:
        raise NotImplementedError("an overlay holds one user's rows and never drops a keyspace")

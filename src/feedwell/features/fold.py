"""fold: the online reading. Each batch of the log changes the state's packed rows, in one transaction with its offset.

Work is per batch, not per event: events are grouped by key, each distinct row is read once, merged with all others in
arrays, and written once. `available_at` only grows along the log, so that only a row's last tile is ever touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from feedwell.core.errors import DataError, Unavailable
from feedwell.features.batch import Batch
from feedwell.features.definition import FeatureSet
from feedwell.features.fold_catalog import fold_catalog, fold_catalog_rows
from feedwell.features.fold_facts import fold_facts
from feedwell.features.fold_leaderboard import fold_leaderboard
from feedwell.features.fold_lists import fold_relation, fold_sequence
from feedwell.features.statefile import Head, kept_prefixes, read_head, view_item, view_key, view_offset
from feedwell.features.views import Catalog, CatalogRows, Facts, Leaderboard, Relation, Sequence, View
from feedwell.stores.state import StateStore, WriteTxn

_FOLDS: dict[type, Callable[..., object]] = {
    Facts: fold_facts,
    Relation: fold_relation,
    Sequence: fold_sequence,
    Leaderboard: fold_leaderboard,
    Catalog: fold_catalog,
    CatalogRows: fold_catalog_rows,
}


class Fold:
    """The union of the views of several feature sets (all retained releases), kept up to one log's end."""

    def __init__(
        self,
        feature_sets: Iterable[FeatureSet],
        state: StateStore,
        *,
        epoch: int | None = None,
        whole_log: bool = False,
    ) -> None:
        """`whole_log`: an empty state takes a log from its beginning by (available_at, offset), as `EventLog.in_order`
        gives it. Else offsets grow too, as they do in the live tail."""
        self.views: tuple[View, ...] = tuple({v.digest: v for f in feature_sets for v in f.views}.values())
        self._state = state
        self._epoch = epoch
        self._whole_log = whole_log
        self._last = (-1, -1)

    @property
    def position(self) -> int:
        """Read the log after this offset: the least that any view has seen; -1 from the beginning."""
        with self._state.read() as txn:
            offsets = [view_offset(txn, view) for view in self.views]
            head = read_head(txn)
        if not offsets:
            return head.offset if head else -1
        return min(-1 if offset is None else offset for offset in offsets)

    def fold(self, batch: pa.Table) -> None:
        """Every event of `batch` into every view that has not seen it, committed with the new offset.

        `batch` is in log order, as `EventLog.read(position, limit)` gives it; folding one twice changes nothing.
        DataError if `available_at` runs backwards: such a log needs a new epoch.
        """
        if not len(batch):
            return
        if self._whole_log:
            self._state.update(lambda txn: self._apply_next(Batch(batch), txn))
        else:
            self._state.update(lambda txn: self._apply(batch, txn))

    def drop_others(self) -> int:
        """Deletes the keyspaces of views that no feature set here declares; how many rows went."""
        kept = {view.prefix for view in self.views}

        def drop(txn: WriteTxn) -> int:
            gone = [prefix for prefix in kept_prefixes(txn) if prefix not in kept]
            txn.delete_many(view_key(prefix) for prefix in gone)
            return sum(txn.delete_prefix(prefix) for prefix in gone)

        return self._state.update(drop)

    def _apply(self, table: pa.Table, txn: WriteTxn) -> None:
        head = read_head(txn) or Head(epoch=self._epoch or 0)
        if self._epoch is not None and head.epoch != self._epoch:
            raise Unavailable(f"this state is of epoch {head.epoch}, the log of epoch {self._epoch}: hydrate a new one")
        whole = Batch(table)
        _check_order(whole, head)
        by_offset: dict[int, Batch] = {}
        marks = []
        for view in self.views:
            seen = view_offset(txn, view)
            seen = -1 if seen is None else seen
            batch = by_offset.get(seen)
            if batch is None:
                batch = by_offset[seen] = whole.after(seen)
            if len(batch):
                _FOLDS[type(view)](view, batch, txn)
            marks.append(view_item(view, max(seen, int(whole.offset_E[-1]))))
        last = int(whole.offset_E[-1])
        if last > head.offset:
            head = Head(epoch=head.epoch, offset=last, newest_at=int(whole.at_E[-1]))
        txn.put_many([*marks, head.item])

    def _apply_next(self, batch: Batch, txn: WriteTxn) -> None:
        first = (int(batch.at_E[0]), int(batch.offset_E[0]))
        same = batch.at_E[1:] == batch.at_E[:-1]
        backwards = (batch.at_E[1:] < batch.at_E[:-1]) | (same & (batch.offset_E[1:] <= batch.offset_E[:-1]))
        if backwards.any() or first <= self._last:
            raise DataError(f"folding a whole log: offset {first[1]} at {first[0]} µs does not follow {self._last}")
        for view in self.views:
            _FOLDS[type(view)](view, batch, txn)
        head = read_head(txn) or Head(epoch=self._epoch or 0)
        head = Head(epoch=head.epoch, offset=max(head.offset, int(batch.offset_E.max())), newest_at=int(batch.at_E[-1]))
        txn.put_many([*(view_item(view, head.offset) for view in self.views), head.item])
        self._last = int(batch.at_E[-1]), int(batch.offset_E[-1])


def fold_tail(views: Iterable[View], tail: pa.Table, txn: WriteTxn) -> None:
    """One user's unfolded events into what is the user's own: never into an item's side, nor a leaderboard."""
    batch = Batch(tail)
    for view in views:
        if _is_the_users(view):
            _FOLDS[type(view)](view, batch, txn)


def _is_the_users(view: View) -> bool:
    match view:
        case Facts():
            return "user" in view.entities
        case Relation() | Sequence():
            return True
        case Catalog() | CatalogRows():
            return view.entity == "user"
        case _:
            return False


def _check_order(batch: Batch, head: Head) -> None:
    at, offset = batch.at_E, batch.offset_E
    after = offset > head.offset
    backwards = (at[1:] < at[:-1]).any() or (offset[1:] <= offset[:-1]).any() or (at[after] < head.newest_at).any()
    if backwards:
        raise DataError(
            f"folding offsets {offset[0]} to {offset[-1]}: available_at or the offset runs backwards (the state is at "
            f"offset {head.offset}, {head.newest_at} µs); a log is folded in order, and older history needs a new epoch"
        )

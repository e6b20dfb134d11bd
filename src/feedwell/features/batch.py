"""Batch: a few log events as arrays, for `fold`. Masks and keys are made once, however many views ask."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedwell.core import columns as c
from feedwell.core.event import NO_KEY
from feedwell.core.objective import Term, parse_where
from feedwell.features.measures import Selection

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_COMPARE = {">=": "greater_equal", "<=": "less_equal", "==": "equal", "!=": "not_equal", ">": "greater", "<": "less"}


class Batch:
    """E events in log order."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()
        self._masks: dict[Selection, Mask] = {}
        self._keys: dict[str, Ints] = {}

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def after(self, offset: int) -> Batch:
        """Only the events after that offset."""
        first = int(np.searchsorted(self.offset_E, offset, side="right"))
        return self if first == 0 else Batch(self._table.slice(first))

    @cached_property
    def offset_E(self) -> Ints:
        return self._ints(c.OFFSET)

    @cached_property
    def at_E(self) -> Ints:
        return self._ints(c.AVAILABLE_AT)

    @cached_property
    def value_E(self) -> Ints:
        """`value_scaled`, 0 where there is none."""
        return self._ints(c.VALUE_SCALED, 0)

    @cached_property
    def valued_E(self) -> Mask:
        valid: Mask = pc.is_valid(self._table.column(c.VALUE_SCALED)).to_numpy(zero_copy_only=False)
        return valid

    @cached_property
    def _types(self) -> tuple[list[str], NDArray[np.int32]]:
        column = self._table.column(c.TYPE).combine_chunks()
        coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
        return coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False)

    def key(self, entity: str) -> Ints:
        if entity not in self._keys:
            self._keys[entity] = self._ints(entity, NO_KEY)
        return self._keys[entity]

    def mask(self, selection: Selection) -> Mask:
        """The selected events."""
        found = self._masks.get(selection)
        if found is None:
            names, code_E = self._types
            if selection.events:
                found = np.array([n in selection.events for n in names], np.bool_)[code_E]
            else:
                found = np.array([not n.startswith("$") for n in names], np.bool_)[code_E]
            if selection.where and found.any():
                for term in parse_where(selection.where):
                    found = found & self._holds(term)
            self._masks[selection] = found
        return found

    def type_index(self, events: tuple[str, ...]) -> NDArray[np.int64]:
        """Each event's place in `events`; 0 where it is not among them."""
        names, code_E = self._types
        return np.array([events.index(n) if n in events else 0 for n in names], np.int64)[code_E]

    def payload(self, row: int) -> str:
        cell: str | None = self._table.column(c.PAYLOAD)[row].as_py()
        return cell or "{}"

    def _holds(self, term: Term) -> Mask:
        column = self._table.column(term.column)
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        constant: Any = term.constant
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        held = getattr(pc, _COMPARE[term.op])(column, constant)
        mask: Mask = pc.fill_null(held, False).to_numpy(zero_copy_only=False)
        return mask

    def _ints(self, name: str, null: int = 0) -> Ints:
        column = self._table.column(name)
        if column.null_count:
            column = column.fill_null(null)
        values: Ints = column.to_numpy().astype(np.int64, copy=False)
        return values

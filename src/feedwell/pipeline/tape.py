"""What a request read, recorded for its trace and played back: a traced request runs again without any store."""

from __future__ import annotations

from typing import Any

import numpy as np

from feedwell.core.candidates import Float
from feedwell.core.keys import rows_of
from feedwell.core.request import Keys, UserSide
from feedwell.core.slate import SlateRecord
from feedwell.pipeline.ask import Reader
from feedwell.pipeline.record import load_side


class Taped:
    """A reader that keeps the item side of every key it read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.epoch, self.state_offset = reader.epoch, reader.state_offset
        self.tail_offset, self.newest_at = reader.tail_offset, reader.newest_at
        self._keys: list[Keys] = []
        self._rows: list[Float] = []

    def user_side(self, user: int, t: int) -> UserSide:
        return self._reader.user_side(user, t)

    def item_side(self, user: int, keys_N: Keys, t: int) -> Float:
        read_NF = self._reader.item_side(user, keys_N, t)
        self._keys.append(keys_N)
        self._rows.append(np.asarray(read_NF, np.float64))
        return read_NF

    def items(self) -> dict[str, Any]:
        """Distinct keys, ascending, and their rows."""
        if not self._keys:
            return {"keys": [], "rows": []}
        keys_N, first = np.unique(np.concatenate(self._keys), return_index=True)
        return {"keys": keys_N, "rows": np.concatenate(self._rows)[first]}


class TraceReader:
    """Answers every read from a trace; KeyError for a key that the request did not read."""

    def __init__(self, record: SlateRecord, trace: dict[str, Any]) -> None:
        self.epoch, self.state_offset = record.epoch, record.state_offset
        self.tail_offset, self.newest_at = record.tail_offset, record.t - 1
        self._side = load_side(trace["side"])
        self._keys_N = np.array(trace["items"]["keys"], np.int64)
        rows = [[np.nan if v is None else v for v in row] for row in trace["items"]["rows"]]
        self._rows_NF = np.array(rows, np.float64).reshape(len(self._keys_N), -1)

    def user_side(self, user: int, t: int) -> UserSide:
        return self._side

    def item_side(self, user: int, keys_N: Keys, t: int) -> Float:
        rows = rows_of(self._keys_N, keys_N)
        if (rows < 0).any():
            raise KeyError(f"item {int(keys_N[rows < 0][0])} was not read by the traced request")
        return self._rows_NF[rows]

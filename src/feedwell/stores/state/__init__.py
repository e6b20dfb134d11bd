"""Online state: packed rows by key, one writer, readers that each see one moment. Derived from the log."""

from feedwell.stores.state.directory import StateDirectory
from feedwell.stores.state.lmdb import LmdbState
from feedwell.stores.state.memory import MemoryState
from feedwell.stores.state.port import ReadTxn, StateStore, WriteTxn

__all__ = ["LmdbState", "MemoryState", "ReadTxn", "StateDirectory", "StateStore", "WriteTxn"]

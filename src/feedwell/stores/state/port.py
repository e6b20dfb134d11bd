"""StateStore: the port that LmdbState and MemoryState pass the same conformance test for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

T = TypeVar("T")


class ReadTxn(Protocol):
    """One moment of the state: later writes stay out of sight."""

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Sequence[bytes], default: bytes) -> list[bytes]:
        """The rows of `keys` in their order, `default` where there is none."""
        ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (key, row) whose key begins with `prefix`, by key."""
        ...


class WriteTxn(ReadTxn, Protocol):
    """All or nothing: what a failing `update` wrote is gone."""

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None: ...

    def put_sorted(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """As `put_many`, for distinct keys in ascending order: bulk loads are several times faster so."""
        ...

    def delete_many(self, keys: Iterable[bytes]) -> None: ...

    def delete_prefix(self, prefix: bytes) -> int:
        """How many rows were deleted."""
        ...


class StateStore(Protocol):
    def read(self) -> AbstractContextManager[ReadTxn]: ...

    def update(self, apply: Callable[[WriteTxn], T]) -> T:
        """`apply(txn)` in one transaction, durable when this returns.

        `apply` may run twice (the store may have to grow in between), so it has no effect but through `txn`.
        """
        ...

    def close(self) -> None: ...

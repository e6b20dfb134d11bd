"""Lists: what was recommended and what was right, for R requests at once.

R requests, K slots
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.needs import ColumnNeed
from feedwell.core.protocols import Setting
from feedwell.core.request import Keys

ListOfKeys = Sequence[int] | Keys


@dataclass(frozen=True, kw_only=True)
class Lists:
    """`ranked_RK` keys best first, -1 where a list is short; `unit_R` is the user that intervals resample.

    The distinct keys that were right for request r are `relevant_keys[relevant_from[r] : relevant_from[r + 1]]`.
    """

    unit_R: Keys
    ranked_RK: Keys
    relevant_keys: Keys
    relevant_from: NDArray[np.int64]

    @staticmethod
    def of(units: Sequence[int], ranked: Sequence[ListOfKeys], relevant: Sequence[ListOfKeys], k: int) -> Lists:
        """From plain sequences; lists are cut at k, relevant keys are made distinct."""
        ranked_RK = np.full((len(ranked), k), -1, np.int64)
        for r, keys in enumerate(ranked):
            cut = np.asarray(keys[:k], np.int64)
            ranked_RK[r, : len(cut)] = cut
        sets = [np.unique(np.asarray(keys, np.int64)) for keys in relevant]
        ends = np.cumsum([0, *(len(s) for s in sets)]).astype(np.int64)
        return Lists(
            unit_R=np.asarray(units, np.int64),
            ranked_RK=ranked_RK,
            relevant_keys=np.concatenate(sets) if sets else np.empty(0, np.int64),
            relevant_from=ends,
        )

    def __len__(self) -> int:
        return len(self.unit_R)

    @property
    def n_relevant_R(self) -> NDArray[np.int64]:
        return np.diff(self.relevant_from)

    def hits_RK(self, k: int) -> NDArray[np.bool_]:
        """Whether the key at each of the first k slots was right."""
        ranked = self.ranked_RK[:, :k]
        size = int(max(ranked.max(initial=0), self.relevant_keys.max(initial=0))) + 1
        request = np.repeat(np.arange(len(self), dtype=np.int64), self.n_relevant_R)
        right = request * size + self.relevant_keys
        asked = np.arange(len(self), dtype=np.int64)[:, None] * size + ranked
        return np.isin(asked, right) & (ranked >= 0)

    def take(self, rows: NDArray[np.bool_]) -> Lists:
        """Those requests only."""
        keep = np.repeat(rows, self.n_relevant_R)
        return Lists(
            unit_R=self.unit_R[rows],
            ranked_RK=self.ranked_RK[rows],
            relevant_keys=self.relevant_keys[keep],
            relevant_from=np.concatenate([[0], np.cumsum(self.n_relevant_R[rows])]).astype(np.int64),
        )


@runtime_checkable
class ListMetric(Protocol):
    """A family of metrics of lists that `[metric.<name>]` can declare: made as `Part(config, setting)`.

    Evaluation turns its values into Ratios, so they get intervals by user, paired differences and slices.
    """

    names: ClassVar[tuple[str, ...]]
    """What the columns of `values` are called in reports and in `[gates] metric`; none may stand twice."""

    def __init__(self, config: Any, setting: Setting) -> None: ...
    @property
    def needs(self) -> tuple[ColumnNeed, ...]:
        """Catalog columns of the item."""
        ...

    def values(self, lists: Lists, columns: Mapping[str, Float]) -> Float:
        """value_RM in the order of `names`; NaN where a request is not counted.

        `columns["item.price"][key]` is an item's value at the end of the test span, NaN where it has none.
        """
        ...

"""What the built-in sources share: the key `k`, which events count by default, and the best rows of a fixed order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float, Retrieved
from feedwell.core.event import CATALOG_PREFIX
from feedwell.core.keys import contains
from feedwell.core.protocols import PartConfig, Setting, serve
from feedwell.core.request import NO_KEYS, Keys, Request

NOTHING = Retrieved(keys_N=NO_KEYS, scores_N=np.empty(0))


class SourceConfig(PartConfig):
    """Every source returns at most `k` keys, fewer where the runner narrows the request."""

    k: int = serve(100, ge=1, le=100_000)


def wanted(request: Request, k: int) -> int:
    """How many keys to return at the request's width; at least 1."""
    return max(1, math.ceil(k * request.width))


def positive_events(events: tuple[str, ...], setting: Setting) -> tuple[str, ...]:
    """The declared events; where none are, all that neither undo another nor belong to a `down` objective."""
    if events:
        return events
    unwanted = set(setting.undone_by.values())
    unwanted |= {e for o in setting.objectives.values() if o.direction == "down" for e in o.events}
    return tuple(e for e in setting.event_types if e not in unwanted and not e.startswith(CATALOG_PREFIX))


def best_of(keys_N: Keys, scores_N: Float, avoid: Keys, k: int) -> Retrieved:
    """The first `k` of a best-first column that are not in `avoid` (sorted)."""
    # Whatever is avoided, k are found among the first k + len(avoid): a long leaderboard is not scanned.
    reach = k + len(avoid)
    keys_N, scores_N = keys_N[:reach], scores_N[:reach]
    if len(avoid):
        keep_N = ~contains(avoid, keys_N)
        keys_N, scores_N = keys_N[keep_N], scores_N[keep_N]
    return Retrieved(keys_N=keys_N[:k], scores_N=scores_N[:k])


def best_scores(keys_I: Keys, scores_I: NDArray[np.floating[Any]], k: int) -> Retrieved:
    """The `k` keys of greatest score, best first, ties by smaller key; -inf is left out."""
    if k < len(scores_I):
        # All that tie with the k-th come along, so that which of them stay does not depend on the partition.
        row_N = np.flatnonzero(scores_I >= np.partition(scores_I, -k)[-k])
    else:
        row_N = np.arange(len(scores_I))
    row_N = row_N[np.isfinite(scores_I[row_N])]
    row_N = row_N[np.lexsort((keys_I[row_N], -scores_I[row_N]))][:k]
    return Retrieved(keys_N=keys_I[row_N], scores_N=scores_I[row_N].astype(np.float64))

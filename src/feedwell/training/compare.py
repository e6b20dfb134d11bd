"""Compare: who beat whom, said plainly; and whether scores moved when the models were fitted again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from feedwell.core.candidates import Float
from feedwell.metrics import Ratios, difference, smallest_detectable
from feedwell.training.report import DifferenceRow

METRICS = ("recall", "ndcg", "mrr", "hit_rate")
MOVED = 0.25
"""PSI above which two score distributions count as different (the usual convention: .1 some, .25 much)."""

_AROUND = 0.1


def differences(name: str, ratios: Mapping[str, Ratios], others: Sequence[str], k: int) -> tuple[DifferenceRow, ...]:
    """`name` minus each of the others on NDCG and recall, paired by request."""
    rows = []
    for other in others:
        for metric in ("ndcg", "recall"):
            rows.append(
                DifferenceRow(
                    name=name,
                    than=other,
                    metric=f"{metric}@{k}",
                    difference=difference(ratios[name], ratios[other], metric),
                    detectable=smallest_detectable(ratios[name], ratios[other], metric),
                )
            )
    return tuple(rows)


def statements(rows: Sequence[DifferenceRow]) -> tuple[str, ...]:
    """One sentence for each comparison that was not won."""
    return tuple(statement(row) for row in rows if not row.wins)


def statement(row: DifferenceRow) -> str:
    """`pipeline does not beat transitions on ndcg@10: difference -0.0020 [-0.0060, +0.0030]`."""
    d = row.difference
    verb = "beats" if row.wins else ("is worse than" if d.high < 0 else "does not beat")
    text = f"{row.name} {verb} {row.than} on {row.metric}: difference {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
    if not row.wins and not d.high < 0:
        text += f"; a difference of {row.detectable:.4f} would have been seen"
    return text


def psi(before: Float, after: Float, bins: int = 10) -> float:
    """Population stability index over quantile bins of `before`: 0 equal, above .25 moved; NaN where one is empty.

    A value that more than one in `bins` share is a bin of its own, a tenth of the value wide to both sides: a constant
    head has moved whichever way it left, and not when its base rate did by a little.
    """
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if not len(before) or not len(after):
        return float("nan")
    edges = _edges(before, bins)
    n_bins = len(edges) + 1
    shares = [
        (np.bincount(np.searchsorted(edges, v, side="right"), minlength=n_bins) + 0.5) / (len(v) + 0.5 * n_bins)
        for v in (before, after)
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _edges(before: Float, bins: int) -> Float:
    """Where bins begin: inner quantiles, and both sides of a value on which several of them fall."""
    inner, times = np.unique(np.quantile(before, np.linspace(0, 1, bins + 1)[1:-1]), return_counts=True)
    shared = inner[times > 1]
    around = _AROUND * np.abs(shared)
    return np.unique(np.concatenate([inner[times == 1], shared - around, np.nextafter(shared + around, np.inf)]))

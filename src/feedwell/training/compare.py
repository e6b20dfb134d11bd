"""Compare: who beat whom, said plainly; and whether scores moved when the models were fitted again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from feedwell.core.candidates import Float
from feedwell.metrics import Ratios, difference, smallest_detectable
from feedwell.training.report import DifferenceRow, ScoreShift

METRICS = ("recall", "ndcg", "mrr", "hit_rate")


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
    text = f"{row.name} {verb} {row.than} on {row.metric}: difference {d.signed()}"
    if not row.wins and not d.high < 0 and np.isfinite(row.detectable):
        text += f"; a difference of {row.detectable:.4f} would have been seen"
    return text


def score_shift(before_N: Float, after_N: Float) -> ScoreShift:
    """How one objective's scores for the same rows moved from one fit to another; NaN where there are none."""
    known = np.isfinite(before_N) & np.isfinite(after_N)
    before_N, after_N = before_N[known], after_N[known]
    if not len(before_N):
        return ScoreShift(rank_correlation=float("nan"), mean_ratio=float("nan"))
    return ScoreShift(rank_correlation=_spearman(before_N, after_N), mean_ratio=_mean_ratio(before_N, after_N))


def _spearman(one_N: Float, other_N: Float) -> float:
    rank_2N = np.stack([rankdata(one_N), rankdata(other_N)])
    flat = np.ptp(rank_2N, axis=1) == 0
    if flat.any():
        return float(flat.all())
    return float(np.corrcoef(rank_2N)[0, 1])


def _mean_ratio(before_N: Float, after_N: Float) -> float:
    before, after = float(before_N.mean()), float(after_N.mean())
    low, high = min(before, after), max(before, after)
    if low > 0:
        return high / low
    return 1.0 + (high - low) / max(float(before_N.std()), 1e-12)

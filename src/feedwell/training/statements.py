"""Statements: in words, where the ranker predicts an outcome no better than a simpler model, and what not to read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feedwell.training.calibrate import CANDIDATES, EXPOSURES
from feedwell.training.report import HeadRow, QuantityRow

MEASURES = {"auc": "AUC", "grouped_auc": "AUC by user", "log_loss": "log loss"}
_SMALLER_IS_BETTER = ("log_loss",)
_ALIKE = 1.5
"""Rates of exposures and of candidates within this factor are told apart by models, not by what they learned from."""


def head_statements(heads: Sequence[HeadRow]) -> tuple[str, ...]:
    """One sentence for each objective and kind of rows in which the ranker (its first row) does not beat every simpler
    model on each measure, then one where log loss over exposures compares what has different rates.

    A measure that a simpler model lacks, as AUC where all rows have the outcome, is not spoken of.
    """
    said, unlike = [], []
    for over, objective in dict.fromkeys((h.over, h.objective) for h in heads):
        ours, *others = [h for h in heads if (h.over, h.objective) == (over, objective)]
        lost = {measure: text for measure in MEASURES if (text := _not_beaten(ours, others, measure))}
        if lost:
            users = f"{ours.log_loss.n_units:,} user{'' if ours.log_loss.n_units == 1 else 's'}"
            said.append(f"over {over}, {ours.name} on {objective} ({users}): {'; '.join(lost.values())}")
        if over == EXPOSURES and "log_loss" in lost:
            unlike.append(ours)
    return (*said, *_unlike_rates(unlike, heads))


def wins(ours: HeadRow, other: HeadRow, measure: str) -> bool:
    """Whether the ranker's figure is shown to be better; by the figures alone where nothing is paired."""
    low, _ = _gain(ours, other, measure)
    return low > 0


def quantity_statements(rows: Sequence[QuantityRow]) -> tuple[str, ...]:
    """Where the ranker is no nearer to how much there was than a simpler model: by deviance for counts, else RMSE."""
    said = []
    for key in dict.fromkeys((q.over, q.objective) for q in rows):
        ours, *others = [q for q in rows if (q.over, q.objective) == key]
        for other in others:
            mine, theirs = ours.loss.value, other.loss.value
            if not mine < theirs:
                said.append(
                    f"{ours.name} does not beat {other.name} on {ours.loss_name} of {ours.objective} over {ours.over}: "
                    f"{mine:.4g} against {theirs:.4g}"
                )
    return tuple(said)


def _not_beaten(ours: HeadRow, others: Sequence[HeadRow], measure: str) -> str:
    """`AUC by user 0.4401 is worse than that of constant (0.5000)`; empty where the ranker beats all of them."""
    known = [other for other in others if not np.isnan(getattr(other, measure).value)]
    lost = [other for other in known if not wins(ours, other, measure)]
    worse = [other for other in lost if _gain(ours, other, measure)[1] < 0]
    unseen = [other for other in lost if other not in worse]
    told = [f"worse than that of {_named(worse, measure, 'and')}"] if worse else []
    told += [f"not shown to be better than that of {_named(unseen, measure, 'or')}"] if unseen else []
    value = getattr(ours, measure).value
    figure = "not known" if np.isnan(value) else f"{value:.4f}"
    return f"{MEASURES[measure]} ({figure}) is {', and '.join(told)}" if told else ""


def _gain(ours: HeadRow, other: HeadRow, measure: str) -> tuple[float, float]:
    """(lower, upper bound) of how much better the ranker is, paired by user; both the difference of the figures where
    nothing is paired, and no bounds where one user is all."""
    found = other.ranker_minus.get(measure)
    if found is None:
        low = high = getattr(ours, measure).value - getattr(other, measure).value
    else:
        low, high = (-np.inf, np.inf) if np.isnan(found.low) else (found.low, found.high)
    return (-high, -low) if measure in _SMALLER_IS_BETTER else (low, high)


def _named(rows: Sequence[HeadRow], measure: str, last: str) -> str:
    names = [f"{row.name} ({getattr(row, measure).value:.4f})" for row in rows]
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _unlike_rates(exposed: Sequence[HeadRow], heads: Sequence[HeadRow]) -> tuple[str, ...]:
    """Why those log losses say little of the ranker: what it predicts is meant for candidates."""
    rate_of = {h.objective: h.rate for h in heads if h.over == CANDIDATES}
    pairs = [(h.objective, h.rate, rate_of[h.objective]) for h in exposed if h.objective in rate_of]
    apart = [(name, a, b) for name, a, b in pairs if max(a, b) > _ALIKE * min(a, b)]
    if not apart:
        return ()
    rates = ", ".join(f"{name} {100 * here:.2g} % and {100 * there:.2g} %" for name, here, there in apart)
    return (
        "log loss over exposures compares unlike rates: the ranker predicts for candidates, while the constant and "
        f"popularity know how often exposures have the outcome (of exposures and of candidates: {rates}); read AUC "
        "over exposures, and log loss over candidates",
    )

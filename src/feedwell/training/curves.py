"""Curves: how the loss of each fitted part went, round by round, for the report."""

from __future__ import annotations

from collections.abc import Mapping

from feedwell.nn.curves import Curves
from feedwell.training.parts import Parts
from feedwell.training.report import CurveRow


def curve_rows(parts: Parts) -> tuple[CurveRow, ...]:
    """Of every part that keeps `curves`: one `Curves`, or one per head."""
    rows = []
    for name, part in parts.fitted.items():
        kept = getattr(part, "curves", None)
        by_head = kept if isinstance(kept, Mapping) else {"": kept}
        rows += [
            CurveRow(part=name, head=head, train=curves.train, valid=curves.valid, best=curves.best)
            for head, curves in by_head.items()
            if isinstance(curves, Curves) and curves.train
        ]
    return tuple(rows)

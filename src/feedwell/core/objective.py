"""Objective: one row per outcome. Labels, heads, metrics, slate weights and read-outs look it up here.

`where` is a tiny language on one event: `value >= 4`, `surface == "home"`, joined by `and`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Literal

Kind = Literal["binary", "count", "duration", "amount"]
Direction = Literal["up", "down"]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_TERM = re.compile(
    r"""^\s*(value|surface|unit|device|slot)\s*(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?|"[^"]*"|'[^']*')\s*$"""
)


_QUOTED_OR_AND = re.compile(r"""("[^"]*"|'[^']*')| and """)


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison of an event's column with a constant."""

    column: str
    op: str
    constant: float | str

    def holds(self, cell: Any) -> bool:
        """Whether the comparison holds; a missing cell never does."""
        return cell is not None and _COMPARE[self.op](cell, self.constant)


def parse_where(text: str) -> tuple[Term, ...]:
    """The terms of a `where` text, all of which must hold; ValueError says what is wrong.

    >>> parse_where("value >= 4")
    (Term(column='value', op='>=', constant=4.0),)
    """
    ands = [found.span() for found in _QUOTED_OR_AND.finditer(text) if not found[1]]
    edges = pairwise([0, *chain.from_iterable(ands), len(text)])
    return tuple(_parse_term(text[start:end]) for start, end in list(edges)[::2]) if text.strip() else ()


def where_sql(terms: tuple[Term, ...]) -> str:
    """The same condition for a SQL engine (`TRUE` when there are no terms)."""
    return " AND ".join(f'"{t.column}" {"=" if t.op == "==" else t.op} {_literal(t.constant)}' for t in terms) or "TRUE"


def _parse_term(text: str) -> Term:
    found = _TERM.match(text)
    if not found:
        raise ValueError(
            f"cannot read '{text.strip()}': write a column, a comparison and a constant, as in 'value >= 4'"
        )
    column, op, constant = found.groups()
    quoted = constant[0] in "\"'"
    if quoted == (column in ("value", "slot")):
        raise ValueError(
            f"'{text.strip()}' compares {column} with {constant}: numbers for value and slot, quoted text else"
        )
    return Term(column, op, constant[1:-1] if quoted else float(constant))


def _literal(constant: float | str) -> str:
    return repr(constant) if isinstance(constant, float) else "'" + constant.replace("'", "''") + "'"

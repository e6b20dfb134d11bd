"""Figure: a chart with a title that says what it shows, its caption and the table of its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

Legend = tuple[tuple[str, str], ...]
"""(tone, what it stands for)"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a chart: what it is, its mark, its number, and what else to know. `group` begins a block of rows."""

    label: str
    mark: Markup
    value: str
    note: str = ""
    group: str = ""
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small plane among several, with a line of text below."""

    title: str
    drawing: Markup
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`rows` share one scale, whose `axis` stands below them; `heads` name the columns of label and number; `said`:
    sentences that a reader must not miss."""

    id: str
    title: str
    caption: str = ""
    said: tuple[str, ...] = ()
    heads: tuple[str, str] = ("", "")
    rows: tuple[Row, ...] = ()
    axis: Markup = field(default_factory=Markup)
    panels: tuple[Panel, ...] = ()
    legend: Legend = ()
    table: Table | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """Figures under one heading; `pair`: two abreast where there is room."""

    id: str
    title: str
    figures: tuple[Figure, ...]
    pair: bool = False

"""Build: content → one HTML page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from feedwell import __version__
from feedwell.stores.durable import write_atomic
from feedwell.training.page import amounts, costs, flow, models, spread, versus
from feedwell.training.page.content import Content
from feedwell.training.page.figure import Figure, Section
from feedwell.training.page.words import (
    between,
    count,
    day,
    figure,
    metric_name,
    seconds,
    sentence,
    share,
    signed,
    system_name,
)

_TEMPLATES = Path(__file__).parent / "templates"
_SECTIONS: tuple[tuple[str, str, bool, tuple[Callable[[Content], Figure | None], ...]], ...] = (
    ("lists", "Against the alternatives", False, (versus.gains, versus.alternatives)),
    ("flow", "From candidates to slates", True, (flow.funnel, flow.wanted)),
    ("sources", "What each source brings", True, (flow.shown_by_source, flow.recall_by_source)),
    ("predictions", "How well outcomes are predicted", False, (models.heads, amounts.quantities, models.reliability)),
    ("spread", "Who gets what", True, (spread.exposure, spread.slices, spread.groups)),
    ("coverage", "Features at training and at serving", False, (models.features,)),
    ("fits", "How the models were fitted", False, (models.curves,)),
    ("run", "The run", True, (costs.spans, costs.cost)),
)


@dataclass(frozen=True, kw_only=True)
class _Tile:
    what: str
    number: str
    about: str


def write_page(content: Content, path: Path) -> Path:
    """The page in a file, whole or not at all; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page_of(content).encode())
    return path


def page_of(content: Content) -> str:
    """Well-formed HTML (and XML), self-contained: its policy allows this one style and nothing else."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html")
        .render(
            policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
            style=Markup(style),
            version=__version__,
            head=_head(content),
            gates=content.gates,
            warnings=_warnings(content),
            sections=sections_of(content),
        )
    )


def sections_of(content: Content) -> list[Section]:
    """All sections that there is something to show in."""
    made = []
    for id_, title, pair, figures in _SECTIONS:
        found = tuple(figure for figure in (make(content) for make in figures) if figure is not None)
        if found:
            made.append(Section(id=id_, title=title, pair=pair, figures=found))
    return made


@cache
def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    made.filters["sentence"] = sentence
    return made


@cache
def _style() -> str:
    return (_TEMPLATES / "style.css").read_text(encoding="utf-8")


def _head(content: Content) -> dict[str, object]:
    kind = "Training report" if content.release_id else "Evaluation report"
    made = f"made on {day(content.made_at)}"
    release = f"release {content.release_id}, " if content.release_id else ""
    return {
        "eyebrow": f"{kind} · {content.project} · {day(content.made_at)}",
        "title": versus.gain_sentence(content),
        "lede": _lede(content),
        "tiles": _tiles(content),
        "foot": f"{kind} of project {content.project}, {release}project digest {content.digest}, {made}.",
    }


def _lede(content: Content) -> str:
    evaluation, ours = content.evaluation, content.pipeline
    if ours is None or not evaluation.n_counted:
        return "No request of the test span has anything relevant, so there is nothing to judge lists by."
    found = ours.metrics[content.metric]
    said = f"{metric_name(content.metric)} is {figure(found.value)} ({between(found)})"
    rivals = content.others
    if rivals:
        best = rivals[0]
        theirs = best.metrics[content.metric].value
        said += f", against {figure(theirs)} for {system_name(best.name)}, the strongest alternative"
        gap = next((d for d in evaluation.differences if (d.than, d.metric) == (best.name, content.metric)), None)
        if gap is not None:
            said += f": a difference of {signed(gap.difference.value)} ({between(gap.difference, sign=True)})"
            said += f", {signed(100 * gap.difference.value / theirs, 0)} %" if theirs > 0 else ""
    relevant = f" ({evaluation.relevant})" if evaluation.relevant else ""
    return (
        f"{said}. Judged on {count(evaluation.n_counted)} requests of {count(evaluation.n_users)} users with something "
        f"relevant{relevant} in the test span; intervals are 95 %, by user."
    )


def _tiles(content: Content) -> list[_Tile]:
    evaluation, ours = content.evaluation, content.pipeline
    if ours is None:
        return []
    tiles = [
        _Tile(what=metric_name(name), number=figure(found.value), about=between(found))
        for name, found in ours.metrics.items()
        if name in (content.metric, f"recall@{evaluation.k}")
    ]
    tiles.append(
        _Tile(what="catalog shown", number=share(ours.coverage), about=f"Gini of slots {figure(ours.gini, 3)}")
    )
    judged = f"{count(evaluation.n_counted)} with something relevant"
    tiles.append(_Tile(what="requests judged", number=count(evaluation.n_requests), about=judged))
    stages = [c for name, c in content.cost.items() if not name.startswith("fit ")]
    if stages:
        cpu = f"{seconds(sum(c['cpu_s'] for c in stages))} CPU"
        tiles.append(_Tile(what="the run took", number=seconds(sum(c["wall_s"] for c in stages)), about=cpu))
    return tiles


def _warnings(content: Content) -> list[str]:
    """What a reader must know: what is not causal, warnings of the run, what was degraded."""
    evaluation = content.evaluation
    degraded = [f"degraded in {count(n)} requests: {why}" for why, n in evaluation.degraded.items()]
    return [note for note in (evaluation.note, *content.warnings, *degraded) if note]

"""Why did I see this? Read from the record, and from the trace where there is one; nothing is computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from feedwell.core.project import Project
from feedwell.core.slate import SlateRecord
from feedwell.pipeline.project_file import variant
from feedwell.pipeline.record import RETRIEVED, UNCALIBRATED

Names = Callable[[Sequence[int]], Sequence[str | None]]
"""Item keys → outside ids; None for one that is gone."""
FORGOTTEN = "(forgotten)"


def explain(record: SlateRecord, trace: Mapping[str, Any] | None, names: Names, project: Project) -> dict[str, Any]:
    """Each slot with its sources, features, predictions and weights, value and propensity; what was dropped and why.

    `project` is the one of the record's release; its overlay for the record's surface and arms gives the weights.
    """
    overlaid = variant(project, surface=record.surface, assignments=record.assignments)
    ids = [name or FORGOTTEN for name in names(record.keys)]
    explained = {
        "request_id": record.request_id,
        "user_id": record.user_id,
        "t": record.t,
        "surface": record.surface,
        "release": record.release_id,
        "assignments": record.assignments,
        "width": record.width,
        "degraded": record.degraded,
        "fallback": record.fallback,
        "shown": record.shown,
        "short": record.short,
        "relaxed": record.relaxed,
        "counts": record.counts,
        "user_features": _numbers(record.user_features),
        "stage_ms": record.stage_ms,
        "slots": [_slot(record, i, ids[i], overlaid, trace) for i in range(len(record.keys))],
    }
    return explained if trace is None else explained | {"not_shown": _not_shown(trace, names)}


def lines_of(explained: Mapping[str, Any]) -> Iterator[str]:
    """The explanation as text for a terminal, one idea per line."""
    counts = explained["counts"]
    gone = ", ".join(f"{n} {reason}" for reason, n in counts.items() if n and reason != RETRIEVED)
    not_shown = "" if explained["shown"] else ", ranked and not shown"
    yield f"request {explained['request_id']} of {explained['user_id']} on {explained['surface']}{not_shown}"
    yield f"{counts.get(RETRIEVED, 0)} candidates: {gone}"
    yield from (f"degraded: {why}" for why in explained["degraded"])
    for slot in explained["slots"]:
        value = "not scored" if slot["value"] is None else f"value {slot['value']:.4g}"
        origin = f"p = {slot['propensity']:.3f}, from {', '.join(slot['sources'])}"
        yield f"{slot['slot']:>3}. {slot['item_id']}  {value}, {origin}"
        terms = [_term(name, slot["predictions"]) for name in slot["predictions"]]
        if terms:
            yield f"     {' + '.join(terms)}"
        raw = [f"{name} {_text(p['uncalibrated'])}" for name, p in slot["predictions"].items() if "uncalibrated" in p]
        if raw:
            yield f"     before calibration: {', '.join(raw)}"
        known = {name: v for name, v in slot["features"].items() if v is not None}
        if known:
            yield "     " + ", ".join(f"{name} {v:g}" for name, v in list(known.items())[:6])


def _term(name: str, predictions: Mapping[str, Any]) -> str:
    """`weight × p`, multiplied up the chain of what it is given, as the value function does."""
    text, at = f"{predictions[name]['weight']:g} × {name} {_text(predictions[name]['prediction'])}", name
    while (parent := predictions[at]["given"]) is not None and parent in predictions:
        text, at = f"{text} × {parent} {_text(predictions[parent]['prediction'])}", parent
    return text


def weights_of(project: Project) -> dict[str, float]:
    """What each objective counts in the value: the value's own weight if it has one, else the objective's, signed."""
    own = project.value.options.get("weights", {})
    return {
        name: (1.0 if objective.direction == "up" else -1.0) * float(own.get(name, objective.weight))
        for name, objective in project.objective.items()
    }


def _slot(
    record: SlateRecord, i: int, item_id: str, project: Project, trace: Mapping[str, Any] | None
) -> dict[str, Any]:
    weights = weights_of(project)
    mask = record.sources[i]
    sources = [name for s, name in enumerate(record.source_names) if mask >> s & 1]
    features = record.features[i] if record.features else []
    slot = {
        "slot": len(record.prefix) + i + 1,
        "item_id": item_id,
        "sources": sources,
        "features": _numbers(dict(zip(record.feature_names, features, strict=True))),
        "predictions": {name: _prediction(record, i, name, project) for name in record.predictions if name in weights},
        "value": _number(record.predictions.get("value", [])[i] if "value" in record.predictions else None),
        "utility": _number(record.utility[i]),
        "propensity": record.propensity[i],
        "explored": record.explore["first"] <= len(record.prefix) + i + 1 <= record.explore["last"],
    }
    if trace is not None:
        slot["retrieval_scores"] = {name: _score(trace["retrieved"][name], record.keys[i]) for name in sources}
    return slot


def _prediction(record: SlateRecord, i: int, name: str, project: Project) -> dict[str, Any]:
    """What was predicted of one slot; `uncalibrated`: what the ranker said before calibration, where that differs."""
    told = {
        "prediction": _number(record.predictions[name][i]),
        "weight": weights_of(project)[name],
        "given": project.objective[name].given,
    }
    raw = record.predictions.get(UNCALIBRATED + name)
    return told if raw is None else told | {"uncalibrated": _number(raw[i])}


def _not_shown(trace: Mapping[str, Any], names: Names) -> list[dict[str, Any]]:
    """Every other candidate with what became of it, in retrieval order."""
    everything = trace["all"]
    rows = [
        (key, everything["reasons"][s]) for key, s in zip(everything["keys"], everything["status"], strict=True) if s
    ]
    ids = names([int(key) for key, _ in rows])
    return [{"item_id": name or FORGOTTEN, "reason": why} for name, (_, why) in zip(ids, rows, strict=True)]


def _score(retrieved: Mapping[str, Any], key: int) -> float | None:
    keys = list(retrieved["keys"])
    return _number(retrieved["scores"][keys.index(key)]) if key in keys else None


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: float | None) -> float | None:
    """JSON has no NaN: None says that a number is missing."""
    return None if value is None or value != value else float(value)


def _text(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4g}"

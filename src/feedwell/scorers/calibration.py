"""Calibration: predictions made to mean what they say, each objective by its own curve, after the ranker.

N rows
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from feedwell.core.candidates import Candidates, Float
from feedwell.core.errors import CorruptArtifact, NotTrained
from feedwell.core.needs import Need
from feedwell.core.protocols import Examples, PartConfig, RankingRows, Setting, fit, serve
from feedwell.core.registry import scorer
from feedwell.core.request import Request
from feedwell.scorers._curves import Curve, Link, isotonic, logistic_map, scaled
from feedwell.stores.arrays import load_arrays, save_arrays

_ABOUT = "calibration.json"
_FILE = "calibration.safetensors"
_ARRAYS = ("x_K", "y_K", "slopes")


@scorer("calibration")
class Calibration:
    """c_N per objective from the ranker's p_N. Order within an objective never changes, ties stay ties.

    Fitted on rows that the ranker has not seen, whose `weight_N` says how many candidates a row stands for; an
    objective that is `given` another on the rows in which that one happened. Where nothing happened, or an objective
    has no prediction, predictions stay as they are and `warnings` says so.
    """

    examples: ClassVar[Examples] = ({}, {"method": "isotonic", "min_outcomes": 5}, {"method": "platt"})

    class Config(PartConfig):
        method: Literal["auto", "isotonic", "beta", "platt", "scale", "none"] = fit("auto")
        """"auto": isotonic from `isotonic_from` outcomes on, below that beta (binary) or scale (counts, durations,
        amounts), which is also what beta and platt mean for those."""
        isotonic_from: int = fit(1000, ge=1)
        min_outcomes: int = fit(50, ge=1)
        """Rows with the outcome behind each knot of an isotonic curve."""
        prior: float = fit(10.0, ge=0)
        """How strongly the others are held at "as predicted": the precision of their slopes, or so many outcomes."""
        enabled: bool = serve(True)
        """false: predictions pass as the ranker made them."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._setting = setting
        self._curves: Mapping[str, Curve] | None = None
        self.warnings: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[Need, ...]:
        return ()

    @property
    def methods(self) -> dict[str, str]:
        """objective → the method of its curve; "none": as predicted."""
        return {name: curve.method for name, curve in self._trained().items()}

    def __call__(self, request: Request, candidates: Candidates) -> Mapping[str, Float]:
        return self.calibrated(candidates.predictions)

    def calibrated(self, predictions: Mapping[str, Float]) -> dict[str, Float]:
        """The same objectives, each through its curve; one without a curve as it is."""
        curves = self._trained()
        if not self.config.enabled:
            return dict(predictions)
        return {name: curves[name](p_N) if name in curves else p_N for name, p_N in predictions.items()}

    def fit(self, rows: RankingRows) -> None:
        """Curves from `rows.predictions`, the fitted ranker's p_N for these rows, and their labels."""
        curves, self.warnings = {}, ()
        for name in rows.labels:
            if name in rows.predictions:
                curves[name], why = self._curve(name, rows)
                self.warnings += (f"calibration of '{name}': {why}; it serves as predicted",) if why else ()
        self._curves = curves

    def save(self, folder: Path) -> None:
        curves = self._trained()
        about = {name: {"method": curve.method, "link": curve.link} for name, curve in curves.items()}
        (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        arrays = {f"{i}.{key}": getattr(curve, key) for i, curve in enumerate(curves.values()) for key in _ARRAYS}
        save_arrays(folder / _FILE, arrays)

    def load(self, folder: Path) -> None:
        try:
            about = dict(json.loads((folder / _ABOUT).read_text(encoding="utf-8")))
            told = {name: (str(c["method"]), _link(c["link"])) for name, c in about.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptArtifact(f"reading the calibration in {folder}: {error}; train again") from error
        arrays: Any = load_arrays(folder / _FILE, [f"{i}.{key}" for i in range(len(told)) for key in _ARRAYS])
        self._curves = {
            name: Curve(method=method, link=link, **{key: arrays[f"{i}.{key}"] for key in _ARRAYS})
            for i, (name, (method, link)) in enumerate(told.items())
        }

    def _trained(self) -> Mapping[str, Curve]:
        if self._curves is None:
            raise NotTrained.of(self._setting.name)
        return self._curves

    def _curve(self, name: str, rows: RankingRows) -> tuple[Curve, str]:
        """(the objective's curve, "") or (the identity, why)."""
        objective = self._setting.objectives.get(name)
        given, binary = getattr(objective, "given", None), getattr(objective, "kind", "binary") == "binary"
        y_N, p_N = rows.labels[name], rows.predictions[name]
        known_N = np.isfinite(y_N) & np.isfinite(p_N) & (rows.weight_N > 0)
        if given is not None and given in rows.labels:
            known_N &= rows.labels[given] > 0
        y_n, p_n, weight_n = y_N[known_N], p_N[known_N], rows.weight_N[known_N]
        if binary:
            y_n = (y_n > 0).astype(np.float64)
        n_some = int(np.count_nonzero(y_n))
        if self.config.method == "none":
            return Curve(), ""
        if not n_some or (binary and n_some == len(y_n)):
            return Curve(), f"{'nothing' if not n_some else 'nothing else'} happened in the {len(y_n)} rows kept for it"
        if binary and (p_n.min() < 0 or p_n.max() > 1):
            return Curve(), f"predictions from {p_n.min():g} to {p_n.max():g} are no probabilities"
        return self._fitted(binary, p_n, y_n, weight_n), ""

    def _fitted(self, binary: bool, p_n: Float, y_n: Float, weight_n: Float) -> Curve:
        config, n_some = self.config, int(np.count_nonzero(y_n))
        enough = min(n_some, len(y_n) - n_some) if binary else n_some
        method = config.method
        if method == "auto":
            method = "isotonic" if enough >= config.isotonic_from else "beta"
        link: Link = "logit" if binary else "log"
        can_bend = binary or bool(p_n.min() >= 0 and p_n.max() > 0 and y_n.min() >= 0)
        if method == "isotonic" and can_bend and enough >= config.min_outcomes:
            return isotonic(p_n, y_n, weight_n, link, config.min_outcomes)
        if binary:
            return logistic_map("beta" if method == "isotonic" else method, p_n, y_n, weight_n, config.prior)
        return scaled(p_n, y_n, weight_n, config.prior)


def _link(name: object) -> Link:
    for link in get_args(Link):
        if name == link:
            found: Link = link
            return found
    raise ValueError(f"link '{name}' is none of {', '.join(get_args(Link))}")

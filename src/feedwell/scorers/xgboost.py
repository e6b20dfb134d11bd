"""Gradient-boosted trees: one head per objective, missing values native."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xgboost

from feedwell.core.candidates import Candidates, Float
from feedwell.core.errors import CorruptArtifact, NotTrained
from feedwell.core.needs import Need
from feedwell.core.protocols import Examples, RankingRows, Setting, fit
from feedwell.core.registry import scorer
from feedwell.core.request import Request
from feedwell.nn.curves import Curves
from feedwell.scorers._rows import (
    FeatureConfig,
    Head,
    Matrix,
    Vocabulary,
    chosen,
    columns_of,
    gather,
    heads,
    label_scale,
    row_needs,
)
from feedwell.stores.arrays import load_arrays, save_arrays

_ABOUT = "xgboost.json"
_VOCABULARY = "vocabulary.safetensors"
_EVALUATED = {
    "binary:logistic": "logloss",
    "count:poisson": "poisson-nloglik",
    "reg:squarederror": "rmse",
}


@dataclass(frozen=True, kw_only=True)
class _Model:
    names: tuple[str, ...]
    vocabulary: Vocabulary
    boosters: Mapping[str, xgboost.Booster]
    scales: Mapping[str, float]
    """Predictions are in units of this: trees that start at a mean of 1 need no rounds to find the size of a µs."""


@scorer("xgboost")
class Xgboost:
    """p_N per objective: the probability (binary), the expected count, or the expected µs or amount, by its kind.

    Chen and Guestrin (2016), histogram trees. Losses: binary logistic; Poisson for counts, durations and amounts, whose
    minimiser keeps the mean of what has many zeros and a long tail (Tweedie 1.5 fell 14 % short of it on a simulated
    dwell time, 2026-11-21); squared error where labels go below 0. With rows kept back (`valid_N`)
    growth stops after `patience` rounds without gain and the best round serves. Serving runs on one thread: 500 × 60
    features and 300 trees take about 2.4 ms a head.
    """

    examples: ClassVar[Examples] = ({"n_trees": 5}, {"n_trees": 5, "features": ("f0", "key"), "categorical": ("key",)})

    class Config(FeatureConfig):
        max_categories: int = fit(1000, ge=1, le=65_535)
        """A key's most frequent values are known, split one by one or as sets; any other counts as missing."""
        n_trees: int = fit(300, ge=1, le=10_000)
        learning_rate: float = fit(0.08, gt=0, le=1)
        max_depth: int = fit(6, ge=1, le=16)
        min_child_weight: float = fit(5.0, ge=0)
        subsample: float = fit(0.8, gt=0, le=1)
        colsample: float = fit(0.8, gt=0, le=1)
        reg_lambda: float = fit(1.0, ge=0)
        patience: int = fit(20, ge=1)
        threads: int = fit(1, ge=1, le=1024)
        """More only where cores stand idle: two threads on two busy cores burnt 10 CPU-s for 1.5 (2026-11-21)."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._setting = setting
        self._model: _Model | None = None
        self.curves: dict[str, Curves] = {}
        """objective → the loss by tree while it grew; empty after `load`."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the fitted trees read; before `fit` or `load`, what the configuration names."""
        return row_needs(self.config.features if self._model is None else self._model.names)

    def __call__(self, request: Request, candidates: Candidates) -> Mapping[str, Float]:
        return self._predict(gather(request, candidates, self._trained().names))

    def predict(self, rows: RankingRows) -> Mapping[str, Float]:
        return self._predict(columns_of(rows, self._trained().names))

    def _predict(self, x_NF: Matrix) -> dict[str, Float]:
        model = self._trained()
        if not len(x_NF):
            return {name: np.empty(0) for name in model.boosters}
        x_NF = _coded(x_NF, model.names, model.vocabulary)
        return {
            name: booster.inplace_predict(x_NF).astype(np.float64) * model.scales[name]
            for name, booster in model.boosters.items()
        }

    def fit(self, rows: RankingRows) -> None:
        names, x_NF = chosen(rows, self.config.features, self.config.categorical)
        vocabulary = Vocabulary.fit(x_NF, names, self.config.categorical, self.config.max_categories)
        x_NF = _coded(x_NF, names, vocabulary)
        made = heads(rows, self._setting)
        self.curves = {}
        scales = {head.name: label_scale(head) for head in made}
        boosters = {head.name: self._grow(head, x_NF, names, rows) for head in made}
        self._set(_Model(names=names, vocabulary=vocabulary, boosters=boosters, scales=scales))

    def save(self, folder: Path) -> None:
        model = self._trained()
        about = {"features": model.names, "scales": model.scales, "categorical": list(model.vocabulary.values)}
        (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        save_arrays(folder / _VOCABULARY, dict(model.vocabulary.values))
        for i, booster in enumerate(model.boosters.values()):
            booster.save_model(folder / f"head_{i}.ubj")

    def load(self, folder: Path) -> None:
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            boosters = {name: _booster(folder / f"head_{i}.ubj") for i, name in enumerate(about["scales"])}
        except (OSError, ValueError, KeyError, xgboost.core.XGBoostError) as error:
            raise CorruptArtifact(f"reading the xgboost ranker in {folder}: {error}; train again") from error
        arrays = load_arrays(folder / _VOCABULARY, about["categorical"])
        values = {name: arrays[name].astype(np.float32) for name in about["categorical"]}
        names = tuple(about["features"])
        self._set(_Model(names=names, vocabulary=Vocabulary(values), boosters=boosters, scales=about["scales"]))

    def _set(self, model: _Model) -> None:
        for booster in model.boosters.values():
            # A process per core: more threads here would make the tail of the latency, not shorten its head.
            booster.set_param({"nthread": 1})
        self._model = model

    def _trained(self) -> _Model:
        if self._model is None:
            raise NotTrained.of(self._setting.name)
        return self._model

    def _grow(self, head: Head, x_NF: Matrix, names: tuple[str, ...], rows: RankingRows) -> xgboost.Booster:
        y = head.y / label_scale(head)
        valid_N = rows.valid_N[head.rows]
        fitted, kept = head.rows[~valid_N], head.rows[valid_N]
        if not len(fitted):
            fitted, kept, valid_N = head.rows, kept[:0], np.zeros(len(head.rows), np.bool_)
        seen: dict[str, dict[str, list[float]]] = {}
        kinds = ["c" if name in self.config.categorical else "q" for name in names]
        train = _matrix(x_NF[fitted], y[~valid_N], rows.weight_N[fitted], kinds)
        valid = _matrix(x_NF[kept], y[valid_N], rows.weight_N[kept], kinds, like=train) if len(kept) else None
        grown = xgboost.train(
            self._parameters(_loss(head)) | {"base_score": _start(head)},
            train,
            self.config.n_trees,
            evals=[(train, "train"), (valid, "valid")] if valid is not None else [(train, "train")],
            evals_result=seen,
            callbacks=[xgboost.callback.EarlyStopping(rounds=self.config.patience, save_best=True)]
            if valid is not None
            else [],
            verbose_eval=False,
        )
        train_loss, valid_loss = (tuple(*seen.get(name, {"": []}).values()) for name in ("train", "valid"))
        best = int(np.argmin(valid_loss)) if valid_loss else len(train_loss) - 1
        self.curves[head.name] = Curves(train=train_loss, valid=valid_loss, best=best, rows=len(fitted))
        return grown

    def _parameters(self, loss: str) -> dict[str, Any]:
        config = self.config
        return {
            "objective": loss,
            "eval_metric": _EVALUATED[loss],
            "tree_method": "hist",
            "eta": config.learning_rate,
            "max_depth": config.max_depth,
            "min_child_weight": config.min_child_weight,
            "subsample": config.subsample,
            "colsample_bytree": config.colsample,
            "lambda": config.reg_lambda,
            "nthread": config.threads,
            "seed": self._setting.seed % 2**31,
            "verbosity": 0,
        }


def _loss(head: Head) -> str:
    if head.kind == "binary":
        return "binary:logistic"
    if (head.y < 0).any():
        return "reg:squarederror"
    return "count:poisson"


def _start(head: Head) -> float:
    """Where the trees start: the mean label, held off 0 (and a rate off 1) where a log or a logit is taken."""
    if _loss(head) == "reg:squarederror":
        return float(head.y.mean()) / label_scale(head)
    n = len(head.y)
    mean = float((head.y > 0).mean()) if head.kind == "binary" else float(head.y.mean()) / label_scale(head)
    return (mean * n + 0.5) / (n + 1)


def _matrix(
    x_NF: Matrix, y_N: Float, weight_N: Float, kinds: list[str], like: xgboost.QuantileDMatrix | None = None
) -> xgboost.QuantileDMatrix:
    return xgboost.QuantileDMatrix(
        x_NF, label=y_N, weight=weight_N, feature_types=kinds, enable_categorical="c" in kinds, ref=like
    )


def _coded(x_NF: Matrix, names: tuple[str, ...], vocabulary: Vocabulary) -> Matrix:
    """The same with keys replaced by their rows; unknown ones are missing."""
    if not vocabulary.values:
        return x_NF
    coded_NF = x_NF.copy()
    for name in vocabulary.values:
        f = names.index(name)
        row_N = vocabulary.rows(name, x_NF[:, f])
        coded_NF[:, f] = np.where(row_N >= 0, row_N, np.nan)
    return coded_NF


def _booster(path: Path) -> xgboost.Booster:
    booster = xgboost.Booster()
    booster.load_model(path)
    return booster

"""Generalised linear models: one head per objective, small, quick and easy to read.

N rows, F features, G columns made from them
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from feedwell.core.candidates import Candidates, Float
from feedwell.core.errors import CorruptArtifact, DataError, NotTrained
from feedwell.core.needs import Need
from feedwell.core.protocols import Examples, RankingRows, Setting, fit
from feedwell.core.registry import scorer
from feedwell.core.request import Request
from feedwell.scorers._rows import FeatureConfig, Head, Matrix, Vocabulary, chosen, columns_of, gather, heads, row_needs
from feedwell.stores.arrays import load_arrays, save_arrays

_ABOUT = "logistic.json"
_FILE = "logistic.safetensors"
_ARRAYS = ("mean_F", "scale_F", "weights_TG", "bias_T")
_VALUES = "values."
_LARGEST_EXPONENT = 50.0


@dataclass(frozen=True, kw_only=True)
class _Model:
    """`mean_F`, `scale_F` standardise; a row's columns are F values, F "is missing" marks and the one-hot values."""

    names: tuple[str, ...]
    kinds: Mapping[str, str]
    vocabulary: Vocabulary
    mean_F: Float
    scale_F: Float
    weights_TG: Float
    bias_T: Float


@scorer("logistic")
class Logistic:
    """p_N per objective: logistic for a binary outcome; for counts, durations and amounts exp(x · w + b), fitted by the
    Poisson likelihood, which keeps the mean of any outcome that cannot be negative.

    Features are transformed, standardised, set to the mean where missing, and joined by a mark that says so; a
    categorical feature becomes one column per known value. An objective that never (or always) happened gets its
    smoothed rate. Labels below 0 are refused for the kinds that cannot be negative.
    """

    examples: ClassVar[Examples] = ({}, {"transform": "none", "features": ("f0", "key"), "categorical": ("key",)})

    class Config(FeatureConfig):
        max_categories: int = fit(100, ge=1, le=10_000)
        """A key's most frequent values become a column each; any other is none of them."""
        transform: Literal["log", "none"] = fit("log")
        """"log": sign(x) log(1 + |x|), which tames counts and leaves rates nearly as they are."""
        regularization: float = fit(1.0, gt=0)
        """λ of λ/2 ‖w‖² beside the summed loss over the rows."""
        max_iterations: int = fit(200, ge=1)

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self._setting = setting
        self._model: _Model | None = None

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the fitted weights read; before `fit` or `load`, what the configuration names."""
        return row_needs(self.config.features if self._model is None else self._model.names)

    def __call__(self, request: Request, candidates: Candidates) -> Mapping[str, Float]:
        return self._predict(gather(request, candidates, self._trained().names))

    def predict(self, rows: RankingRows) -> Mapping[str, Float]:
        return self._predict(columns_of(rows, self._trained().names))

    def _predict(self, x_NF: Matrix) -> dict[str, Float]:
        model = self._trained()
        z_NT = self._columns(model, x_NF) @ model.weights_TG.T + model.bias_T
        return {name: _inverse_link(kind, z_NT[:, t]) for t, (name, kind) in enumerate(model.kinds.items())}

    def fit(self, rows: RankingRows) -> None:
        names, x_NF = chosen(rows, self.config.features, self.config.categorical)
        vocabulary = Vocabulary.fit(x_NF, names, self.config.categorical, self.config.max_categories)
        made = [head.learned(rows.valid_N) for head in heads(rows, self._setting)]
        mean_F, scale_F = _moments(_transformed(x_NF, self.config.transform))
        blank = _Model(
            names=names,
            kinds={head.name: head.kind for head in made},
            vocabulary=vocabulary,
            mean_F=mean_F,
            scale_F=scale_F,
            weights_TG=np.empty((0, 0)),
            bias_T=np.empty(0),
        )
        x_NG = self._columns(blank, x_NF)
        fitted = [self._fit_head(head, x_NG[head.rows], rows.weight_N[head.rows]) for head in made]
        self._model = _Model(
            **{
                **blank.__dict__,
                "weights_TG": np.stack([weights_G for weights_G, _ in fitted]),
                "bias_T": np.array([bias for _, bias in fitted]),
            }
        )

    def save(self, folder: Path) -> None:
        model = self._trained()
        about = {"features": model.names, "kinds": model.kinds, "categorical": list(model.vocabulary.values)}
        (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        values = {_VALUES + name: values for name, values in model.vocabulary.values.items()}
        save_arrays(folder / _FILE, {name: getattr(model, name) for name in _ARRAYS} | values)

    def load(self, folder: Path) -> None:
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            names, kinds, categorical = tuple(about["features"]), dict(about["kinds"]), list(about["categorical"])
        except (OSError, ValueError, KeyError) as error:
            raise CorruptArtifact(f"reading the logistic ranker in {folder}: {error}; train again") from error
        arrays = load_arrays(folder / _FILE, (*_ARRAYS, *(_VALUES + name for name in categorical)))
        self._model = _Model(
            names=names,
            kinds=kinds,
            vocabulary=Vocabulary({name: arrays[_VALUES + name].astype(np.float32) for name in categorical}),
            **{name: arrays[name].astype(np.float64) for name in _ARRAYS},
        )

    def _trained(self) -> _Model:
        if self._model is None:
            raise NotTrained.of(self._setting.name)
        return self._model

    def _columns(self, model: _Model, x_NF: Matrix) -> Float:
        """float64 [N, G]: standardised values, marks of missing ones, one-hot rows of known categories."""
        z_NF = _transformed(x_NF, self.config.transform)
        missing_NF = ~np.isfinite(z_NF)
        z_NF = np.where(missing_NF, 0.0, (z_NF - model.mean_F) * model.scale_F)
        one_hot = []
        for name, values in model.vocabulary.values.items():
            f = model.names.index(name)
            row_N = model.vocabulary.rows(name, x_NF[:, f])
            one_hot.append((row_N[:, None] == np.arange(len(values))).astype(np.float64))
            z_NF[:, f] = 0.0
        return np.concatenate([z_NF, missing_NF.astype(np.float64), *one_hot], axis=1)

    def _fit_head(self, head: Head, x_NG: Float, weight_N: Float) -> tuple[Float, float]:
        if head.kind == "binary":
            return self._fit_binary(x_NG, head.y > 0, weight_N)
        if (head.y < 0).any():
            raise DataError(
                f"fitting the logistic ranker: objective '{head.name}' of kind {head.kind} has the label "
                f"{head.y.min():g}; "
                'expected 0 or more. Use kind = "xgboost" for outcomes that go below 0'
            )
        if not head.y.any():
            return np.zeros(x_NG.shape[1]), float(np.log(0.5 / (len(head.y) + 1)))
        # scikit-learn averages the loss where LogisticRegression sums it.
        alpha = self.config.regularization / float(weight_N.sum())
        model = PoissonRegressor(alpha=alpha, max_iter=self.config.max_iterations)
        # Labels in units of their mean: descent from 0 then starts near, whether they count clicks or microseconds.
        size = float(head.y.mean())
        _fit_quietly(model, x_NG, head.y / size, weight_N)
        return model.coef_.astype(np.float64), float(model.intercept_) + float(np.log(size))

    def _fit_binary(self, x_NG: Float, y_N: NDArray[np.bool_], weight_N: Float) -> tuple[Float, float]:
        positive, total = float(weight_N[y_N].sum()), float(weight_N.sum())
        if y_N.all() or not y_N.any():
            return np.zeros(x_NG.shape[1]), float(np.log((positive + 0.5) / (total - positive + 0.5)))
        model = LogisticRegression(C=1.0 / self.config.regularization, max_iter=self.config.max_iterations)
        _fit_quietly(model, x_NG, y_N, weight_N)
        return model.coef_[0].astype(np.float64), float(model.intercept_[0])


def _fit_quietly(model: LogisticRegression | PoissonRegressor, x_NG: Float, y_N: NDArray[Any], weight_N: Float) -> None:
    """An unfinished descent is still the best linear ranker at hand: its metrics say how good, not a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x_NG, y_N, sample_weight=weight_N)


def _inverse_link(kind: str, z_N: Float) -> Float:
    if kind == "binary":
        p_N: Float = 0.5 * (1.0 + np.tanh(0.5 * z_N))
        return p_N
    return np.exp(np.minimum(z_N, _LARGEST_EXPONENT))


def _transformed(x_NF: Matrix, transform: str) -> Float:
    x = x_NF.astype(np.float64)
    x[~np.isfinite(x)] = np.nan
    return x if transform == "none" else np.sign(x) * np.log1p(np.abs(x))


def _moments(x_NF: Float) -> tuple[Float, Float]:
    """(mean, 1 / sd) of each column's known values; a constant or empty column gets scale 0 and so no say."""
    known_NF = np.isfinite(x_NF)
    n_F = np.maximum(known_NF.sum(axis=0), 1)
    mean_F = np.where(known_NF, x_NF, 0.0).sum(axis=0) / n_F
    sd_F = np.sqrt((np.where(known_NF, x_NF - mean_F, 0.0) ** 2).sum(axis=0) / n_F)
    varied_F = sd_F > 1e-12 * np.maximum(1.0, np.abs(mean_F))
    return mean_F, np.where(varied_F, 1.0 / np.where(varied_F, sd_F, 1.0), 0.0)

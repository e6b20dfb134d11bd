"""Strictly increasing maps from what a ranker predicts to what came of it.

N rows, K knots. `link` is the scale that a map is drawn on: logit for probabilities, log for what cannot be negative,
the value itself for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit

from feedwell.core.candidates import Float

Link = Literal["logit", "log", "none"]
_EPSILON = 1e-6
"""Probabilities are taken to be no surer than this, when a map is fitted and when it serves: one that was 0 and wrong
moves no mountains, and one that is 1 is believed as much as such predictions were right."""
_APART = 1e-4
"""By so much of itself, at most, what is surer than that is mapped further out, so that its order is kept."""
_LEAST_SLOPE = 0.05
"""A ranker that is no better than chance keeps its order: only the spread of its predictions shrinks."""
_NOTHING = np.empty(0)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """p_N → c_N, strictly increasing and NaN where p is. Neither knots nor slopes: the identity, to the bit.

    A probability nearer to 0 or 1 than 1e-6 becomes what that one becomes, but for a distance that keeps the order.
    Knots `x_K`, `y_K` are on the scale of the link; between them the map is straight, beyond them it keeps its distance
    (odds or size multiplied by a constant). `slopes` (a, b, c) instead is logit c_N = a ln p - b ln(1 - p) + c.
    """

    method: str = "none"
    link: Link = "none"
    x_K: Float = field(default_factory=lambda: _NOTHING)
    y_K: Float = field(default_factory=lambda: _NOTHING)
    slopes: Float = field(default_factory=lambda: _NOTHING)

    def __call__(self, p_N: Float) -> Float:
        if not len(self.x_K) and not len(self.slopes):
            return p_N
        if self.link != "logit":
            return self._between_knots(p_N)
        p_N = np.clip(p_N, 0.0, 1.0)
        less_sure_N = np.clip(p_N, _EPSILON, 1 - _EPSILON)
        c_N = self._by_slopes(less_sure_N) if len(self.slopes) else self._between_knots(less_sure_N)
        with np.errstate(divide="ignore"):
            surer_N = np.maximum(np.log(_EPSILON / np.minimum(p_N, 1 - p_N)), 0.0)
        further_N = _APART * (1 - 1 / (1 + surer_N))
        return c_N + further_N * np.where(p_N > 0.5, 1 - c_N, -c_N)

    def _by_slopes(self, p_N: Float) -> Float:
        a, b, c = self.slopes
        return np.asarray(expit(a * np.log(p_N) - b * np.log1p(-p_N) + c), np.float64)

    def _between_knots(self, p_N: Float) -> Float:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            u_N = _linked(p_N, self.link)
            beyond_N = np.where(np.isinf(u_N), u_N, u_N - np.clip(u_N, self.x_K[0], self.x_K[-1]))
            return _unlinked(np.interp(u_N, self.x_K, self.y_K) + beyond_N, self.link)


def isotonic(p_N: Float, y_N: Float, weight_N: Float, link: Link, least: int) -> Curve:
    """Isotonic regression (pool adjacent violators), its blocks joined until each has `least` rows with an outcome
    (and, for probabilities, `least` without), so that a knot is a mean of many and no two predictions become one.

    Zadrozny and Elkan (2002) use the steps themselves; the straight lines between their middles keep the order.
    """
    order = np.argsort(p_N, kind="stable")
    p_N, y_N, weight_N = p_N[order], y_N[order], weight_N[order]
    tie_N = np.cumsum(np.concatenate([[0], p_N[1:] != p_N[:-1]])).astype(np.int64)
    w_U = np.bincount(tie_N, weights=weight_N)
    found: Any = isotonic_regression(np.bincount(tie_N, weights=weight_N * y_N) / w_U, weights=w_U)
    block_N = (np.searchsorted(found.blocks, np.arange(len(w_U)), side="right") - 1)[tie_N]
    some_B = np.bincount(block_N, weights=y_N != 0)
    none_B = np.bincount(block_N, weights=y_N == 0) if link == "logit" else some_B
    knot_N = _joined(some_B.tolist(), none_B.tolist(), least)[block_N]
    w_K = np.bincount(knot_N, weights=weight_N)
    x_K, y_K = (np.bincount(knot_N, weights=weight_N * v_N) / w_K for v_N in (p_N, y_N))
    x_K = np.clip(x_K, _EPSILON, 1 - _EPSILON if link == "logit" else None)
    return Curve(method="isotonic", link=link, x_K=_linked(x_K, link), y_K=_linked(y_K, link))


def logistic_map(method: str, p_N: Float, y_N: Float, weight_N: Float, prior: float) -> Curve:
    """The most likely slopes under a prior of that precision around "as predicted" (a = b = 1, c = 0): it weighs as
    much as so many outcomes. Without it on c, ten outcomes cost a log loss of .015 (retailrocket's validation span,
    2026-11-25).

    method "beta": a and b apart (Kull et al., 2017, eq. 12); "platt": a = b; "scale": a = b = 1, the odds multiplied.
    """
    p_N = np.clip(p_N, _EPSILON, 1 - _EPSILON)
    columns = {"beta": [np.log(p_N), -np.log1p(-p_N)], "platt": [logit(p_N)], "scale": []}[method]
    fixed_N = logit(p_N) if method == "scale" else np.zeros(len(p_N))
    z_NM = np.stack([*columns, np.ones(len(p_N))], axis=1)
    ahead_M = np.array([1.0] * len(columns) + [0.0])
    tight_M = np.full(len(ahead_M), prior)

    def loss(theta_M: Float) -> tuple[float, Float]:
        v_N = fixed_N + z_NM @ theta_M
        off_M = theta_M - ahead_M
        total = weight_N @ (np.logaddexp(0.0, v_N) - y_N * v_N) + 0.5 * tight_M @ off_M**2
        return float(total), z_NM.T @ (weight_N * (expit(v_N) - y_N)) + tight_M * off_M

    bounds = [(_LEAST_SLOPE, None)] * len(columns) + [(None, None)]
    theta_M = minimize(loss, ahead_M, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13}).x
    a_b = {"beta": theta_M[:-1], "platt": theta_M[[0, 0]], "scale": np.ones(2)}[method]
    return Curve(method=method, link="logit", slopes=np.concatenate([a_b, theta_M[-1:]]))


def scaled(p_N: Float, y_N: Float, weight_N: Float, prior: float) -> Curve:
    """Outcomes that cannot be negative: predictions times (Σ y + k) / (Σ p + k), k being `prior` outcomes of the usual
    size. Anything else: predictions plus the mean difference."""
    if (p_N < 0).any() or (y_N < 0).any() or not weight_N @ p_N > 0:
        at = np.array([weight_N @ v_N for v_N in (p_N, y_N)]) / weight_N.sum()
        return Curve(method="shift", link="none", x_K=at[:1], y_K=at[1:])
    usual = prior * float(weight_N @ y_N / np.count_nonzero(y_N))
    x, y = np.log(weight_N @ p_N + usual), np.log(weight_N @ y_N + usual)
    return Curve(method="scale", link="log", x_K=np.array([x]), y_K=np.array([y]))


def _joined(some_B: list[float], none_B: list[float], least: int) -> NDArray[np.int64]:
    """The knot of each block: neighbours together until each has enough of both; what is left joins the last."""
    knot_B, knot, some, none = np.zeros(len(some_B), np.int64), 0, 0.0, 0.0
    for block, (more_some, more_none) in enumerate(zip(some_B, none_B, strict=True)):
        knot_B[block] = knot
        some, none = some + more_some, none + more_none
        if some >= least and none >= least:
            knot, some, none = knot + 1, 0.0, 0.0
    return np.minimum(knot_B, max(knot - 1, 0))


def _linked(p_N: Float, link: Link) -> Float:
    if link == "logit":
        return np.asarray(logit(p_N), np.float64)
    return np.log(np.maximum(p_N, 0.0)) if link == "log" else p_N


def _unlinked(v_N: Float, link: Link) -> Float:
    if link == "logit":
        return np.asarray(expit(v_N), np.float64)
    return np.exp(v_N) if link == "log" else v_N

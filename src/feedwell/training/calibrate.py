"""Calibrate: which rows the ranker is fitted on, which stop it, which make its predictions mean what they say; and how
well they do so in the test span, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedwell.core.candidates import Float
from feedwell.core.protocols import RankingRows
from feedwell.core.request import Keys
from feedwell.metrics import Interval, Ratios, difference
from feedwell.metrics.calibration import Reliability, log_losses
from feedwell.training.parts import CALIBRATION, RANKER, Parts, fit_calibration, fit_rankers
from feedwell.training.report import CalibrationRow, ReliabilityRow
from feedwell.training.rows import Rows

EXPOSURES, CANDIDATES = "exposures", "candidates"
LOSS = "log_loss"
_STOPPING = 0.2
_UNKNOWN = Interval(value=float("nan"), low=float("nan"), high=float("nan"), n_units=0)


def fit_in_order(sources: Parts, rows: Rows, calibrate_N: NDArray[np.bool_], *, stopping: float = _STOPPING) -> Parts:
    """Rankers fitted on the rows before those marked, the last `stopping` of these by time watching for the stop; then
    their calibration on the marked ones. Where marks leave nothing on one side, the last fifth by time is marked."""
    before, after = _in_order(rows, calibrate_N, stopping)
    rankers = fit_rankers(sources.project, sources.features, before.ranking, sources.fitting)
    return fit_calibration(rankers, after.ranking)


def stopping_marked(rows: Rows, fitted: Rows, calibrate_N: NDArray[np.bool_], *, stopping: float = _STOPPING) -> Rows:
    """`rows` with the requests marked (`valid_N`) that stop rankers fitted in order on `fitted`, a part of them."""
    before, _ = _in_order(fitted, calibrate_N, stopping)
    return rows.with_valid(np.isin(rows.ranking.group_N, before.ranking.group_N[before.ranking.valid_N]))


def _in_order(rows: Rows, calibrate_N: NDArray[np.bool_], stopping: float) -> tuple[Rows, Rows]:
    """(rows to fit on, those that watch for the stop marked; rows to calibrate on)."""
    if not calibrate_N.any() or calibrate_N.all():
        calibrate_N = carve_valid(rows.ranking, rows.t_N)
    before = rows.take(~calibrate_N)
    before = before.with_valid(carve_valid(before.ranking, before.t_N, stopping))
    return before, rows.take(calibrate_N)


def carve_valid(rows: RankingRows, t_N: Keys, share: float = 0.2) -> NDArray[np.bool_]:
    """The rows of the last `share` of the requests by time; none where there are fewer than 5 requests."""
    groups, first = np.unique(rows.group_N, return_index=True)
    if len(groups) < 5:
        return np.zeros(len(t_N), np.bool_)
    order = groups[np.argsort(t_N[first], kind="stable")]
    return np.isin(rows.group_N, order[int(len(order) * (1 - share)) :])


def calibration_rows(parts: Parts, test: Rows, *, bootstrap: int = 200) -> tuple[CalibrationRow, ...]:
    """One row per objective, over the test span's retrieved candidates (what calibration is fitted for) and over its
    exposures, of rows whose window has closed."""
    if RANKER not in parts.fitted or CALIBRATION not in parts.fitted:
        return ()
    before, after = parts.predict(test.ranking, calibrated=False), parts.predict(test.ranking)
    methods: Mapping[str, str] = getattr(parts.fitted[CALIBRATION], "methods", {})
    made = []
    for over, inside_N in ((CANDIDATES, test.retrieved_N), (EXPOSURES, test.exposed_N)):
        for name, objective in parts.project.objective.items():
            known_N = inside_N & ~np.isnan(test.ranking.labels[name])
            if name not in before or not known_N.any():
                continue
            judge = _Judge.of(test, known_N, name, binary=objective.kind == "binary", bootstrap=max(bootstrap, 20))
            losses = judge.log_loss(before[name][known_N]), judge.log_loss(after[name][known_N])
            made.append(
                CalibrationRow(
                    objective=name,
                    kind=objective.kind,
                    method=methods.get(name, "none"),
                    over=over,
                    n=int(known_N.sum()),
                    outcomes=int(np.count_nonzero(judge.y_n)),
                    before=judge.reliability(before[name][known_N], losses[0]),
                    after=judge.reliability(after[name][known_N], losses[1]),
                    log_loss_difference=_UNKNOWN if not judge.binary else difference(losses[1], losses[0], LOSS),
                )
            )
    return tuple(made)


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """The rows of one objective that its predictions are held against."""

    user_n: Keys
    y_n: Float
    weight_n: Float
    binary: bool
    bootstrap: int

    @staticmethod
    def of(rows: Rows, known_N: NDArray[np.bool_], name: str, *, binary: bool, bootstrap: int) -> _Judge:
        y_n = rows.ranking.labels[name][known_N]
        return _Judge(
            user_n=rows.user_N[known_N],
            y_n=(y_n > 0).astype(np.float64) if binary else y_n,
            weight_n=rows.ranking.weight_N[known_N],
            binary=binary,
            bootstrap=bootstrap,
        )

    def log_loss(self, p_n: Float) -> Ratios:
        """The mean over rows; NaN for outcomes that have none."""
        loss_n = log_losses(self.y_n, p_n) if self.binary else np.full(len(p_n), np.nan)
        return Ratios.of(
            (LOSS,), self.user_n, loss_n[:, None], weight_RM=self.weight_n[:, None], bootstrap=self.bootstrap
        )

    def reliability(self, p_n: Float, loss: Ratios) -> ReliabilityRow:
        found = Reliability.of(self.y_n, p_n, self.weight_n)
        return ReliabilityRow(
            predicted=tuple(found.p_B.tolist()),
            happened=tuple(found.y_B.tolist()),
            weight=tuple(found.n_B.tolist()),
            ece=found.ece,
            log_loss=loss.interval(LOSS),
        )

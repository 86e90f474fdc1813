"""Whether a judge that says 70% is right 70% of the time, and how to mend it.

The expected calibration error is biased upward: a perfectly calibrated judge shows about .1 at 200 items. It is
therefore never printed without the value that perfect calibration would have shown.

Sources: Brier (1950); Guo et al. (arXiv 1706.04599) for temperature scaling; Zadrozny and Elkan (2002) for isotonic
calibration.

    from rlhf_eval.stats.calibration import calibration, fit_temperature
    calibration(p_win, human_prefers_it).ece
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, cluster_index, floats, same_length
from rlhf_eval.stats.bootstrap import cluster_draws, from_replicates
from rlhf_eval.stats.intervals import Interval, bounded_mean, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far stated probabilities are from what happened."""

    brier: Interval
    log_loss: Interval
    ece: float
    """Expected calibration error over equal-mass bins."""
    ece_null: float
    """Mean ECE that the same probabilities show when they are perfectly calibrated."""
    p_value: float
    """Share of perfectly calibrated draws that show at least this ECE."""
    bins: int
    draws: int
    seed: int


def calibration(
    probabilities: ArrayLike,
    outcomes: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    bins: int = 15,
    level: float = 0.95,
    draws: int = 200,
    seed: int = 0,
) -> Calibration:
    """Brier score, log loss and ECE of ``probabilities`` in [0, 1] against ``outcomes`` 0 or 1, both of shape (items,).

    A stated 0 or 1 that is wrong has an infinite log loss; it is counted at 1e-12. Raises UserError on other outcomes.
    """
    p, y = floats(probabilities, "probabilities", low=0, high=1), floats(outcomes, "outcomes", low=0, high=1)
    same_length(probabilities=p, outcomes=y)
    if not np.isin(y, (0, 1)).all():
        raise UserError("outcomes must be 0 or 1; leave ties out of a calibration")
    index = _equal_mass_bins(p, bins)
    drawn = np.random.default_rng(seed).random((draws, len(p))) < p
    null = np.array([_ece(p, d, index) for d in drawn])
    ece = _ece(p, y, index)
    return Calibration(
        brier=wilson((p - y) ** 2, clusters, level=level),
        log_loss=bounded_mean(_log_losses(p, y), 0, math.inf, clusters, level=level),
        ece=ece,
        ece_null=float(null.mean()),
        p_value=float((1 + (null >= ece).sum()) / (1 + draws)),
        bins=bins,
        draws=draws,
        seed=seed,
    )


def expected_calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, *, bins: int = 15) -> float:
    """Mean over equal-mass bins of ``|mean outcome - mean probability|``, weighted by the bin's share of items."""
    p, y = floats(probabilities, "probabilities", low=0, high=1), floats(outcomes, "outcomes", low=0, high=1)
    same_length(probabilities=p, outcomes=y)
    return _ece(p, y, _equal_mass_bins(p, bins))


def ece_interval(
    probabilities: ArrayLike,
    outcomes: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    draws: int = 200,
    seed: int = 0,
) -> Interval:
    """The expected calibration error with its interval, within [0, 1]; arguments as in ``calibration``.

    The basic bootstrap, which takes back the upward bias that resampling adds to an ECE once more.
    """
    p, y = floats(probabilities, "probabilities", low=0, high=1), floats(outcomes, "outcomes", low=0, high=1)
    index, count = cluster_index(clusters, same_length(probabilities=p, outcomes=y))
    replicates = []
    for weights in (row for block in cluster_draws(count, draws, seed) for row in block):
        rows = np.repeat(np.arange(len(p)), weights[index].astype(np.int64))
        replicates.append(expected_calibration_error(p[rows], y[rows]))
    value = expected_calibration_error(p, y)
    method = f"cluster bootstrap, basic, {draws} draws, seed {seed}"
    return from_replicates(value, 2 * value - np.array(replicates), count, level=level, method=method, bounds=(0, 1))


def fit_temperature(logits: ArrayLike, outcomes: ArrayLike) -> float:
    """The temperature T that minimises the log loss of ``sigmoid(logits / T)``; above 1 means overconfident.

    ``logits`` and ``outcomes`` in [0, 1] have shape (items,). Raises UserError where the fit runs off: verdicts that
    are always right (T to 0) or no better than chance (T to infinity).
    """
    z, y = floats(logits, "logits"), floats(outcomes, "outcomes", low=0, high=1)
    same_length(logits=z, outcomes=y)
    if float(((y - 0.5) * z).sum()) <= 0:
        raise UserError("the logits do not point toward the outcomes: no temperature makes them calibrated")
    if np.isin(y, (0, 1)).all() and ((y - 0.5) * z >= 0).all():
        raise UserError("every logit has the sign of its outcome: the fitted temperature is 0; use more labels")

    def loss(log_t: float) -> float:
        scaled = z / math.exp(log_t)
        return float((np.logaddexp(0, scaled) - y * scaled).mean())

    fit = scipy.optimize.minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-10})
    return math.exp(float(fit.x))


@dataclass(frozen=True, slots=True, kw_only=True)
class IsotonicMap:
    """A non-decreasing step map from score to probability, linear between the fitted scores."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, scores: ArrayLike) -> Floats:
        """Calibrated probabilities of ``scores``; beyond the fitted range, those of its ends."""
        return np.interp(floats(scores, "scores"), self.scores, self.probabilities)


def fit_isotonic(scores: ArrayLike, outcomes: ArrayLike) -> IsotonicMap:
    """The non-decreasing map from scores to probabilities with the least squared error; both of shape (items,)."""
    x, y = floats(scores, "scores"), floats(outcomes, "outcomes", low=0, high=1)
    same_length(scores=x, outcomes=y)
    values, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=y) / counts
    fitted = scipy.optimize.isotonic_regression(means, weights=counts).x
    return IsotonicMap(scores=tuple(values.tolist()), probabilities=tuple(np.clip(fitted, 0, 1).tolist()))


def _equal_mass_bins(p: Floats, bins: int) -> NDArray[np.intp]:
    # Equal probabilities share a bin: splitting them by row order would make the ECE depend on that order.
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins))
    return np.searchsorted(edges, p, side="left")


def _ece(p: Floats, y: Floats, index: NDArray[np.intp]) -> float:
    return float(np.abs(np.bincount(index, weights=y - p)).sum() / len(p))


def _log_losses(p: Floats, y: Floats) -> Floats:
    safe = np.clip(p, 1e-12, 1 - 1e-12)
    return -y * np.log(safe) - (1 - y) * np.log1p(-safe)

"""Rank correlation of two rankings with an interval: does one benchmark order models as another does?

With a dozen models an observed .9 is compatible with .6; the interval says so. It resamples models, because models are what
one wants to generalise to.

Sources: Spearman (1904); Kendall (1945) for tau-b; Efron and Tibshirani (1993), chapter 13, for the bootstrap of pairs.

    from rlhf_eval.stats.correlation import rank_correlation
    rank_correlation([1270, 1100, 1060], [61.2, 30.5, 28.0]).spearman
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, floats, same_length
from rlhf_eval.stats.bootstrap import from_replicates
from rlhf_eval.stats.intervals import Interval

ROUGH = 10
"""Models below which an interval over models is rough."""
FEW_MODELS = "few models: the interval is rough"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCorrelation:
    """How alike two columns of scores order the same models."""

    spearman: Interval
    kendall: Interval
    """Tau-b."""
    swapped: tuple[tuple[int, int], ...]
    """Pairs of rows that the two columns put in opposite order."""


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's correlation with ties at their mean rank; raises UserError below 3 rows or where a column is constant."""
    x, y = _columns(a, b)
    from scipy import stats as scipy_stats

    return float(scipy_stats.spearmanr(x, y).statistic)


def rank_correlation(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> RankCorrelation:
    """Spearman's rho and Kendall's tau-b with intervals from a bootstrap of rows; arrays of shape (models,)."""
    x, y = _columns(a, b)
    rng = np.random.default_rng(seed)
    replicates: list[tuple[float, float]] = []
    for _ in range(draws):
        pick = rng.integers(len(x), size=len(x))
        if np.ptp(x[pick]) > 0 and np.ptp(y[pick]) > 0:
            replicates.append(_both(x[pick], y[pick]))
    values, table = _both(x, y), np.array(replicates)
    rho, tau = (
        from_replicates(
            values[k],
            table[:, k],
            len(x),
            level=level,
            method=f"bootstrap of models, {draws} draws, seed {seed}",
            bounds=(-1, 1),
            note=FEW_MODELS if len(x) < ROUGH else "",
        )
        for k in (0, 1)
    )
    order = np.subtract.outer(x, x) * np.subtract.outer(y, y)
    swapped = tuple((int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(order < 0)), strict=True))
    return RankCorrelation(spearman=rho, kendall=tau, swapped=swapped)


def _both(x: Floats, y: Floats) -> tuple[float, float]:
    from scipy import stats as scipy_stats

    return float(scipy_stats.spearmanr(x, y).statistic), float(scipy_stats.kendalltau(x, y).statistic)


def _columns(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    x, y = floats(a, "the first column"), floats(b, "the second column")
    if same_length(first=x, second=y) < 3:
        raise UserError(f"{len(x)} models are too few for a rank correlation; at least 3 must be in both rankings")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise UserError("one of the rankings gives every model the same score: there is no order to compare")
    return x, y

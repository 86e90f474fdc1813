"""The cluster bootstrap, for statistics that have no simple standard error (kappa, best-of-n, distinct-n).

Whole prompts are drawn with replacement, never rows. Quantiles are widened to what a t interval would use (Hesterberg
2015, "expanded percentile"), because the plain percentile interval is too short below about 50 clusters.

    from rlhf_eval.stats.bootstrap import bootstrap_totals
    bootstrap_totals(per_prompt_sums, lambda s: s[:, 0] / s[:, 1])   # a ratio of totals, per_prompt_sums of shape (G, 2)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_eval.stats.arrays import Floats, cluster_index
from rlhf_eval.stats.intervals import Interval, t_quantile

_CHUNK = 4_000_000


def bootstrap_totals(
    totals: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Interval of a statistic of sums over clusters.

    ``totals`` has shape (clusters, ...): what each cluster adds. ``statistic`` maps sums of shape (batch, ...) to
    (batch,) values. One cluster, or draws that never differ, give ``bounds`` with a note.
    """
    value = float(statistic(totals.sum(axis=0, keepdims=True))[0])
    n, shape = len(totals), totals.shape[1:]
    flat = totals.reshape(n, -1)
    sums = (weights @ flat for weights in cluster_draws(n, draws, seed))
    replicates = np.concatenate([statistic(s.reshape(len(s), *shape)) for s in sums])
    method = f"cluster bootstrap, expanded percentile, {draws} draws, seed {seed}"
    return from_replicates(value, replicates, n, level=level, method=method, bounds=bounds)


def from_replicates(
    value: float,
    replicates: Floats,
    clusters: int,
    *,
    level: float,
    method: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    note: str = "",
) -> Interval:
    """The interval of a statistic with these bootstrap replicates, within ``bounds``.

    One cluster, or draws that never differ, give ``bounds`` with a note.
    """
    least, most = bounds
    low, high = expanded_percentiles(replicates, clusters, level)
    if clusters == 1:
        note = "one cluster: no spread to learn from"
    elif np.ptp(replicates) < 1e-12:
        low, high, note = least, most, "no draw differed: the interval is all there is"
    return Interval(
        value=value,
        low=min(value, max(least, low)),
        high=max(value, min(most, high)),
        se=float(replicates.std(ddof=1)) if clusters > 1 else math.inf,
        n=clusters,
        n_eff=clusters,
        level=level,
        method=method,
        note=note,
    )


def cluster_draws(clusters: int, draws: int, seed: int) -> Iterator[Floats]:
    """How often each cluster is drawn: blocks of shape (some draws, clusters), ``draws`` rows in all."""
    rng = np.random.default_rng(seed)
    block = max(1, min(draws, _CHUNK // clusters))
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        picks = rng.integers(clusters, size=(rows, clusters), dtype=np.int32)
        yield np.stack([np.bincount(pick, minlength=clusters) for pick in picks]).astype(np.float64)


def expanded_percentiles(replicates: Floats, clusters: int, level: float) -> tuple[float, float]:
    """The two quantiles of bootstrap replicates that match a t interval with ``clusters - 1`` degrees of freedom.

    One cluster bounds nothing.
    """
    if clusters < 2:
        return -math.inf, math.inf
    t = t_quantile(level, clusters - 1) * math.sqrt(clusters / (clusters - 1))
    tail = float(scipy.special.ndtr(-t))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def sum_by_cluster(rows: Floats, clusters: ArrayLike | None) -> Floats:
    """Sums of ``rows`` (n, ...) over each cluster, shape (clusters, ...)."""
    index, count = cluster_index(clusters, len(rows))
    sums = np.zeros((count, *rows.shape[1:]))
    np.add.at(sums, index, rows)
    return sums

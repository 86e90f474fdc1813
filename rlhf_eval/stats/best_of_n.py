"""Best-of-n without waste, its distance from the policy, and over-optimisation of a proxy reward.

From N scored samples of a prompt the expected gold score of best-of-n follows exactly for every n up to N, with less
variance than chunks and without the bias of drawing with replacement. The gold must come from another judge than the
proxy, or the curve cannot bend.

Sources: Nakano et al. (arXiv 2112.09332), appendix I, for the estimator; Gao, Schulman and Hilton (arXiv 2210.10760)
for the curves; Beirami et al. (arXiv 2401.01879) for the divergence.

    from rlhf_eval.stats.best_of_n import best_of_n_curve
    best_of_n_curve(proxy, gold, n=[1, 2, 4, 8])     # scores of shape (prompts, samples)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.stats.arrays import Floats, cluster_index, floats, same_length
from rlhf_eval.stats.bootstrap import cluster_draws, expanded_percentiles, from_replicates
from rlhf_eval.stats.intervals import Interval, mean_interval

Form = Literal["best_of_n", "rl"]


def best_of_n_weights(samples: int, n: int) -> Floats:
    """Chance that the i-th lowest of ``samples`` is the best of ``n`` drawn without replacement, shape (samples,).

    ``C(i-1, n-1)/C(N, n)``. Raises UserError when n exceeds the samples.
    """
    if not 1 <= n <= samples:
        raise UserError(f"best of {n} from {samples} samples; n must lie between 1 and the number of samples")
    rank = np.arange(n, samples + 1)
    weights = np.zeros(samples)
    weights[n - 1 :] = np.exp(_log_choose(rank - 1, n - 1) - _log_choose(np.array(samples), n))
    return weights


def best_of_n_scores(proxy: ArrayLike, gold: ArrayLike, n: Sequence[int]) -> Floats:
    """Expected gold score of the sample with the highest proxy among n, per prompt: shape (prompts, len(n)).

    ``proxy`` and ``gold`` have shape (prompts, samples). Samples with equal proxy share their ranks, as if ties were
    broken at random. Pass ``proxy`` as ``gold`` for the proxy's own curve. Raises UserError on other shapes or too
    large an n.
    """
    score, value = np.asarray(proxy, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    if score.ndim != 2 or score.shape != value.shape or score.size == 0:
        raise UserError(f"proxy {score.shape} and gold {value.shape} must have one shape (prompts, samples)")
    if not (np.isfinite(score).all() and np.isfinite(value).all()):
        raise UserError("proxy and gold must be finite; leave out prompts whose samples failed")
    weights = np.stack([best_of_n_weights(score.shape[1], k) for k in n], axis=1)
    return np.stack([_tied_gold(p, g) @ weights for p, g in zip(score, value, strict=True)])


def _tied_gold(proxy: Floats, gold: Floats) -> Floats:
    """Gold in ascending order of proxy, averaged within blocks of equal proxy."""
    _, block, counts = np.unique(proxy, return_inverse=True, return_counts=True)
    means = np.bincount(block, weights=gold) / counts
    return np.asarray(np.repeat(means, counts), dtype=np.float64)


def best_of_n_curve(
    proxy: ArrayLike, gold: ArrayLike, n: Sequence[int], clusters: ArrayLike | None = None, *, level: float = 0.95
) -> tuple[Interval, ...]:
    """Mean over prompts of the expected gold score of best-of-n, one interval per n; see ``best_of_n_scores``."""
    scores = best_of_n_scores(proxy, gold, n)
    return tuple(mean_interval(column, clusters, level=level) for column in scores.T)


def best_of_n_kl(n: ArrayLike) -> Floats:
    """Divergence of best-of-n from the policy, ``log n - (n-1)/n`` nats: exact without ties, else an upper bound."""
    size = np.asarray(n, dtype=np.float64)
    return np.log(size) - (size - 1) / size


def best_of_n_kl_discrete(probabilities: ArrayLike, n: int) -> float:
    """Exact divergence of best-of-n for a policy over finitely many outcomes, given from worst to best.

    Raises UserError when the probabilities do not sum to 1.
    """
    p = floats(probabilities, "probabilities", low=0, high=1)
    if abs(p.sum() - 1) > 1e-9:
        raise UserError(f"probabilities sum to {p.sum():g}; they must sum to 1")
    p = p[p > 0]
    upper = np.minimum(np.cumsum(p), 1)
    chosen = upper**n - np.concatenate([[0], upper[:-1]]) ** n
    return float(scipy.special.rel_entr(chosen, p).sum())


def best_of_n_kl_exact(proxy: ArrayLike, n: Sequence[int]) -> Floats:
    """Exact divergence of best-of-n from a policy that gives the samples seen: shape (prompts, len(n)).

    ``proxy`` has shape (prompts, samples); samples of equal proxy are one outcome, as ties are broken at random. Where n
    comes near the number of samples it says more about the samples than about the policy.
    """
    found = []
    for row in np.asarray(proxy, dtype=np.float64):
        counts = np.unique(row, return_counts=True)[1]
        found.append([best_of_n_kl_discrete(counts / len(row), k) for k in n])
    return np.array(found)


def best_of_n_kl_estimate(chosen_probability: float, n: int) -> float:
    """Divergence of best-of-n when the policy's probability of the chosen answer is known (arXiv 2401.01879).

    Below the upper bound ``best_of_n_kl`` where answers repeat. Raises UserError outside (0, 1).
    """
    if not 0 < chosen_probability < 1:
        raise UserError(f"chosen_probability is {chosen_probability}; it must lie strictly between 0 and 1")
    log_miss = math.log1p(-chosen_probability)
    missed, hit = math.exp(n * log_miss), -math.expm1(n * log_miss)
    return missed * (math.log(n) + (n - 1) * log_miss - (n - 1) / n) + hit * math.log(hit / chosen_probability)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverOptimization:
    """A fitted curve of the gold reward R over d, the square root of the divergence."""

    a: float
    b: float
    """Above 0 means over-optimisation: the gold reward bends down in the end."""
    peak_d: float
    """Where the gold reward is highest; infinite when it never bends."""
    peak_reward: float
    form: Form


def fit_overoptimization(d: ArrayLike, gold: ArrayLike, *, form: Form = "best_of_n") -> OverOptimization:
    """Least squares of ``R = d (a - b d)`` (best-of-n) or ``R = d (a - b log d)`` (rl), both linear in a and b.

    ``d = sqrt(KL)`` and the ``gold`` reward above that of the policy have shape (points,). The rl form is infinitely
    steep at 0: leave out points below about .3. Its peak is ``exp(a/b - 1)``. Source: arXiv 2210.10760, equation 1.
    """
    x, y = floats(d, "d", low=0), floats(gold, "gold")
    if same_length(d=x, gold=y) < 2:
        raise UserError("a curve of two coefficients needs at least 2 points")
    a, b = _least_squares(x, y[None], form)[0]
    return _peak(float(a), float(b), form)


def overoptimization(d: ArrayLike, a: float, b: float, form: Form) -> Floats:
    """The fitted gold reward above that of the policy, at the distances ``d`` = sqrt(KL)."""
    x = np.asarray(d, dtype=np.float64)
    return np.asarray(a * x - b * _bend(x, form), dtype=np.float64)


def _bend(d: Floats, form: Form) -> Floats:
    """What the coefficient b counts: ``d^2`` or ``d log d``."""
    if form not in ("best_of_n", "rl"):
        raise UserError(f"unknown form '{form}'.{nearest(form, ['best_of_n', 'rl'])}")
    return np.asarray(d**2 if form == "best_of_n" else scipy.special.xlogy(d, d), dtype=np.float64)


def _least_squares(d: Floats, gold: Floats, form: Form) -> Floats:
    """Coefficients (curves, 2) of the curves ``gold`` (curves, points)."""
    solution, *_ = np.linalg.lstsq(np.column_stack([d, -_bend(d, form)]), gold.T, rcond=None)
    return np.asarray(solution.T, dtype=np.float64)


def _peak(a: float, b: float, form: Form) -> OverOptimization:
    if b <= 0:
        return OverOptimization(a=a, b=b, peak_d=math.inf, peak_reward=math.inf, form=form)
    peak = max(0.0, a / (2 * b)) if form == "best_of_n" else math.exp(min(a / b - 1, 700))
    reward = peak * (a - b * peak) if form == "best_of_n" else b * peak
    return OverOptimization(a=a, b=b, peak_d=peak, peak_reward=reward, form=form)


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfNOptimum:
    """Where best-of-n against a proxy stops paying in gold."""

    fit: OverOptimization
    b: Interval
    """The bend with its interval over prompts: over-optimisation is shown where it lies above 0."""
    n: float
    """The n of the fitted peak; infinite when it never bends."""
    n_low: float
    n_high: float


def best_of_n_optimum(
    proxy: ArrayLike,
    gold: ArrayLike,
    n: Sequence[int],
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> BestOfNOptimum:
    """Fit ``R = d (a - b d)`` to the gold curve of best-of-n, with intervals from a bootstrap of prompts.

    Arguments as in ``best_of_n_scores``; at least two values of ``n`` above 1, and at least two clusters.
    """
    sizes = [k for k in n if k > 1]
    if len(set(sizes)) < 2:
        raise UserError(f"n is {list(n)}: a curve needs at least two values above 1")
    scores = best_of_n_scores(proxy, gold, [1, *sizes])
    index, groups = cluster_index(clusters, len(scores))
    if groups < 2:
        raise UserError("one prompt has no spread: a curve's interval needs at least two")
    sums = np.zeros((groups, scores.shape[1] + 1))
    np.add.at(sums, index, np.column_stack([scores, np.ones(len(scores))]))
    d = np.sqrt(best_of_n_kl(sizes))

    def fits(totals: Floats) -> Floats:
        means = totals[:, :-1] / totals[:, -1:]
        return _least_squares(d, means[:, 1:] - means[:, :1], "best_of_n")

    a, b = fits(sums.sum(axis=0, keepdims=True))[0]
    drawn = np.concatenate([fits(weights @ sums) for weights in cluster_draws(groups, draws, seed)])
    with np.errstate(divide="ignore"):
        peaks = np.where(drawn[:, 1] > 0, np.maximum(drawn[:, 0], 0) / np.maximum(2 * drawn[:, 1], 1e-300), np.inf)
    # Finite stand-ins keep quantiles defined where some draws never bend.
    d_low, d_high = expanded_percentiles(np.minimum(peaks, 1e6), groups, level)
    method = f"cluster bootstrap, expanded percentile, {draws} draws, seed {seed}"
    interval = from_replicates(float(b), drawn[:, 1], groups, level=level, method=method)
    fit = _peak(float(a), float(b), "best_of_n")
    return BestOfNOptimum(fit=fit, b=interval, n=n_at(fit.peak_d), n_low=n_at(d_low), n_high=n_at(d_high))


def n_at(d: float) -> float:
    """The n whose best-of-n lies at ``d = sqrt(KL)`` from the policy; infinite beyond n = e^100."""
    if d**2 >= 99:
        return math.inf
    return math.exp(float(scipy.optimize.brentq(lambda x: x - 1 + math.exp(-x) - d**2, 0, 101)))


def _log_choose(n: ArrayLike, k: int) -> Floats:
    top = np.asarray(n, dtype=np.float64)
    return np.asarray(
        scipy.special.gammaln(top + 1) - scipy.special.gammaln(k + 1) - scipy.special.gammaln(top - k + 1)
    )

"""Stopping early without fooling oneself: e-values, confidence sequences, group-sequential looks.

Looking at a running mean after every verdict and stopping at the first p < .05 gives 40% false alarms. Three ways hold
the error: a schedule of looks (best with batches; almost the power of a fixed run), betting without replacement (a
fixed benchmark: can the prompts that are left still turn the verdict?), and an asymptotic confidence sequence
(open-ended).

All of them need prompts in random order and one number per prompt. Sorted by category, false alarms rise to 90%; with
the two orders of a pair fed as two numbers, to 17%. A resumed run must keep its order; a failed judgment counts as .5.

Sources: Waudby-Smith and Ramdas (arXiv 2010.09686) for betting; Waudby-Smith et al. (arXiv 2103.06476) for asymptotic
sequences; O'Brien and Fleming (1979), Pocock (1977), Armitage, McPherson and Rowe (1969) for looks; Wang and Ramdas
(arXiv 2009.02824) for e-BH.

    from rlhf_eval.stats.sequential import betting_test
    betting_test(scores_so_far, population=805).stopped_at
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.stats.arrays import Bools, Floats, floats
from rlhf_eval.stats.intervals import Interval, clustered_mean, hardly_differ, orders_vary, stratified_mean

Shape = Literal["obrien_fleming", "pocock"]
MOST = 700.0
"""Largest log of an e-value: more is no more evidence, and overflows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialTest:
    """A test that may be looked at after every prompt."""

    stopped_at: int | None
    """Number of prompts after which the null was first rejected; None while it stands."""
    e_values: Floats
    """Evidence against the null after each prompt; rejected at ``1/(1 - level)``."""
    interval: Interval
    """Holds at all times at once, so also where one stopped."""
    null: float
    population: int | None
    level: float


def betting_test(
    scores: ArrayLike, *, null: float = 0.5, population: int | None = None, level: float = 0.95, grid: int = 1000
) -> SequentialTest:
    """Test of ``mean = null`` by betting, valid at any stopping time, with its confidence sequence.

    ``scores`` in [0, 1], one per prompt in random order, shape (prompts,); for a difference ``d`` of two scores give
    ``(1 + d)/2``. ``population`` is the size of a fixed benchmark drawn without replacement; the null is then about
    its own mean. Raises UserError when more scores than ``population`` are given.
    """
    x = floats(scores, "scores", low=0, high=1)
    if population is not None and len(x) > population:
        raise UserError(f"{len(x)} scores from a benchmark of {population}: each prompt counts once")
    e_values = betting_e_values(x, null, population=population)
    crossed = np.flatnonzero(e_values >= 1 / (1 - level))
    candidates = np.arange(grid + 1) / grid
    most = betting_e_values(np.broadcast_to(x, (grid + 1, len(x))), candidates, population=population).max(axis=1)
    kept = candidates[most < 1 / (1 - level)]
    mean, se, n = clustered_mean(x)
    # The grid's neighbours may still belong to the set, so each end moves out by one step.
    low, high = (float(kept.min()) - 1 / grid, float(kept.max()) + 1 / grid) if len(kept) else (mean, mean)
    interval = Interval(
        value=mean,
        low=min(mean, max(0.0, low)),
        high=max(mean, min(1.0, high)),
        se=se,
        n=n,
        n_eff=n,
        level=level,
        method="confidence sequence by betting" + (f" without replacement from {population}" if population else ""),
    )
    return SequentialTest(
        stopped_at=int(crossed[0]) + 1 if len(crossed) else None,
        e_values=e_values,
        interval=interval,
        null=null,
        population=population,
        level=level,
    )


def betting_e_values(
    scores: Floats, null: float | Floats, *, population: int | None = None, bet: float | None = None
) -> Floats:
    """Running e-values of ``mean = null``: half the capital of a player who bets upward and half of one who bets downward.

    ``scores`` has shape (..., prompts), ``null`` broadcasts with the leading axes. Bets are aGRAPA's, at most half of
    what the null allows (three quarters without replacement), or the constant ``bet``. Without replacement the null
    moves to ``(N m - sum so far)/(N - t + 1)``; where it leaves [0, 1] it is refuted and the e-value infinite.
    """
    x = np.moveaxis(np.asarray(scores, dtype=np.float64), -1, 0)
    share = 1.0 if bet is not None else 0.5 if population is None else 0.75
    base = np.broadcast_to(np.asarray(null, dtype=np.float64), x.shape[1:])
    total, mean, spread = np.zeros(base.shape), np.full(base.shape, 0.5), np.full(base.shape, 0.25)
    log_up, log_down = np.zeros(base.shape), np.zeros(base.shape)
    refuted = np.zeros(base.shape, dtype=bool)
    result = np.empty(x.shape)
    for t, observed in enumerate(x):
        m = base if population is None else (population * base - total) / (population - t)
        refuted = refuted | (m < -1e-12) | (m > 1 + 1e-12)
        m = np.clip(m, 1e-12, 1 - 1e-12)
        edge = mean - m
        wanted = np.full(base.shape, bet) if bet is not None else edge / (spread / (t + 1) + edge**2)
        up = np.clip(wanted, 0, share / m)
        down = np.clip(wanted if bet is not None else -wanted, 0, share / (1 - m))
        with np.errstate(divide="ignore"):
            log_up = log_up + np.log1p(np.maximum(up * (observed - m), -1))
            log_down = log_down + np.log1p(np.maximum(-down * (observed - m), -1))
        result[t] = np.where(refuted, np.inf, np.exp(np.minimum(np.logaddexp(log_up, log_down), MOST)) / 2)
        total = total + observed
        mean = (0.5 + total) / (t + 2)
        spread = spread + (observed - mean) ** 2
    return np.moveaxis(result, 0, -1)


def beta_binomial_e_value(wins: int, losses: int, *, concentration: float = 1.0) -> float:
    """E-value against "a win is as likely as a loss", ties left out: ``2^(w+l) B(a+w, a+l)/B(a, a)``.

    ``concentration`` a = 1 expects large gaps, 20 gaps of 5 to 10 points. Valid at any stopping time.
    """
    a = concentration
    evidence = (wins + losses) * math.log(2) + scipy.special.betaln(a + wins, a + losses) - scipy.special.betaln(a, a)
    return math.exp(min(evidence, MOST))


def asymptotic_half_width(t: ArrayLike, sd: ArrayLike, *, tightest_at: int = 200, level: float = 0.95) -> Floats:
    """Half-width after ``t`` prompts of a confidence sequence whose scores have standard deviation ``sd``.

    It is narrowest, relative to a fixed-size interval, at ``tightest_at`` prompts. Holds for large t: ignore it before
    about 30. Source: arXiv 2103.06476, equation 4 and appendix B.
    """
    alpha, n = 1 - level, np.asarray(t, dtype=np.float64)
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tightest_at
    scale = n * rho2 + 1
    return np.asarray(sd) * np.sqrt(2 * scale / (n**2 * rho2) * np.log(np.sqrt(scale) / alpha))


def asymptotic_test(
    scores: ArrayLike, *, null: float = 0.5, tightest_at: int = 200, burn_in: int = 30, level: float = 0.95
) -> SequentialTest:
    """Test of ``mean = null`` by an asymptotic confidence sequence, for open-ended streams of any bounded number.

    ``scores`` one per prompt, in random order; unlike betting they may lie outside [0, 1]. Never stops before
    ``burn_in``. ``e_values`` are 1/alpha where the sequence excludes the null and 1 elsewhere.
    """
    x = floats(scores, "scores")
    t = np.arange(1, len(x) + 1)
    mean = np.cumsum(x) / t
    sd = np.sqrt(np.maximum(np.cumsum(x**2) / t - mean**2, 0) * t / np.maximum(t - 1, 1))
    width = np.where(
        t >= min(burn_in, len(x) + 1), asymptotic_half_width(t, sd, tightest_at=tightest_at, level=level), np.inf
    )
    low, high = np.maximum.accumulate(mean - width), np.minimum.accumulate(mean + width)
    outside = np.flatnonzero((low > null) | (high < null))
    value = float(mean[-1])
    return SequentialTest(
        stopped_at=int(outside[0]) + 1 if len(outside) else None,
        e_values=np.where((low > null) | (high < null), 1 / (1 - level), 1.0),
        interval=Interval(
            value=value,
            low=min(value, float(low[-1])),
            high=max(value, float(high[-1])),
            se=float(sd[-1] / math.sqrt(len(x))),
            n=len(x),
            n_eff=len(x),
            level=level,
            method=f"asymptotic confidence sequence, tightest at {tightest_at}",
        ),
        null=null,
        population=None,
        level=level,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One planned look at a run."""

    stop: bool
    z: float
    critical: float
    interval: Interval
    """Repeated confidence interval: holds at all looks at once."""


def group_sequential_look(
    scores: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    look: int,
    looks: int,
    swapped: ArrayLike | None = None,
    shape: Shape = "obrien_fleming",
    null: float = 0.5,
    level: float = 0.95,
) -> Look:
    """Look number ``look`` of ``looks`` equally spaced ones at all scores so far; the schedule is fixed beforehand.

    ``scores`` in [0, 1] and ``clusters`` have shape (rows,). Where each row is a prompt that was judged in one order, the
    booleans ``swapped`` keep the position bias out of the noise, once each order varies within itself. The boundary's
    chances are turned into t quantiles, since early looks know their spread from few prompts. Raises UserError when
    ``look`` is not within the schedule.
    """
    if not 1 <= look <= looks:
        raise UserError(f"look {look} is not in a schedule of {looks}; looks are numbered from 1")
    y = floats(scores, "scores", low=0, high=1)
    side = np.zeros(len(y), dtype=bool) if swapped is None else np.asarray(swapped, dtype=bool)
    mean, se, n, df = stratified_mean(y, side) if orders_vary(y, side) else _plain_mean(y, clusters)
    z_critical = group_sequential_boundary(looks, shape=shape, level=level)[look - 1]
    critical = -float(scipy.special.stdtrit(df, float(scipy.special.ndtr(-z_critical))))
    # Scores that hardly differ prove nothing by their SE; a fair coin's is the largest that scores in [0, 1] can have.
    se = 0.5 / math.sqrt(n) if se == 0 or hardly_differ(y, clusters) else se
    z = (mean - null) / se
    interval = Interval(
        value=mean,
        low=min(mean, max(0.0, mean - critical * se)),
        high=max(mean, min(1.0, mean + critical * se)),
        se=se,
        n=n,
        n_eff=n,
        level=level,
        method=f"repeated interval, {shape}, look {look} of {looks}",
    )
    return Look(stop=abs(z) > critical, z=z, critical=critical, interval=interval)


def _plain_mean(scores: Floats, clusters: ArrayLike | None) -> tuple[float, float, int, float]:
    mean, se, n = clustered_mean(scores, clusters)
    return mean, se, n, max(1, n - 1)


@lru_cache(maxsize=64)
def group_sequential_boundary(looks: int, *, shape: Shape = "obrien_fleming", level: float = 0.95) -> tuple[float, ...]:
    """Critical |z| at each of ``looks`` equally spaced looks, two-sided; a false alarm at any look has chance 1 - level.

    O'Brien and Fleming's falls as ``c sqrt(looks/k)`` (5 looks: c = 2.040), Pocock's is flat (2.413).
    """
    if shape not in ("obrien_fleming", "pocock"):
        raise UserError(f"unknown shape '{shape}'.{nearest(shape, ['obrien_fleming', 'pocock'])}")
    k = np.arange(1, looks + 1)
    slope = np.sqrt(looks / k) if shape == "obrien_fleming" else np.ones(looks)
    constant = scipy.optimize.brentq(lambda c: float(stop_chances(c * slope).sum()) - (1 - level), 0.5, 10, xtol=1e-9)
    return tuple((constant * slope).tolist())


@lru_cache(maxsize=64)
def group_sequential_drift(looks: int, *, power: float, shape: Shape = "obrien_fleming", level: float = 0.95) -> float:
    """Mean of the last look's z with which a schedule finds a difference with chance ``power``.

    Its square, times the variance of one prompt over the squared difference, is the number of prompts that is needed.
    """
    boundary = np.array(group_sequential_boundary(looks, shape=shape, level=level))
    return float(
        scipy.optimize.brentq(lambda drift: float(stop_chances(boundary, drift).sum()) - power, 0, 20, xtol=1e-9)
    )


def stop_chances(critical: Floats, drift: float = 0.0) -> Floats:
    """Chance of stopping at each of equally spaced looks at bounds ``critical`` of |z|, shape (looks,).

    ``drift`` is the mean of the last look's z. A standardised random walk, integrated look by look.
    """
    looks = len(critical)
    bound = critical * np.sqrt(np.arange(1, looks + 1))  # on the scale of the sum of unit increments
    nodes, weights = scipy.special.roots_legendre(200)
    points, mass, chances = np.zeros(1), np.ones(1), np.empty(looks)
    for look, b in enumerate(bound):
        new = nodes * b
        steps = np.subtract.outer(new, points) - drift / math.sqrt(looks)
        before = mass.sum()
        mass = (np.exp(-(steps**2) / 2) / math.sqrt(2 * math.pi) @ mass) * weights * b
        points, chances[look] = new, before - mass.sum()
    return chances


def e_benjamini_hochberg(e_values: ArrayLike, *, alpha: float = 0.05) -> Bools:
    """Which of K e-values to reject so that the share of false ones is at most ``alpha``, under any dependence.

    Rejects the k largest with ``e_(k) >= K/(alpha k)``. The mean of e-values is again an e-value; a product only where
    they come one after the other.
    """
    e = floats(np.minimum(np.asarray(e_values, dtype=np.float64), 1e300), "e_values", low=0)
    order = np.argsort(-e, kind="stable")
    enough = np.flatnonzero(e[order] * np.arange(1, len(e) + 1) >= len(e) / alpha)
    rejected = np.zeros(len(e), dtype=np.bool_)
    rejected[order[: enough[-1] + 1 if len(enough) else 0]] = True
    return rejected

"""Intervals for means, win rates and differences, the size a comparison can see, and corrections for many of them.

The unit is the prompt: swapped orders, repeats, samples and turns of one prompt are one cluster. The default interval
of a rate is Wilson's with an effective n taken from the clustered standard error and a t quantile, which keeps its
coverage with ties, soft verdicts, few prompts and rates near 0 or 1, where the t interval and a bootstrap of rows do
not.

Sources: Wilson (1927); Miller, "Adding Error Bars to Evals" (arXiv 2411.00640); Korn and Graubard (1998) for the
effective sample size.

    from rlhf_eval.stats.intervals import wilson
    wilson([1, 1, .5, 0, 1, 1], clusters=["a", "a", "b", "b", "c", "c"])
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Bools, Floats, cluster_index, floats, same_length

NARROW = 10
"""How many times less than yes-or-no verdicts scores must vary before one unseen outcome could outweigh what was seen."""


UNSEEN = "the scores hardly differ: room is left for outcomes that were not seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval and the settings that made it."""

    value: float
    low: float
    high: float
    se: float
    """Standard error; infinite where the data cannot tell (one cluster)."""
    n: int
    """Independent units: clusters, or rows where no clusters were given."""
    n_eff: float
    """How many independent yes-or-no prompts would give this standard error; for an unbounded mean, ``n``."""
    level: float
    method: str
    note: str = ""
    """What a reader must know before believing it; empty when nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference(Interval):
    """The mean of ``a - b`` over the same prompts, with a two-sided p-value for "no difference"."""

    p_value: float
    correlation: float
    """Correlation of the two score columns: how much the pairing saved; 0 where one of them is constant."""


Kind = TypeVar("Kind", bound=Interval)


def within(interval: Kind, least: float, most: float) -> Kind:
    """The interval cut to what the quantity can be, which a t interval of few units does not know."""
    low, high = max(least, interval.low), min(most, interval.high)
    return replace(interval, low=min(low, interval.value), high=max(high, interval.value))


def wilson(
    scores: ArrayLike, clusters: ArrayLike | None = None, *, swapped: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """Wilson interval of a mean of scores in [0, 1] (wins 1, ties .5, soft verdicts), clustered by prompt.

    ``scores`` and ``clusters`` have shape (rows,). ``n_eff = s(1-s)/SE^2`` with the clustered SE, and the t quantile
    with ``clusters - 1`` degrees of freedom stands in for z. Where the clusters do not differ at all (every score 0,
    or 1, or each prompt split evenly) the SE says nothing and ``n_eff`` is the number of clusters. Where they hardly
    differ and all lie on one side of .5, the interval leaves room for as many on the other side as may be unseen among
    so few: soft verdicts that are all near 1 have almost no SE, and a loss may still come. One cluster gives [0, 1].
    Every row weighs the same: where prompts have unequally many, give one mean per prompt instead. Where each row is a
    prompt that was judged in one order, the booleans ``swapped`` keep the position bias out of the SE, as in
    ``order_stratified``, provided that the orders are balanced to one prompt in a hundred and vary within themselves.
    Raises UserError on an empty array or a score outside [0, 1].
    """
    y = floats(scores, "scores", low=0, high=1)
    mean, se, n = clustered_mean(y, clusters)
    df, method = float(n - 1), "wilson, clustered SE, t"
    side = np.zeros(len(y), dtype=bool) if swapped is None else np.asarray(swapped, dtype=bool)
    if abs(2 * side.sum() - len(y)) <= max(1, len(y) / 100) and orders_vary(y, side):
        _, se, _, df = stratified_mean(y, side)
        method = "wilson, order-stratified SE, t"
    found = wilson_from_se(mean, se, n, df=df, level=level, method=method)
    if not _hardly_differ(_cluster_sums(y - 0.5, clusters), mean, se, n):
        return found
    unseen = unseen_share(n, level)
    low, high = min(found.low, mean - unseen * mean), max(found.high, mean + unseen * (1 - mean))
    return replace(found, low=low, high=high, note=found.note or UNSEEN)


def mean_interval(values: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> Interval:
    """Student-t interval of a mean with a clustered SE; for rewards, lengths and differences, which have no bounds.

    ``values`` and ``clusters`` have shape (rows,). One cluster gives an infinite interval. Raises UserError on an empty
    array or a value that is not finite.
    """
    mean, se, n = clustered_mean(floats(values, "values"), clusters)
    half = t_quantile(level, n - 1) * se if n > 1 else math.inf
    return Interval(
        value=mean,
        low=mean - half,
        high=mean + half,
        se=se,
        n=n,
        n_eff=n,
        level=level,
        method="t, clustered SE",
        note=_note(se, n),
    )


def bounded_mean(
    values: ArrayLike, least: float, most: float, clusters: ArrayLike | None = None, *, level: float = 0.95
) -> Interval:
    """``mean_interval`` of values that cannot leave ``[least, most]``: within these bounds; Wilson's without a spread."""
    plain = mean_interval(values, clusters, level=level)
    width = most - least
    if (plain.n > 1 and plain.se > 0) or math.isinf(width):
        return within(plain, least, most)
    unit = wilson_from_se((plain.value - least) / width, plain.se / width, plain.n, level=level)
    low, high = least + width * unit.low, least + width * unit.high
    wide = replace(plain, low=min(low, plain.value), high=max(high, plain.value), method="wilson, n_eff = clusters")
    return within(wide, least, most)


def paired(a: ArrayLike, b: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> PairedDifference:
    """Difference of two models' scores on the same rows, ``mean(a - b)``, with a clustered t test.

    ``a``, ``b`` and ``clusters`` have shape (rows,), aligned. Where every cluster shows the same difference the SE says
    nothing: the p-value is then the sign-flip test's, ``2^(1-n)``, and for scores in [0, 1] the interval is that of
    ``bounded_mean``; where all differences of such scores have one sign it leaves room for unseen ones, as Wilson's
    does. Raises UserError when the lengths differ. Source: arXiv 2411.00640, section 4.
    """
    first, second = floats(a, "a"), floats(b, "b")
    same_length(a=first, b=second)
    bounded = min(first.min(), second.min()) >= 0 and max(first.max(), second.max()) <= 1
    gaps = first - second
    plain = bounded_mean(gaps, -1, 1, clusters, level=level) if bounded else mean_interval(gaps, clusters, level=level)
    low, high, note = plain.low, plain.high, plain.note
    no_spread = plain.n == 1 or plain.se == 0
    alike = bounded and not no_spread
    if alike and _hardly_differ(_cluster_sums(gaps, clusters), (1 + plain.value) / 2, plain.se / 2, plain.n):
        unseen, note = unseen_share(plain.n, level), note or UNSEEN
        low = min(low, plain.value - unseen * (1 + plain.value))
        high = max(high, plain.value + unseen * (1 - plain.value))
    if no_spread:
        p_value = 1.0 if plain.value == 0 else 2.0 ** (1 - plain.n)
    else:
        p_value = 2 * float(scipy.special.stdtr(plain.n - 1, -abs(plain.value) / plain.se))
    return PairedDifference(
        value=plain.value,
        low=low,
        high=high,
        se=plain.se,
        n=plain.n,
        n_eff=plain.n_eff,
        level=level,
        method=f"paired {plain.method}",
        note=note,
        p_value=p_value,
        correlation=_correlation(first, second),
    )


def order_stratified(scores: ArrayLike, swapped: ArrayLike, *, level: float = 0.95) -> Interval:
    """Win rate from one judgment per prompt, half of the prompts in each order: the mean of the two orders' means.

    ``scores`` in [0, 1] and the booleans ``swapped`` have shape (prompts,). The SE, ``sqrt(v1/n1 + v2/n2)/2``, leaves
    the position bias out of the noise; the unstratified SE is valid but about 20% too wide under a strong bias.
    Degrees of freedom are Welch's. Raises UserError when an order has fewer than two prompts.
    """
    mean, se, n, df = stratified_mean(floats(scores, "scores", low=0, high=1), swapped)
    return wilson_from_se(mean, se, n, df=df, level=level, method="wilson, order-stratified SE, t")


def stratified_mean(scores: Floats, swapped: ArrayLike) -> tuple[float, float, int, float]:
    """Mean of the two orders' means, its standard error, the number of prompts, and Welch's degrees of freedom."""
    side = np.asarray(swapped, dtype=bool)
    n = same_length(scores=scores, swapped=side)
    groups = [scores[~side], scores[side]]
    if min(len(g) for g in groups) < 2:
        raise UserError(f"each order needs at least 2 prompts; they have {len(groups[0])} and {len(groups[1])}")
    shares = np.array([g.var(ddof=1) / len(g) for g in groups])
    total = float(shares.sum())
    df = total**2 / float(sum(v**2 / (len(g) - 1) for v, g in zip(shares, groups, strict=True))) if total else n - 2
    return float(np.mean([g.mean() for g in groups])), 0.5 * math.sqrt(total), n, df


def orders_vary(scores: Floats, side: Bools) -> bool:
    """Whether each order has prompts enough, and scores that differ enough, for its variance to be believed."""
    groups = [scores[~side], scores[side]]
    return min(len(g) for g in groups) > 1 and not any(hardly_differ(g) for g in groups)


def hardly_differ(scores: Floats, clusters: ArrayLike | None = None) -> bool:
    """Whether scores in [0, 1] lie on one side of .5 and vary by less than a tenth of what yes-or-no verdicts would.

    Their standard error knows nothing of outcomes that were not seen.
    """
    mean, se, n = clustered_mean(scores, clusters)
    return _hardly_differ(_cluster_sums(scores - 0.5, clusters), mean, se, n)


def clustered_mean(values: Floats, clusters: ArrayLike | None = None) -> tuple[float, float, int]:
    """Mean of the rows, its clustered standard error, and the number of clusters.

    The ratio estimator with the small-sample factor: ``SE^2 = G/(G-1) * sum_g u_g^2 / n^2``, where ``u_g`` sums the
    residuals of cluster g. Equals ``sd/sqrt(n)`` when every row is its own cluster. One cluster has an infinite SE.
    """
    index, count = cluster_index(clusters, len(values))
    mean = float(values.mean())
    if count == 1:
        return mean, math.inf, 1
    sums = np.bincount(index, weights=values - mean, minlength=count)
    se = math.sqrt(count / (count - 1) * float(sums @ sums)) / len(values)
    rounding = 1e-13 * float(np.abs(values).max())
    return mean, se if se > rounding else 0.0, count


def wilson_from_se(
    mean: float, se: float, n: int, *, df: float | None = None, level: float = 0.95, method: str = "wilson"
) -> Interval:
    """Wilson interval of a share in [0, 1] that is known by its standard error, from ``n`` independent clusters.

    ``df`` are the degrees of freedom of the SE, ``n - 1`` by default. See ``wilson`` for the cases without spread.
    """
    if n == 1:
        return Interval(
            value=mean, low=0.0, high=1.0, se=se, n=1, n_eff=1.0, level=level, method=method, note=_note(se, n)
        )
    n_eff = mean * (1 - mean) / se**2 if se and 0 < mean < 1 else float(n)
    t2 = t_quantile(level, n - 1 if df is None else df) ** 2 / n_eff
    centre = (mean + t2 / 2) / (1 + t2)
    half = math.sqrt(t2 * mean * (1 - mean) + t2**2 / 4) / (1 + t2)
    return Interval(
        value=mean,
        low=min(mean, max(0.0, centre - half)),
        high=max(mean, min(1.0, centre + half)),
        se=se,
        n=n,
        n_eff=n_eff,
        level=level,
        method=method,
        note=_note(se, n),
    )


def _cluster_sums(values: Floats, clusters: ArrayLike | None) -> Floats:
    index, count = cluster_index(clusters, len(values))
    return np.asarray(np.bincount(index, weights=values, minlength=count), dtype=np.float64)


def _hardly_differ(sums: Floats, mean: float, se: float, n: int) -> bool:
    one_sided = bool((sums > 0).all() or (sums < 0).all())
    return one_sided and mean * (1 - mean) >= NARROW * n * se**2


def unseen_share(n: int, level: float) -> float:
    """Share of a kind of prompts that may well be missing among ``n``: Clopper and Pearson's upper limit for 0 of n."""
    return 1.0 - float(((1 - level) / 2) ** (1 / n))


def _note(se: float, n: int) -> str:
    if n == 1:
        return "one cluster: nothing is known about the spread between clusters"
    return "no spread between clusters: the standard error of 0 is not believable" if se == 0 else ""


def t_quantile(level: float, df: float) -> float:
    """Student's quantile of a two-sided interval; raises UserError where ``level`` is no confidence."""
    if not 0 < level < 1:
        raise UserError(f"level is {level}; it must lie strictly between 0 and 1, for instance .95")
    return float(scipy.special.stdtrit(df, (1 + level) / 2))


def _correlation(a: Floats, b: Floats) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread else 0.0


def variance_per_prompt(
    between: float, *, within_a: float = 0.0, within_b: float = 0.0, samples_a: int = 1, samples_b: int = 1
) -> float:
    """What one prompt adds to the variance of a paired difference: ``w2 + sA2/K_A + sB2/K_B``.

    ``between`` is the variance over prompts of the expected difference, ``within_*`` the mean variance of one sample's
    score within a prompt, ``samples_*`` the samples drawn per prompt. For a head-to-head win rate it is simply the
    variance of a verdict: .25 for hard verdicts, about .16 for soft ones or two orders. Source: arXiv 2411.00640,
    section 5.
    """
    return between + within_a / samples_a + within_b / samples_b


def power(delta: float, prompts: int, *, variance: float = 0.25, level: float = 0.95) -> float:
    """Chance that a true difference ``delta`` comes out significant, two-sided, with ``variance`` per prompt."""
    z, shift = _z(level), abs(delta) / math.sqrt(variance / prompts)
    return float(scipy.special.ndtr(shift - z) + scipy.special.ndtr(-shift - z))


def minimal_detectable_effect(
    prompts: int, *, variance: float = 0.25, power: float = 0.8, level: float = 0.95
) -> float:
    """The smallest true difference that ``prompts`` prompts detect with the given power (``2.80 sd/sqrt(n)``)."""
    return (_z(level) + float(scipy.special.ndtri(power))) * math.sqrt(variance / prompts)


def prompts_needed(delta: float, *, variance: float = 0.25, power: float = 0.8, level: float = 0.95) -> int:
    """The number of prompts with which a true difference ``delta`` is detected with the given power.

    Raises UserError for a difference of 0, which no number of prompts can show.
    """
    if delta == 0:
        raise UserError("no number of prompts detects a difference of 0; name the smallest one that matters")
    return math.ceil((_z(level) + float(scipy.special.ndtri(power))) ** 2 * variance / delta**2)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's adjusted p-values, shape (k,): those below alpha keep the chance of any false finding below alpha."""
    p = floats(p_values, "p_values", low=0, high=1)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _restore(np.minimum(steps, 1), order)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Benjamini and Hochberg's adjusted p-values, shape (k,): those below q hold the share of false findings at q."""
    p = floats(p_values, "p_values", low=0, high=1)
    order = np.argsort(p, kind="stable")
    steps = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    return _restore(np.minimum(steps, 1), order)


def winners_curse(candidates: int, se: float) -> float:
    """How much the best of ``candidates`` equally good checkpoints overstates itself: ``E[max of k normals] * se``.

    The reason to judge a winner again on prompts that did not choose it. 10 candidates: 1.539 standard errors.
    """
    z = np.linspace(-12, 12, 4801)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return se * float(np.trapezoid(z * candidates * density * scipy.special.ndtr(z) ** (candidates - 1), z))


def _restore(sorted_values: Floats, order: NDArray[np.intp]) -> Floats:
    result = np.empty_like(sorted_values)
    result[order] = sorted_values
    return result


def _z(level: float) -> float:
    return t_quantile(level, math.inf)

"""What moves a judge, and how far it can be trusted, with intervals: alpha, Youden's J, favours, effects on log-odds.

Sources: Krippendorff (2011) for alpha; Youden (1950) for J; Hardt et al. (arXiv 1610.02413) for comparing error rates
between groups; Cameron and Miller (2015) for the clustered covariance.

    from rlhf_eval.stats.judge_effects import difference_of_groups
    difference_of_groups(share_of_the_right_answer, right_answer_is_its_own, clusters=prompt_ids, strata=margin_groups)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, cluster_index, floats, same_length
from rlhf_eval.stats.bootstrap import bootstrap_totals, sum_by_cluster
from rlhf_eval.stats.intervals import Interval, t_quantile, unseen_share, within


def krippendorff_interval(
    a: ArrayLike,
    b: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Krippendorff's nominal alpha of two raters who labelled every item, with a prompt-clustered interval.

    ``a`` and ``b`` are labels of any kind, shape (items,). Source: Krippendorff (2011).
    """
    first, second = np.asarray(a), np.asarray(b)
    n = same_length(a=first, b=second)
    labels, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    rows = np.zeros((n, len(labels), len(labels)))
    rows[np.arange(n), codes[:n], codes[n:]] = 1
    tables = sum_by_cluster(rows, clusters)
    return bootstrap_totals(tables, _nominal_alpha, level=level, draws=draws, seed=seed, bounds=(-1, 1))


def _nominal_alpha(tables: Floats) -> Floats:
    coincidences = tables + tables.transpose(0, 2, 1)
    marginal = coincidences.sum(axis=2)
    total = marginal.sum(axis=1)
    expected = (total**2 - (marginal**2).sum(axis=1)) / (total - 1)
    observed = total - np.trace(coincidences, axis1=1, axis2=2)
    return np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), 0.0)


def youden_interval(
    said: ArrayLike,
    truth: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Youden's J with a prompt-clustered interval; ``said`` in [0, 1] and ``truth`` 0 or 1 have shape (items,).

    Raises UserError where the truth has only one of its two values.
    """
    y, t = floats(said, "said", low=0, high=1), floats(truth, "truth", low=0, high=1)
    same_length(said=y, truth=t)
    if {0.0, 1.0} != set(t.tolist()):
        raise UserError("the truth must be 0 or 1, and both must occur: leave ties out of Youden's J")
    totals = sum_by_cluster(np.column_stack([t, y * t, 1 - t, (1 - y) * (1 - t)]), clusters)
    return bootstrap_totals(totals, _youden, level=level, draws=draws, seed=seed, bounds=(-1, 1))


def _youden(sums: Floats) -> Floats:
    # A draw without one of the two truths says nothing about that side; it counts as no better than chance there.
    positive, negative = np.maximum(sums[:, 0], 1e-9), np.maximum(sums[:, 2], 1e-9)
    sensitivity = np.where(sums[:, 0] > 0, sums[:, 1] / positive, 0.5)
    specificity = np.where(sums[:, 2] > 0, sums[:, 3] / negative, 0.5)
    youden: Floats = sensitivity + specificity - 1
    return youden


def difference_of_groups(
    values: ArrayLike,
    group: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    strata: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Mean of ``values`` where ``group`` is true, minus the mean where it is false, clustered, within ``strata``.

    Given a judge's share for the answer that is right, and whether that answer is the longer one (the judge's own), this
    is the judge's favour for length (for itself). Easy pairs must not sit on one side: give the strata of their margin, or
    compare the result with ``fair_gap``. Shapes (rows,). Raises UserError where a group spans fewer than two clusters, or
    no stratum has both.
    """
    y, inside = floats(values, "values"), np.asarray(group, dtype=bool)
    n = same_length(values=y, group=inside)
    index, count = cluster_index(clusters, n)
    sizes = [len(np.unique(index[side])) for side in (inside, ~inside)]
    if min(sizes) < 2:
        raise UserError(f"one of the two groups has {min(sizes)} prompts; the difference needs at least 2 in each")
    cell, cells = cluster_index(strata, n) if strata is not None else (np.zeros(n, dtype=np.int64), 1)
    members = np.bincount(cell, minlength=cells)
    x = inside - (np.bincount(cell, weights=inside, minlength=cells) / members)[cell]
    if not (x @ x):
        raise UserError("the two groups share no stratum: what tells them apart also tells easy pairs from hard ones")
    value = float(x @ y / (x @ x))
    residual = y - value * inside
    residual = residual - (np.bincount(cell, weights=residual, minlength=cells) / members)[cell]
    sums = np.bincount(index, weights=x * residual, minlength=count) / float(x @ x)
    smaller = min(sizes)  # the spread of the rarer group is what is known worst
    se = math.sqrt(smaller / (smaller - 1) * float(sums @ sums))
    se = se if se > 1e-13 * float(np.abs(y).max()) else 0.0  # what rounding leaves is no spread
    half = t_quantile(level, 2 * smaller - 2) * se
    found = Interval(
        value=value, low=value - half, high=value + half, se=se, n=count, n_eff=count, level=level,
        method="difference of two groups, clustered SE, t" + (f", within {cells} strata" if strata is not None else ""),
        note="" if se else "no spread between clusters: the standard error of 0 is not believable",
    )  # fmt: skip
    if se or y.min() < 0 or y.max() > 1:
        return found
    return _of_steady_shares(found, (float(y[inside].mean()), float(y[~inside].mean())), sizes)


def _of_steady_shares(found: Interval, shares: tuple[float, float], sizes: Sequence[int]) -> Interval:
    """The interval of a difference of two shares without a spread: each side leaves room for what it has not seen.

    The two sides' limits are put together as MOVER does (Zou and Donner 2008).
    """
    one, other = shares
    a, b = (unseen_share(size, found.level) for size in sizes)
    low = found.value - math.hypot(a * one, b * (1 - other))
    high = found.value + math.hypot(a * (1 - one), b * other)
    method = "difference of two steady shares, Clopper-Pearson limits, MOVER"
    return within(replace(found, low=low, high=high, method=method), -1, 1)


def fair_gap(share: float, accuracy: float, agreement: float = 1.0) -> float:
    """What ``difference_of_groups`` shows for a judge without favour, where the group wins a ``share`` of the time.

    Whoever wins more often also wins more clearly, clear cases are easier, and where the rarer side wins the label itself
    is more often wrong: a fair judge of unequal models looks partial. Margins are taken as normal with a spread of 1, the
    judge and each rater as right with the odds of a probit. The judge's sharpness follows from its mean share for the
    labelled winner, ``accuracy``; the raters' noise from their ``agreement`` with each other, 1 for labels without any.
    All three lie in [0, 1]; the gap is 0 at a share of one half.
    """
    grid = np.linspace(-7, 7, 1401)
    wins = min(0.99, max(0.01, share))

    def world(noise: float) -> tuple[Floats, Floats, Floats]:
        margin = grid + float(scipy.special.ndtri(wins)) * math.sqrt(1 + noise**2)
        density = np.exp(-(grid**2) / 2)
        labelled: Floats = scipy.special.ndtr(margin / max(noise, 1e-6))
        return margin, density / density.sum(), labelled

    def agreeing(noise: float) -> float:
        _, density, labelled = world(noise)
        return float(density @ (labelled**2 + (1 - labelled) ** 2))

    margin, density, labelled = world(_solve(lambda noise: -agreeing(noise), -min(agreement, 1 - 1e-9), 1e-6, 10.0))

    def right(k: float) -> tuple[Floats, Floats]:
        chosen: Floats = scipy.special.ndtr(k * margin)
        return density * labelled * chosen, density * (1 - labelled) * (1 - chosen)

    k = _solve(lambda k: float(sum(side.sum() for side in right(k))), accuracy, 0.0, 50.0)
    ours, theirs = (float(side.sum()) for side in right(k))
    return ours / float(density @ labelled) - theirs / float(density @ (1 - labelled))


def _solve(rising: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where a rising function reaches a value, or the end of the interval that is nearest to it."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2


def log_odds_effects(
    logits: ArrayLike, design: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95
) -> list[Interval] | None:
    """Least-squares effects of the columns of ``design`` on a soft judge's log-odds, with clustered t intervals.

    ``logits`` has shape (rows,), the log-odds of the first of two answers; ``design`` (rows, columns) holds what
    differs between them, first minus second: side, length, own model, quality. There is no intercept: two answers that
    do not differ are even. Unlike a logistic fit it is not shrunk by what was left out and does not differ. None where
    the columns depend on each other or there are too few prompts.
    """
    y, x = floats(logits, "logits"), np.asarray(design, dtype=np.float64)
    index, count = cluster_index(clusters, len(y))
    gram = x.T @ x
    scale = np.sqrt(np.diag(gram))
    if count <= x.shape[1] + 1 or not scale.all() or np.linalg.cond(gram / np.outer(scale, scale)) > 1e8:
        return None
    bread = np.linalg.inv(gram)
    effects = bread @ (x.T @ y)
    sums = np.zeros((count, x.shape[1]))
    np.add.at(sums, index, x * (y - x @ effects)[:, None])
    factor = count / (count - 1) * (len(y) - 1) / max(len(y) - x.shape[1], 1)
    errors = np.sqrt(np.diag(bread @ (sums.T @ sums) @ bread) * factor)
    half = t_quantile(level, count - x.shape[1]) * errors
    return [
        Interval(
            value=float(b), low=float(b - h), high=float(b + h), se=float(s), n=count, n_eff=count, level=level,
            method="least squares on log-odds, clustered SE, t",
        )
        for b, h, s in zip(effects, half, errors, strict=True)
    ]  # fmt: skip


def self_preference(
    judge_own: ArrayLike, human_own: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """How much rather a judge agrees with humans when they prefer its own family's answer: 0 for a fair judge.

    For pairs of one own and one foreign answer, ``judge_own`` and ``human_own`` are 1 where the judge and the humans
    preferred the own one, shape (pairs,). ``P(judge own | human own) - P(judge other | human other)``, with a cluster
    bootstrap. Without humans, one judge's self-preference cannot be told from its family's strength. Raises UserError
    unless the humans preferred each side at least once.
    """
    said, true = floats(judge_own, "judge_own", low=0, high=1), floats(human_own, "human_own", low=0, high=1)
    same_length(judge_own=said, human_own=true)
    if set(true.tolist()) != {0.0, 1.0}:
        raise UserError("human_own must be 0 or 1, and both must occur: leave ties out")
    rows = np.column_stack([true * said, true, (1 - true) * (1 - said), 1 - true])

    def difference(totals: Floats) -> Floats:
        counts = np.maximum(totals, 1e-12)
        gap: Floats = totals[:, 0] / counts[:, 1] - totals[:, 2] / counts[:, 3]
        return gap

    return bootstrap_totals(sum_by_cluster(rows, clusters), difference, level=level, seed=seed, bounds=(-1, 1))


def label_noise(disagreement: float) -> float:
    """Error rate of labels of which two per item disagree at this rate: ``(1 - sqrt(1 - 2d))/2``.

    Assumes that the two err independently; raises UserError above one half, which chance alone would give.
    """
    if not 0 <= disagreement <= 0.5:
        raise UserError(f"disagreement is {disagreement:g}; two labels of one item disagree at a rate from 0 to .5")
    return (1 - math.sqrt(1 - 2 * disagreement)) / 2

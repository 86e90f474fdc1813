"""What a judge's verdicts are worth: position bias, self-consistency, decision value, votes in a panel.

A judge is measured before it is believed. Run both orders on a random 10 to 20% of the prompts, repeat a few verdicts
(or plain noise is read as position bias), and compare judge with human next to human with human.

    from rlhf_eval.stats.judge_quality import position_bias, effective_votes
    position_bias(shown_first, shown_second, clusters=prompt_ids)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, cluster_index, floats, same_length
from rlhf_eval.stats.bootstrap import bootstrap_totals, sum_by_cluster
from rlhf_eval.stats.intervals import Interval, mean_interval, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBias:
    """What swapping the order does to a judge's verdicts."""

    consistency: Interval
    """Share of pairs with the same winner (or a tie) in both orders; one minus it is the flip rate."""
    first_slot: Interval
    """Share won by whatever stands first, minus one half: positive leans to the first slot."""
    both_first: int
    both_second: int
    """Flips toward the first slot, and toward the second."""
    p_value: float
    """McNemar's exact test that flips go either way equally often (pairs taken as independent)."""


def position_bias(
    shown_first: ArrayLike, shown_second: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95
) -> PositionBias:
    """Position bias from the same pairs judged in both orders.

    ``shown_first`` and ``shown_second``, shape (pairs,), hold the score in [0, 1] of one fixed answer of each pair
    when it stood first and when it stood second; more than .5 is a win. Raises UserError when the lengths differ.
    """
    first = floats(shown_first, "shown_first", low=0, high=1)
    second = floats(shown_second, "shown_second", low=0, high=1)
    same_length(shown_first=first, shown_second=second)
    winner_first, winner_second = np.sign(first - 0.5), np.sign(second - 0.5)
    both_first = int(((winner_first > 0) & (winner_second < 0)).sum())
    both_second = int(((winner_first < 0) & (winner_second > 0)).sum())
    flips = both_first + both_second
    tail = float(special.bdtr(min(both_first, both_second), flips, 0.5))
    return PositionBias(
        consistency=wilson(winner_first == winner_second, clusters, level=level),
        first_slot=mean_interval((first - second) / 2, clusters, level=level),
        both_first=both_first,
        both_second=both_second,
        p_value=min(1.0, 2 * tail),
    )


def self_consistency(verdicts: ArrayLike, *, level: float = 0.95) -> Interval:
    """Chance that two repeats of the same judgment agree.

    ``verdicts`` has shape (items, repeats), labels of any kind. Raises UserError below two repeats.
    """
    table = np.asarray(verdicts)
    if table.ndim != 2 or table.shape[1] < 2:
        raise UserError(f"verdicts must have shape (items, repeats) with at least 2 repeats, not {table.shape}")
    repeats = table.shape[1]
    same = (table[:, :, None] == table[:, None, :]).sum(axis=(1, 2)) - repeats
    return wilson(same / (repeats * (repeats - 1)), level=level)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionValue:
    """How much of a true gap a judge shows."""

    sensitivity: float
    specificity: float
    youden: float
    """``J = sensitivity + specificity - 1``: the observed gap in win rate is J times the true one."""
    prompts_factor: float
    """How many times the prompts of a perfect judge are needed: ``1/J^2``."""


def decision_value(judge: ArrayLike, human: ArrayLike) -> DecisionValue:
    """Sensitivity, specificity and Youden's J of a judge against human labels, both 0 or 1, shape (items,).

    Raises UserError when the humans gave only one of the two labels.
    """
    said, true = floats(judge, "judge", low=0, high=1), floats(human, "human", low=0, high=1)
    same_length(judge=said, human=true)
    if set(true.tolist()) != {0.0, 1.0}:
        raise UserError("human labels must be 0 or 1, and both must occur: leave ties out of a decision value")
    sensitivity, specificity = float(said[true == 1].mean()), float(1 - said[true == 0].mean())
    youden = sensitivity + specificity - 1
    return DecisionValue(
        sensitivity=sensitivity,
        specificity=specificity,
        youden=youden,
        prompts_factor=1 / youden**2 if youden else math.inf,
    )


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
    values: ArrayLike, group: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95
) -> Interval:
    """Mean of ``values`` where ``group`` is true, minus the mean where it is false, with a clustered SE and Welch's t.

    Given a judge's share for the answer that the humans preferred, and whether that answer is the longer one (the
    judge's own), this is the judge's favour for length (for itself): 0 for a judge whose errors ignore the trait,
    whatever the trait is worth. Shapes (rows,). Raises UserError where a group spans fewer than two clusters.
    """
    y, inside = floats(values, "values"), np.asarray(group, dtype=bool)
    n = same_length(values=y, group=inside)
    index, count = cluster_index(clusters, n)
    sizes, variances = [], []
    influence = np.zeros(n)
    for side, sign in ((inside, 1.0), (~inside, -1.0)):
        members = len(np.unique(index[side]))
        if members < 2:
            raise UserError(f"one of the two groups has {members} prompts; the difference needs at least 2 in each")
        sizes.append(members)
        influence[side] = sign * (y[side] - y[side].mean()) / side.sum()
        sums = np.bincount(index[side], weights=influence[side], minlength=count)
        variances.append(members / (members - 1) * float(sums @ sums))
    sums = np.bincount(index, weights=influence, minlength=count)
    se = math.sqrt(count / (count - 1) * float(sums @ sums))
    spread = sum(v**2 / (size - 1) for v, size in zip(variances, sizes, strict=True))
    df = sum(variances) ** 2 / spread if spread else min(sizes) - 1
    value = float(y[inside].mean() - y[~inside].mean())
    half = float(special.stdtrit(df, (1 + level) / 2)) * se
    return Interval(
        value=value, low=value - half, high=value + half, se=se, n=count, n_eff=count, level=level,
        method="difference of two groups, clustered SE, Welch t",
        note="" if se else "no spread between clusters: the standard error of 0 is not believable",
    )  # fmt: skip


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
    half = float(special.stdtrit(count - x.shape[1], (1 + level) / 2)) * errors
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


def information_per_dollar(youden: float, cost_per_call: float, *, win_rate: float = 0.5) -> float:
    """Fisher information on the true win rate that a dollar of this judge buys: ``J^2/(q(1-q))/cost``.

    ``q = .5 + J (w - .5)`` is the win rate that the judge shows. Ranks unbiased judges only; audit the others.
    """
    if cost_per_call <= 0 or not -1 <= youden <= 1 or not 0 <= win_rate <= 1:
        raise UserError("cost_per_call must be positive, youden lie in [-1, 1] and win_rate in [0, 1]")
    shown = 0.5 + youden * (win_rate - 0.5)
    return youden**2 / (shown * (1 - shown)) / cost_per_call


def error_correlation(errors: ArrayLike) -> float:
    """Mean correlation of the judges' errors, ``verdict - truth``; ``errors`` has shape (items, judges).

    Raises UserError below two judges, or when a judge's error never varies.
    """
    table = np.asarray(errors, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise UserError(f"errors must have shape (items, judges) with at least 2 judges, not {table.shape}")
    if (np.ptp(table, axis=0) == 0).any():
        raise UserError("a judge's errors never vary: their correlation with the others is not defined")
    judges = table.shape[1]
    return float((np.corrcoef(table, rowvar=False).sum() - judges) / (judges * (judges - 1)))


def effective_votes(judges: int, rho: float) -> float:
    """How many independent judges a panel is worth, ``k/(1 + (k-1) rho)``: nine frontier judges are about two.

    ``rho`` is their ``error_correlation``. Raises UserError where no k judges can correlate so negatively.
    """
    if not -1 / max(judges - 1, 1) < rho <= 1:
        raise UserError(f"{judges} judges cannot have a mean error correlation of {rho:g}")
    return judges / (1 + (judges - 1) * rho)


def best_repeats(generation_cost: float, judge_cost: float, within: float, between: float) -> float:
    """Judge calls per prompt that give the most precise mean for the money: ``sqrt(c_gen/c_judge * s_w^2/s_b^2)``.

    ``within`` and ``between`` are the variances of a verdict within and between prompts. At least 1: with cached
    answers more prompts always beat more repeats.
    """
    return max(1.0, math.sqrt(generation_cost / judge_cost * within / between))

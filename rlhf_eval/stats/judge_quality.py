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
import scipy
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import floats, same_length
from rlhf_eval.stats.intervals import Interval, bounded_mean, wilson


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
    tail = float(scipy.special.bdtr(min(both_first, both_second), flips, 0.5))
    return PositionBias(
        consistency=wilson(winner_first == winner_second, clusters, level=level),
        first_slot=bounded_mean((first - second) / 2, -0.5, 0.5, clusters, level=level),
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


def information_per_dollar(youden: float, cost_per_call: float, *, win_rate: float = 0.5) -> float:
    """Fisher information on the true win rate that a dollar of this judge buys: ``J^2/(q(1-q))/cost``.

    ``q = .5 + J (w - .5)`` is the win rate that the judge shows. Ranks unbiased judges only; audit the others.
    """
    if cost_per_call <= 0 or not -1 <= youden <= 1 or not 0 <= win_rate <= 1:
        raise UserError("cost_per_call must be positive, youden lie in [-1, 1] and win_rate in [0, 1]")
    shown = 0.5 + youden * (win_rate - 0.5)
    return youden**2 / (shown * (1 - shown)) / cost_per_call if 0 < shown < 1 else math.inf


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

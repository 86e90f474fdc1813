"""Scoring reward models: best-of-k accuracy, RewardBench 2's Ties, macro averages with errors, margins, length.

Two reward models are compared with ``intervals.paired`` on the same prompts. A macro average at 75% over RewardBench
2's six subsets has a standard error of 1.2 points; nobody prints it.

Sources: RewardBench (arXiv 2403.13787), RewardBench 2 (arXiv 2506.01937).

    from rlhf_eval.stats.reward_models import best_of_k_credit, macro_average
    macro_average([wilson(best_of_k_credit(scores)) for scores in subsets])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, Ints, cluster_index, floats, same_length
from rlhf_eval.stats.calibration import Calibration, calibration
from rlhf_eval.stats.intervals import Interval, bounded_mean


def best_of_k_credit(scores: ArrayLike) -> Floats:
    """1 where the first completion has the highest score, shared among ties: ``1/#max``; shape (prompts,).

    ``scores`` has shape (prompts, completions), the correct completion first. Source: RewardBench 2.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2 or not np.isfinite(table).all():
        raise UserError(f"scores must be finite, of shape (prompts, completions), not {table.shape}")
    best = table == table.max(axis=1, keepdims=True)
    return np.where(best[:, 0], 1 / best.sum(axis=1), 0.0)


def macro_average(subsets: Sequence[Interval], weights: Sequence[float] | None = None, *, note: str = "") -> Interval:
    """Mean of subset means, weighted or not; ``SE^2 = sum w^2 SE_s^2``.

    The interval is recovered from the subsets' own, ``mean - sqrt(sum w^2 (value_s - low_s)^2)`` and likewise above (MOVER;
    Zou and Donner 2008): a subset that was answered without a mistake has no SE, but its Wilson interval knows that it
    might have been. Raises UserError without a subset, or where their levels differ.
    """
    levels = {subset.level for subset in subsets}
    if len(levels) != 1:
        raise UserError("a macro average needs at least one subset, and all at one level")
    w = np.asarray(weights if weights is not None else np.ones(len(subsets)), dtype=np.float64)
    w = w / w.sum()
    value, low, high, se = (np.array([getattr(s, name) for s in subsets]) for name in ("value", "low", "high", "se"))
    mean, n = float(w @ value), sum(s.n for s in subsets)
    notes = dict.fromkeys(text for text in (note, *(s.note for s in subsets)) if text)
    return Interval(
        value=mean,
        low=mean - math.sqrt(float(w**2 @ (value - low) ** 2)),
        high=mean + math.sqrt(float(w**2 @ (high - value) ** 2)),
        se=math.sqrt(float(w**2 @ se**2)),
        n=n,
        n_eff=n,
        level=levels.pop(),
        method="macro average, MOVER" if weights is None else "weighted mean of subsets, MOVER",
        note="; ".join(notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TiesScore:
    """RewardBench 2's Ties score and its parts; a perfect model scores 1.01."""

    score: float
    accuracy_ref: float
    accuracy_tied: float
    margin_over_spread: float
    """Share of prompts whose tied answers lie closer together than the best wrong answer lies below them."""
    both_margins_over_spread: float
    correctness: float


Answers = tuple[Sequence[float], Sequence[float]]
"""Scores of the correct answers, and of the wrong ones."""


def ties_score(ref: Sequence[Answers], tied: Sequence[Answers]) -> TiesScore:
    """RewardBench 2's Ties: prompts with one correct answer (``ref``) beside their twins with many (``tied``), aligned.

    ``.3 acc_tied + .3 acc_ref + .2 mean(c_tied > s) + .2 mean(min(c_ref, c_tied) > s) + .01 mean tanh(min/s - 1)``,
    where s is the spread of the correct answers of ``tied`` and c the worst correct minus the best wrong score. A
    prompt without spread counts 0 in the last term where its margin is 0 too. Raises UserError when the two are not
    aligned.
    """
    if len(ref) != len(tied) or not ref:
        raise UserError(f"{len(ref)} ref and {len(tied)} tied prompts; each prompt needs both")
    c_ref = np.array([min(right) - max(wrong) for right, wrong in ref])
    c_tied = np.array([min(right) - max(wrong) for right, wrong in tied])
    spread = np.array([max(right) - min(right) for right, _ in tied])
    least = np.minimum(c_ref, c_tied)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(np.tanh(least / spread - 1), nan=0.0)
    parts = {
        "accuracy_ref": float((c_ref > 0).mean()),
        "accuracy_tied": float((c_tied > 0).mean()),
        "margin_over_spread": float((c_tied > spread).mean()),
        "both_margins_over_spread": float((least > spread).mean()),
        "correctness": float(ratio.mean()),
    }
    score = float(np.dot([0.3, 0.3, 0.2, 0.2, 0.01], list(parts.values())))
    return TiesScore(score=score, **parts)


def best_of_k_accuracy(pairwise: float, k: int = 4) -> float:
    """The best-of-k accuracy that a pairwise accuracy amounts to, for independent Gaussian scores of equal spread.

    .7 is .470 of four and .9 is .782, so benchmarks of pairs and of fours do not compare.
    """
    if not 0 < pairwise < 1 or k < 2:
        raise UserError("pairwise accuracy must lie strictly between 0 and 1, and k be at least 2")
    z = np.linspace(-12, 12, 4801)
    shift = math.sqrt(2) * float(scipy.special.ndtri(pairwise))
    density = np.exp(-((z - shift) ** 2) / 2) / math.sqrt(2 * math.pi)
    return float(np.trapezoid(density * scipy.special.ndtr(z) ** (k - 1), z))


def margin_calibration(margins: ArrayLike, *, temperature: float = 1.0, seed: int = 0) -> Calibration:
    """Calibration of ``P(chosen wins) = sigmoid(margin/T)``; ``margins`` are chosen minus rejected, shape (pairs,).

    Each pair enters in both directions, or a model that calls every first answer better would look calibrated.
    """
    m = floats(margins, "margins")
    p = scipy.special.expit(np.concatenate([m, -m]) / temperature)
    return calibration(p, np.repeat([1.0, 0.0], len(m)), np.tile(np.arange(len(m)), 2), seed=seed)


def within_prompt_correlation(
    scores: ArrayLike, lengths: ArrayLike, prompts: ArrayLike, *, level: float = 0.95
) -> Interval:
    """Mean over prompts of the Spearman correlation of score and length among a prompt's own answers.

    All arrays have shape (answers,). Pooling over prompts mixes in what prompts share (.85 pooled, 0 within, in a
    simulation). Prompts with fewer than 3 answers or no variation say nothing and are left out. Raises UserError where
    none is left.
    """
    y, x = floats(scores, "scores"), floats(lengths, "lengths")
    index, count = cluster_index(prompts, same_length(scores=y, lengths=x))
    first, second = (_ranks_within(column, index) for column in (y, x))
    spread = np.sqrt(np.bincount(index, first**2) * np.bincount(index, second**2))
    told = (np.bincount(index, minlength=count) >= 3) & (spread > 0)
    if not told.any():
        raise UserError("no prompt has 3 answers of different score and length: their correlation is not defined")
    return bounded_mean(np.bincount(index, first * second)[told] / spread[told], -1, 1, level=level)


def _ranks_within(values: Floats, group: Ints) -> Floats:
    """The rank of each value in its group, ties at their mean rank, less the group's mean rank."""
    order = np.lexsort((values, group))
    ordered, of = values[order], group[order]
    run = np.cumsum(np.concatenate([[False], (ordered[1:] != ordered[:-1]) | (of[1:] != of[:-1])]))
    ranks = np.empty(len(values))
    ranks[order] = (np.bincount(run, np.arange(len(values))) / np.bincount(run))[run]
    centred: Floats = ranks - (np.bincount(group, ranks) / np.bincount(group))[group]
    return centred

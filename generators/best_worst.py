"""Pair the best answer of a prompt with its worst; keep the best one for supervised fine-tuning.

The widest contrast that the stored judgments hold (RLHF book, arXiv 2504.12501, chapters on rejection sampling and
synthetic data). The worst of a large pool tends to be degenerate: look at ``best_random_lower`` and at the card's share of
refusals before training on it.

    rlhf-eval pairs --rule best_worst
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_eval.stages.matrix import Matrix
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the best-against-worst rule."""

    min_margin: float = 0.0
    """Smallest difference of scores that makes a pair; at 0 any difference does."""


def choose(matrix: Matrix, config: Config) -> Choice:
    """One candidate a prompt with two answers, and the best answer of every prompt."""
    several = matrix.counts[matrix.counts > 0] > 1
    best, worst = matrix.best(), matrix.worst()
    return Choice(chosen=best[several], rejected=worst[several], kept=best, min_margin=config.min_margin)

"""Pair the best answer of a prompt with the second best: a fine contrast between two good answers.

Two answers that share the first place are a tie. The counterpart of ``best_worst``; RLHFlow calls such a rule max_max.

    rlhf-eval pairs --rule best_second
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_eval.stages.matrix import Matrix
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the best-against-second rule."""

    min_margin: float = 0.0
    """Smallest difference of scores that makes a pair; at 0 any difference does."""


def choose(matrix: Matrix, config: Config) -> Choice:
    """One candidate a prompt with two answers, and the best answer of every prompt."""
    ranked = matrix.ranked()
    first = matrix.start[:-1][matrix.counts > 1]
    return Choice(chosen=ranked[first], rejected=ranked[first + 1], kept=matrix.best(), min_margin=config.min_margin)

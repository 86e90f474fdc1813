"""Pair the best answer of a prompt with a random lower one: the rule that binarised UltraFeedback.

Less extreme than ``best_worst``: the rejected side shows what is ordinarily wrong instead of the worst of the pool (Cui et
al., arXiv 2310.01377; Tunstall et al., arXiv 2310.16944, section 4).

    rlhf-eval pairs --rule best_random_lower --set draw_seed=1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.stages.matrix import Matrix, dice
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the best-against-random-lower rule."""

    min_margin: float = 0.0
    """Smallest difference of scores that makes a pair; at 0 any difference does."""
    draw_seed: int = 0
    """Draws the rejected answers; another one draws others."""


def choose(matrix: Matrix, config: Config) -> Choice:
    """One candidate a prompt whose answers differ in score, and the best answer of every prompt."""
    best = matrix.best()
    lower = matrix.score < matrix.of_prompt(matrix.score[best])
    # Where all are equal, any other answer stands for the tie that the prompt ends as.
    others = np.ones(matrix.size, dtype=np.bool_)
    others[best] = False
    alone = ~np.isin(matrix.prompt, matrix.prompt[lower])
    rejected = matrix.draw(lower | (others & alone), dice(config.draw_seed))
    top = np.full(matrix.prompts, -1)
    top[matrix.prompt[best]] = best
    return Choice(chosen=top[matrix.prompt[rejected]], rejected=rejected, kept=best, min_margin=config.min_margin)

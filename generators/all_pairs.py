"""Pair every two answers of a prompt that differ in score: n (n - 1) / 2 pairs of n answers.

What reward models were first trained on (Ouyang et al., arXiv 2203.02155, section 3.5): pairs of one prompt are dependent,
so they belong into one batch and count as one unit in every interval.

    rlhf-eval pairs --rule all_pairs --set min_margin=0.2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.stages.matrix import Matrix, dice, place_in_group
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the all-pairs rule."""

    min_margin: float = 0.0
    """Smallest difference of scores that makes a pair; at 0 any difference does."""
    most: int = 0
    """Most pairs a prompt, drawn at random among those with the margin; 0 takes all."""
    draw_seed: int = 0
    """Draws the pairs where ``most`` limits them."""

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError(f"most is {self.most}; it counts pairs, and 0 takes all")


def choose(matrix: Matrix, config: Config) -> Choice:
    """Every two answers of every prompt."""
    better, worse = matrix.pairs()
    if config.most:
        wide = np.flatnonzero(matrix.score[better] - matrix.score[worse] > config.min_margin)
        prompt = matrix.prompt[better[wide]]
        order = np.lexsort((dice(config.draw_seed).random(len(wide)), prompt))
        taken = wide[order[place_in_group(prompt[order]) < config.most]]
        # Prompts without a wide pair keep one candidate, which says why.
        rest = np.flatnonzero(~np.isin(matrix.prompt[better], prompt))
        _, once = np.unique(matrix.prompt[better[rest]], return_index=True)
        kept = np.concatenate([taken, rest[once]])
        better, worse = better[kept], worse[kept]
    return Choice(chosen=better, rejected=worse, min_margin=config.min_margin)

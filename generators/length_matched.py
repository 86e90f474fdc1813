"""Pair two answers of about the same length: a contrast in which length cannot be the lesson.

Among the pairs of a prompt whose lengths differ by at most ``tolerance`` of the longer one, the widest margin is taken.
Where judges like length, best-of-n pairs teach length (Singhal et al., arXiv 2310.03716); here they cannot.

    rlhf-eval pairs --rule length_matched --set tolerance=0.15
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.stages.matrix import Matrix
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the length-matched rule."""

    tolerance: float = 0.2
    """Largest difference of lengths, as a share of the longer answer's characters."""
    min_margin: float = 0.0
    """Smallest difference of scores that makes a pair; at 0 any difference does."""

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}; it must lie in [0, 1)")


def choose(matrix: Matrix, config: Config) -> Choice:
    """The widest margin among the pairs of like length."""
    better, worse = matrix.pairs()
    longer = np.maximum(matrix.length[better], matrix.length[worse])
    gap = np.abs(matrix.length[better] - matrix.length[worse])
    alike = np.flatnonzero(gap <= config.tolerance * longer)
    prompt = matrix.prompt[better[alike]]
    order = np.lexsort((matrix.score[worse[alike]] - matrix.score[better[alike]], prompt))
    _, first = np.unique(prompt[order], return_index=True)
    taken = alike[order[first]]
    return Choice(
        chosen=better[taken],
        rejected=worse[taken],
        min_margin=config.min_margin,
        why=f"no two of its answers are within {config.tolerance:.0%} of each other in length",
    )

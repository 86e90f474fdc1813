"""The matched control of ``top_k_overall``: K answers drawn from all of them without a look at their rewards.

rlhf-eval pairs --rule random_k_overall --set k=1000
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.stages.matrix import Matrix, dice
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of K random answers."""

    k: int = 0
    """Answers kept; 0 keeps as many as there are prompts."""
    draw_seed: int = 0
    """Draws the answers; another one draws others."""

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k is {self.k}; it counts answers")


def choose(matrix: Matrix, config: Config) -> Choice:
    """K random answers."""
    k = config.k or int((matrix.counts > 0).sum())
    kept = dice(config.draw_seed).permutation(matrix.size)[:k]
    return Choice(kept=np.sort(kept), why=f"none of its answers is among the {k} drawn")

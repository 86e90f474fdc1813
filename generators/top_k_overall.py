"""Rejection sampling over all answers at once: keep the K highest rewards, wherever they stand.

``argsort(R_flat)[-K:]`` (RLHF book, arXiv 2504.12501, chapter on rejection sampling): easy prompts may appear several times
and hard ones not at all; the card shows the coverage. Its matched control is ``random_k_overall``.

    rlhf-eval pairs --rule top_k_overall --set k=1000
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.stages.matrix import Matrix
from rlhf_eval.stages.pairs import Choice

CONTROL = "random_k_overall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the top K overall."""

    k: int = 0
    """Answers kept; 0 keeps as many as there are prompts, which is what top_per_prompt keeps."""

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k is {self.k}; it counts answers")


def choose(matrix: Matrix, config: Config) -> Choice:
    """The K best answers; of equal ones the earlier."""
    k = config.k or int((matrix.counts > 0).sum())
    kept = np.argsort(-matrix.score, kind="stable")[:k]
    return Choice(kept=np.sort(kept), why=f"none of its answers is among the {k} best")

"""Rejection sampling, one answer a prompt: keep the answer with the highest reward, and train on it.

``S(R)_i = argmax_j R_ij`` over the M x N reward matrix (RLHF book, arXiv 2504.12501, chapter on rejection sampling): M
demonstrations, every prompt represented. Its matched control is ``random_per_prompt``: a reward that does not beat it
carries no signal.

    rlhf-eval pairs --rule top_per_prompt
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_eval.stages.matrix import Matrix
from rlhf_eval.stages.pairs import Choice

CONTROL = "random_per_prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the top answer per prompt: there are none."""


def choose(matrix: Matrix, config: Config) -> Choice:
    """The best answer of every prompt; of equal ones the first."""
    return Choice(kept=matrix.best())

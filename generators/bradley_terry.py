"""Rank a prompt's answers by a Bradley-Terry fit of their own tournament, then pair the strongest with the weakest.

Mean win shares are unfair where not everybody met everybody; strengths are not. Each answer also ties once against the
average, which keeps an undefeated answer finite. The probability is the fit's own: sigmoid of the difference of strengths.

    rlhf-eval pairs --rule bradley_terry
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.stages.matrix import Floats, Matrix
from rlhf_eval.stages.pairs import Choice
from rlhf_eval.stats.bradley_terry import newton

_CELLS = 4_000_000
"""Cells of the tables of wins that are solved at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the tournament rule."""

    pairs: Literal["extremes", "all"] = "extremes"
    """The strongest against the weakest, or every two answers."""
    prior: float = 1.0
    """Phantom ties of each answer against the average; more shrinks the strengths."""
    min_margin: float = 0.0
    """Smallest difference of strengths, in log-odds, that makes a pair."""

    def __post_init__(self) -> None:
        if self.prior <= 0:
            raise ValueError(f"prior is {self.prior}; without it an undefeated answer has no finite strength")


def choose(matrix: Matrix, config: Config) -> Choice:
    """Candidates by strength; raises UserError where the judgments hold no comparison."""
    if not len(matrix.contests.first):
        raise UserError("bradley_terry needs comparisons; the judgments hold grades: use best_worst, or judge pairwise")
    strength = _strengths(matrix, config.prior)
    strong = Matrix(
        start=matrix.start, score=strength, length=matrix.length, words=matrix.words, model=matrix.model,
        models=matrix.models, side=matrix.side, contrast=matrix.contrast, index=matrix.index,
    )  # fmt: skip
    several = matrix.counts[matrix.counts > 0] > 1
    chosen, rejected = strong.pairs() if config.pairs == "all" else (strong.best()[several], strong.worst()[several])
    margin = strength[chosen] - strength[rejected]
    # The solver stops at 1e-10: a smaller difference is none.
    margin = np.where(margin < 1e-8, 0.0, margin)
    return Choice(
        chosen=chosen,
        rejected=rejected,
        probability=1 / (1 + np.exp(-margin)),
        margin=margin,
        kept=strong.best(),
        min_margin=config.min_margin,
    )


def _strengths(matrix: Matrix, prior: float) -> Floats:
    """Strength of every answer within its prompt, shape (completions,)."""
    strength = np.zeros(matrix.size)
    contests, prompt = matrix.contests, matrix.prompt
    home = prompt[contests.first]
    for count in np.unique(matrix.counts[matrix.counts > 1]):
        size = int(count)
        rows = np.flatnonzero(matrix.counts == size)
        block = max(1, _CELLS // size**2)
        for begin in range(0, len(rows), block):
            some = rows[begin : begin + block]
            base = matrix.start[:-1][some]
            at = np.searchsorted(some, home)
            here = np.flatnonzero(some[np.minimum(at, len(some) - 1)] == home)
            wins = np.zeros((len(some), size, size))
            k = at[here]
            i, j = contests.first[here] - base[k], contests.second[here] - base[k]
            wins[k, i, j] = contests.share[here]
            wins[k, j, i] = 1 - contests.share[here]
            strength[(base[:, None] + np.arange(size)).ravel()] = newton(wins, prior=prior).ravel()
    return strength

"""Keep every answer that is good enough: by an absolute score, or by a quantile of all scores.

The acceptance rule of RAFT-like loops (Dong et al., arXiv 2304.06767) and of filtered SFT sets. A quantile of .9 keeps the
best tenth; ``within`` takes it inside each prompt instead, so that hard prompts stay represented.

    rlhf-eval pairs --rule threshold --set quantile=0.9 --set most=2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.stages.matrix import Floats, Matrix, place_in_group
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of acceptance by score."""

    at_least: float | None = None
    """Lowest score that is kept; empty for none."""
    quantile: float | None = None
    """Share of scores that an answer must reach or exceed; empty for none."""
    within: bool = False
    """Take the quantile inside each prompt."""
    most: int = 0
    """Most answers a prompt, the best ones; 0 keeps all."""

    def __post_init__(self) -> None:
        if self.at_least is None and self.quantile is None:
            raise ValueError("a threshold needs at_least, quantile, or both")
        if self.quantile is not None and not 0 <= self.quantile < 1:
            raise ValueError(f"quantile is {self.quantile}; it must lie in [0, 1)")
        if self.most < 0:
            raise ValueError(f"most is {self.most}; it counts answers, and 0 keeps all")


def choose(matrix: Matrix, config: Config) -> Choice:
    """The accepted answers of every prompt, at most ``most`` of each."""
    accepted = np.ones(matrix.size, dtype=np.bool_)
    if config.at_least is not None:
        accepted &= matrix.score >= config.at_least
    if config.quantile is not None and matrix.size:
        bar = _within(matrix, config.quantile) if config.within else float(np.quantile(matrix.score, config.quantile))
        accepted &= matrix.score >= bar
    ranked = matrix.ranked()
    ranked = ranked[accepted[ranked]]
    if config.most:
        ranked = ranked[place_in_group(matrix.prompt[ranked]) < config.most]
    return Choice(kept=np.sort(ranked), why="none of its answers is good enough")


def _within(matrix: Matrix, quantile: float) -> Floats:
    """The quantile of each prompt's own scores (linear between order statistics), spread over its answers."""
    ascending = matrix.score[np.lexsort((matrix.score, matrix.prompt))]
    counts = matrix.counts[matrix.counts > 0]
    begin = matrix.start[:-1][matrix.counts > 0]
    exact = quantile * (counts - 1)
    low = np.floor(exact).astype(np.int64)
    high = np.minimum(low + 1, counts - 1)
    bar = ascending[begin + low] + (exact - low) * (ascending[begin + high] - ascending[begin + low])
    return matrix.of_prompt(bar)

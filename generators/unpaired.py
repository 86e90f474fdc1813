"""Label single answers good or bad, with no opponent: data for KTO and its kin.

Good is at least ``good``, bad at most ``bad``; by default the upper and lower third of all scores, so that any judge's
scale will do. What lies between is left out (Ethayarajh et al., arXiv 2402.01306). ``balance`` draws as many of each.

    rlhf-eval pairs --rule unpaired --set balance=true --out kto.jsonl
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.stages.matrix import Matrix, dice
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the unpaired rule."""

    good: float | None = None
    """Score from which an answer is good; empty: the upper third of all scores."""
    bad: float | None = None
    """Score up to which an answer is bad; empty: the lower third of all scores."""
    balance: bool = False
    """Draw as many good as bad answers; KTO wants good times its weight to bad between 1 and 4/3."""
    draw_seed: int = 0
    """Draws where ``balance`` is on."""

    def __post_init__(self) -> None:
        if self.good is not None and self.bad is not None and not self.bad < self.good:
            raise ValueError(f"bad is {self.bad}; it must lie under good, which is {self.good}")


def choose(matrix: Matrix, config: Config) -> Choice:
    """The good and the bad answers; a prompt whose answers all lie between is dropped."""
    if not matrix.size:
        return Choice(why="nothing has a score")
    good = config.good if config.good is not None else float(np.quantile(matrix.score, 2 / 3))
    bad = config.bad if config.bad is not None else float(np.quantile(matrix.score, 1 / 3))
    liked = np.flatnonzero(matrix.score >= good)
    disliked = np.flatnonzero((matrix.score <= bad) & (matrix.score < good))
    if config.balance:
        rng = dice(config.draw_seed)
        most = min(len(liked), len(disliked))
        liked, disliked = (np.sort(rng.permutation(side)[:most]) for side in (liked, disliked))
    return Choice(
        liked=liked,
        disliked=disliked,
        why=f"its scores lie between bad ({bad:g}) and good ({good:g}), or were not drawn",
    )

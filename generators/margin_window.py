"""Pair two answers whose scores differ by about so much: neither a coin flip nor a foregone conclusion.

Small margins are mostly label noise, large ones teach what the model knows already. Of the pairs inside the window one a
prompt is drawn, or the widest or narrowest is taken.

    rlhf-eval pairs --rule margin_window --set low=0.2 --set high=0.6
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf_eval.stages.matrix import Matrix, dice
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the margin-window rule."""

    low: float = 0.1
    """Smallest difference of scores; a pair has at least this."""
    high: float = 1.0
    """Largest difference of scores."""
    pick: Literal["random", "widest", "narrowest", "all"] = "random"
    """Which pairs of a prompt inside the window are taken."""
    draw_seed: int = 0
    """Draws where ``pick`` is random."""

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"the window is {self.low} to {self.high}; write 0 < low <= high")


def choose(matrix: Matrix, config: Config) -> Choice:
    """Pairs inside the window; a prompt without one is dropped by name."""
    better, worse = matrix.pairs()
    margin = matrix.score[better] - matrix.score[worse]
    inside = np.flatnonzero((margin >= config.low) & (margin <= config.high))
    if config.pick != "all":
        key = {
            "random": dice(config.draw_seed).random(len(inside)),
            "widest": -margin[inside],
            "narrowest": margin[inside],
        }[config.pick]
        prompt = matrix.prompt[better[inside]]
        order = np.lexsort((key, prompt))
        _, first = np.unique(prompt[order], return_index=True)
        inside = inside[order[first]]
    return Choice(
        chosen=better[inside],
        rejected=worse[inside],
        why=f"no two of its answers differ by {config.low:g} to {config.high:g}",
    )

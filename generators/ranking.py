"""Rank K answers of a prompt and pair them by rank: K-wise comparison data.

The K answers are spread evenly over the prompt's ranking, from its best to its worst, so that a large pool gives a ranking
with steps that can be seen. ``pairs="all"`` makes the K (K - 1) / 2 pairs of a Plackett-Luce or InstructGPT loss (arXiv
2203.02155, K = 4 to 9), ``pairs="adjacent"`` the K - 1 steps. Each pair carries both ranks.

    rlhf-eval pairs --rule ranking --set k=4
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf_eval.stages.matrix import Ints, Matrix, place_in_group
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the ranking rule."""

    k: int = 4
    """Answers a prompt that are ranked; prompts with fewer use what they have."""
    pairs: Literal["all", "adjacent"] = "all"
    """All pairs of the ranking, or neighbours only."""
    min_margin: float = 0.0
    """Smallest difference of scores that makes a pair; at 0 any difference does."""

    def __post_init__(self) -> None:
        if self.k < 2:
            raise ValueError(f"k is {self.k}; a ranking needs at least 2 answers")


def choose(matrix: Matrix, config: Config) -> Choice:
    """Candidates by rank; equal scores are ties, as everywhere."""
    members = _spread(matrix, config.k)
    prompt = matrix.prompt[members]
    rank = place_in_group(prompt)
    firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step in range(1, config.k if config.pairs == "all" else 2):
        here = np.flatnonzero(prompt[:-step] == prompt[step:]) if step < len(prompt) else np.empty(0, np.int64)
        firsts.append(here)
        seconds.append(here + step)
    upper, lower = np.concatenate(firsts), np.concatenate(seconds)
    return Choice(
        chosen=members[upper],
        rejected=members[lower],
        notes={"chosen_rank": rank[upper], "rejected_rank": rank[lower]},
        min_margin=config.min_margin,
    )


def _spread(matrix: Matrix, k: int) -> Ints:
    """At most k answers of each prompt, evenly spaced over its ranking and with both ends, the best first."""
    ranked = matrix.ranked()
    count = matrix.counts[matrix.prompt]
    place = place_in_group(matrix.prompt)
    size = np.minimum(count, k)
    # Place p is taken where rounding the k evenly spaced ranks (count - 1) i / (size - 1) hits it.
    step = np.maximum(count - 1, 1)
    nearest = np.rint(place * (size - 1) / step)
    hit = np.rint(nearest * step / np.maximum(size - 1, 1)).astype(np.int64)
    members: Ints = ranked[(hit == place) | (count <= k)]
    return members
